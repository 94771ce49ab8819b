//! `GET /info`: the weights, the engine and the limits.

use axum::{Json, extract::State};

use crate::{app::Shared, info::Info};

/// The weights, the engine, the classes and the limits
#[utoipa::path(get, path = "/info", tag = "alexnet", responses((status = 200, body = Info)))]
pub async fn info(State(app): State<Shared>) -> Json<Info> {
    Json(app.info.clone())
}
