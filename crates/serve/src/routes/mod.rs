//! The paths of the server.

mod explain;
mod health;
mod info;
mod page;
mod predict;
mod v2;

use std::sync::Arc;

use axum::{
    Json, Router,
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::get,
};
use tower_http::{catch_panic::CatchPanicLayer, set_header::SetResponseHeaderLayer};
use utoipa::openapi::{Info, License, OpenApi};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{app::Shared, hosts, observe, problem::Problem};

/// What a page of this server may load: only files of the server itself.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

fn documented() -> (Router<Shared>, OpenApi) {
    let (router, mut document) = OpenApiRouter::new()
        .routes(routes!(predict::predict))
        .routes(routes!(explain::explain))
        .routes(routes!(info::info))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
        .merge(v2::routes())
        .split_for_parts();
    document.info = Info::builder()
        .title("AlexNet")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(env!("CARGO_PKG_DESCRIPTION")))
        .license(Some(License::builder().name(env!("CARGO_PKG_LICENSE")).build()))
        .build();
    (router, document)
}

/// Returns the OpenAPI document of the server.
pub fn openapi() -> OpenApi {
    documented().1
}

/// Returns the router of all paths.
pub fn router(app: Shared) -> Router {
    let (router, document) = documented();
    let document = Arc::new(document);
    let set = |name: HeaderName, value: &'static str| {
        SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
    };
    router
        .route("/openapi.json", get(async move || Json(document.as_ref().clone())))
        .merge(page::routes())
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(Arc::clone(&app.hosts), hosts::check))
        .layer(set(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY))
        .layer(set(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(set(header::REFERRER_POLICY, "no-referrer"))
        .layer(set(header::CACHE_CONTROL, "no-store"))
        .layer(set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin"))
        .layer(from_fn_with_state(Arc::clone(&app), observe::observe))
        .with_state(app)
}

async fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path; /openapi.json lists all")
}

async fn method_not_allowed() -> Problem {
    let message = "this path does not accept this method; `Allow` lists those that it accepts";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, message)
}

/// The response to a request whose handler panicked, which is a defect of the server.
fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
    tracing::error!(error = message, "a handler failed");
    Problem::internal("the server failed").into_response()
}
