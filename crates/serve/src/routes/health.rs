//! Health and metrics.

use axum::{
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
};

use crate::{
    app::Shared,
    metrics::CONTENT_TYPE as OPENMETRICS,
    problem::{ErrorBody, Problem},
};

/// Whether the process answers
#[utoipa::path(
    get, path = "/healthz", tag = "operation",
    responses((status = 200, description = "It does", body = String, content_type = "text/plain"))
)]
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether the server takes requests
#[utoipa::path(
    get, path = "/readyz", tag = "operation",
    responses(
        (status = 200, description = "It does", body = String, content_type = "text/plain"),
        (status = 503, description = "It is stopping", body = ErrorBody),
    )
)]
pub async fn readyz(State(app): State<Shared>) -> Result<&'static str, Problem> {
    if app.is_ready() {
        Ok("ok\n")
    } else {
        Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping"))
    }
}

/// Metrics for Prometheus, as OpenMetrics text
#[utoipa::path(
    get, path = "/metrics", tag = "operation",
    responses((
        status = 200, description = "All metrics", body = String,
        content_type = "application/openmetrics-text"
    ))
)]
pub async fn metrics(State(app): State<Shared>) -> impl IntoResponse {
    ([(CONTENT_TYPE, OPENMETRICS)], app.metrics.text(app.queued()))
}
