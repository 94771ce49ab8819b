//! Metrics for Prometheus, in its base units.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

/// The media type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    method: String,
    route: String,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
}

/// All metrics. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    requests: Family<Request, Counter>,
    request_seconds: Family<Route, Histogram>,
    queue_wait: Histogram,
    batch_images: Histogram,
    batch_seconds: Histogram,
    explanation_seconds: Histogram,
    connections: Gauge,
    queued: Gauge,
}

fn seconds() -> Histogram {
    // 1 ms to 65 s.
    Histogram::new(exponential_buckets(0.001, 2.0, 17))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("alexnet");
        let metrics = Self {
            registry: Arc::default(),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(seconds),
            queue_wait: seconds(),
            batch_images: Histogram::new(exponential_buckets(1.0, 2.0, 9)),
            batch_seconds: seconds(),
            explanation_seconds: seconds(),
            connections: Gauge::default(),
            queued: Gauge::default(),
        };
        registry.register("http_requests", "Answered requests", metrics.requests.clone());
        let mut time = |name, help, histogram: Histogram| {
            registry.register_with_unit(name, help, Unit::Seconds, histogram);
        };
        time(
            "queue_wait",
            "Time from the end of decoding to the start of the network",
            metrics.queue_wait.clone(),
        );
        time("batch_duration", "Time of the network for a batch", metrics.batch_seconds.clone());
        time(
            "explanation_duration",
            "Time of the network for an explanation",
            metrics.explanation_seconds.clone(),
        );
        registry.register_with_unit(
            "http_request_duration",
            "Time from the headers of a request to its response",
            Unit::Seconds,
            metrics.request_seconds.clone(),
        );
        registry.register("batch_images", "Images in a batch", metrics.batch_images.clone());
        registry.register(
            "queue_images",
            "Accepted images without an answer",
            metrics.queued.clone(),
        );
        registry.register("connections", "Open connections", metrics.connections.clone());
        Self { registry: Arc::new(registry), ..metrics }
    }
}

impl Metrics {
    /// Counts an answered request. `route` is a path of the router, so that the number of labels
    /// is limited.
    pub fn answered(&self, method: &str, route: &str, code: u16, total: Duration) {
        let [method, route] = [method, route].map(str::to_owned);
        self.request_seconds
            .get_or_create(&Route { route: route.clone() })
            .observe(total.as_secs_f64());
        self.requests.get_or_create(&Request { method, route, code }).inc();
    }

    /// Counts a batch.
    pub fn computed_batch(&self, images: usize, time: Duration) {
        self.batch_images.observe(images as f64);
        self.batch_seconds.observe(time.as_secs_f64());
    }

    /// Counts an explanation.
    pub fn computed_explanation(&self, time: Duration) {
        self.explanation_seconds.observe(time.as_secs_f64());
    }

    /// Counts the wait of an image.
    pub fn waited(&self, time: Duration) {
        self.queue_wait.observe(time.as_secs_f64());
    }

    /// Counts an open connection until the result is dropped.
    pub fn connection(&self) -> OpenConnection {
        self.connections.inc();
        OpenConnection(self.connections.clone())
    }

    /// Returns all metrics in the text format of OpenMetrics.
    pub fn text(&self, queued: usize) -> String {
        self.queued.set(queued as i64);
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = text::encode(&mut out, &self.registry);
        out
    }
}

/// An open connection.
#[derive(Debug)]
pub struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}
