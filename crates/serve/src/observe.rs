//! Gives each request an id, and counts and logs it when it is answered or its client has gone.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, header},
    middleware::Next,
    response::Response,
};

use crate::app::Shared;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The remote address of a connection, an extension of its requests.
#[derive(Clone, Copy, Debug)]
pub struct Remote(pub SocketAddr);

/// What a handler reports about its work, an extension of its response.
#[derive(Clone, Copy, Debug, Default)]
pub struct Served {
    pub images: usize,
    /// The longest time that an image waited for the network.
    pub queue: Duration,
    /// The longest time of the network for a batch.
    pub model: Duration,
}

impl Served {
    /// Adds an answered image.
    pub fn add(&mut self, queue: Duration, model: Duration) {
        self.images += 1;
        self.queue = self.queue.max(queue);
        self.model = self.model.max(model);
    }
}

/// Runs a request with an id, then counts and logs it.
pub async fn observe(State(app): State<Shared>, mut request: Request, next: Next) -> Response {
    let id = id_of(request.headers()).unwrap_or_else(new_id);
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let mut pending = Pending::new(app, id, &request);
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, pending.id.clone());
    if !pending.app.is_ready() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    pending.status = response.status().as_u16();
    pending.served = response.extensions().get::<Served>().copied().unwrap_or_default();
    response
}

/// The status of requests whose client closed the connection before the response, in the log and in
/// the metrics. nginx uses this number; no client receives it.
const CLIENT_CLOSED: u16 = 499;

/// A request that is counted and logged when this is dropped: after its response, or when its
/// client has closed the connection.
struct Pending {
    app: Shared,
    start: Instant,
    id: HeaderValue,
    method: Method,
    path: String,
    route: Option<MatchedPath>,
    remote: Option<Remote>,
    bytes: Option<HeaderValue>,
    status: u16,
    served: Served,
}

impl Pending {
    fn new(app: Shared, id: HeaderValue, request: &Request) -> Self {
        Self {
            app,
            start: Instant::now(),
            id,
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            route: request.extensions().get().cloned(),
            remote: request.extensions().get().copied(),
            bytes: request.headers().get(header::CONTENT_LENGTH).cloned(),
            status: CLIENT_CLOSED,
            served: Served::default(),
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let total = self.start.elapsed();
        let route = self.route.as_ref().map_or("", MatchedPath::as_str);
        // Clients can send any method and path, and each label is kept.
        let known = match self.method.as_str() {
            method @ ("GET" | "HEAD" | "POST") if !route.is_empty() => method,
            _ => "other",
        };
        self.app.metrics.answered(known, route, self.status, total);
        let Served { images, queue, model } = self.served;
        let milliseconds = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
        tracing::info!(
            id = text(&self.id),
            remote = self.remote.map(|Remote(address)| address.to_string()),
            method = self.method.as_str(),
            path = self.path,
            status = self.status,
            bytes = self.bytes.as_ref().map(text),
            images,
            queue_ms = milliseconds(queue),
            model_ms = milliseconds(model),
            total_ms = milliseconds(total),
            "request"
        );
    }
}

fn text(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or_default()
}

/// Returns the id that the client or a proxy gave to the request, if it is short and harmless.
fn id_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let id = headers.get(REQUEST_ID)?;
    let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
    let bytes = id.as_bytes();
    ((1..=64).contains(&bytes.len()) && bytes.iter().all(harmless)).then(|| id.clone())
}

/// Returns an id that no other request of this server has, and unlikely one of another server.
fn new_id() -> HeaderValue {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
    // Hexadecimal digits are valid in a header.
    HeaderValue::from_str(&format!("{time:016x}-{count:x}"))
        .unwrap_or_else(|_| HeaderValue::from_static("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_clients_are_kept_if_harmless() {
        for (given, kept) in [
            ("abc-1_2.3:4", true),
            ("", false),
            ("a b", false),
            ("<script>", false),
            ("a\"b", false),
            (&"a".repeat(64), true),
            (&"a".repeat(65), false),
        ] {
            let headers = [(REQUEST_ID, HeaderValue::from_str(given).unwrap())];
            assert_eq!(id_of(&headers.into_iter().collect()).is_some(), kept, "{given}");
        }
        assert_ne!(new_id(), new_id());
    }
}
