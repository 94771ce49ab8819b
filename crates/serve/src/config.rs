//! The settings of a server.

use std::time::Duration;

use alexnet::core::Error as CoreError;
use axum::http::uri::Authority;

use crate::Result;

/// The settings of a [`crate::Server`].
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// The address to listen on, an IP address or a host name.
    pub host: String,
    /// The port to listen on; 0 chooses a free one.
    pub port: u16,
    /// Host names that requests may use, in addition to `localhost`, `host` and IP addresses.
    pub allowed_hosts: Vec<String>,
    /// Largest number of images that the network computes at once.
    pub max_batch: usize,
    /// Largest number of images that are accepted and not yet answered. Further requests are
    /// refused with status 503. An explanation counts as the number of images that the network
    /// computes for it.
    pub queue: usize,
    /// Largest body of a request in bytes.
    pub max_body: usize,
    /// Largest number of bytes of all bodies together that are received and not yet answered.
    pub max_bodies: usize,
    /// Largest number of images in a request.
    pub max_images: usize,
    /// Largest number of pixels of an image.
    pub max_pixels: u64,
    /// Largest number of open connections; others wait until one is closed.
    pub max_connections: usize,
    /// Time to receive the headers of a request, from the start of the connection or from the
    /// previous response. An idle connection is closed after this time.
    pub header_timeout: Duration,
    /// Time to receive the body of a request.
    pub body_timeout: Duration,
    /// Time to answer a request after its body has been received.
    pub answer_timeout: Duration,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            port: 8080,
            allowed_hosts: vec![],
            max_batch: 32,
            queue: 256,
            max_body: 32 << 20,
            max_bodies: 256 << 20,
            max_images: 32,
            max_pixels: 50_000_000,
            max_connections: 1024,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            answer_timeout: Duration::from_secs(60),
        }
    }
}

/// Largest number of bytes of the headers of a request.
pub const MAX_HEADER_BYTES: usize = 16 << 10;

impl ServeConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`CoreError::Invalid`] for a limit of 0, for a setting that exceeds another, and for an
    /// allowed host that is more than a name.
    pub fn check(&self) -> Result<()> {
        let invalid = |field, value: &dyn ToString, reason: &str| {
            Err(CoreError::Invalid { field, value: value.to_string(), reason: reason.into() }
                .into())
        };
        for (field, value) in [
            ("max_batch", self.max_batch),
            ("queue", self.queue),
            ("max_body", self.max_body),
            ("max_images", self.max_images),
            ("max_pixels", self.max_pixels as usize),
            ("max_connections", self.max_connections),
        ] {
            if value == 0 {
                return invalid(field, &value, "it must be at least 1");
            }
        }
        if self.max_bodies < self.max_body {
            return invalid("max_bodies", &self.max_bodies, "it must be at least `max_body`");
        }
        if self.max_images > self.queue {
            let reason = format!("it must be at most the queue of {} images", self.queue);
            return invalid("max_images", &self.max_images, &reason);
        }
        for name in &self.allowed_hosts {
            if name.parse::<Authority>().is_ok_and(|authority| authority.host() == name) {
                continue;
            }
            let reason = "it must be a host name such as `flowers.example`, without a port";
            return invalid("allowed_hosts", name, reason);
        }
        Ok(())
    }
}
