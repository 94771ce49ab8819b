//! The web page. Its files are part of the program.

use axum::{
    Router,
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    routing::get,
};

use crate::app::Shared;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Returns the routes of the page.
pub fn routes() -> Router<Shared> {
    let file = |content_type: &'static str, content: &'static str| {
        // A browser asks again each time, so that it never mixes files of two versions.
        get(async move || ([(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-cache")], content))
    };
    Router::new()
        .route("/", file(HTML, include_str!("../../page/index.html")))
        .route("/style.css", file(CSS, include_str!("../../page/style.css")))
        .route("/page.js", file(JAVASCRIPT, include_str!("../../page/page.js")))
        .route("/icon.svg", file(SVG, include_str!("../../page/icon.svg")))
}
