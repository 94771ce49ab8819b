//! Checks the host name of requests. A foreign page can let its own name point to this machine (DNS
//! rebinding), and the browser then lets it read the answers. Such requests carry the foreign name.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use axum::{
    extract::{Request, State},
    http::{
        HeaderValue, StatusCode, Uri,
        header::{HOST, ORIGIN},
        uri::Authority,
    },
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::problem::Problem;

/// The host names that requests may use.
#[derive(Debug)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// Allows these names and `localhost`.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(
            names.into_iter().chain(["localhost".into()]).map(|name| name.to_lowercase()).collect(),
        )
    }

    fn has(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        host.ends_with(".localhost") || self.0.contains(&host)
    }

    /// Returns whether a request may have this host. An IP address cannot be a foreign name.
    fn allow(&self, host: &str) -> bool {
        is_address(host) || self.has(host)
    }

    /// Returns whether pages of `origin`, such as `http://localhost:8080`, may send requests to
    /// `host`: pages of the same host, and of the allowed names. `null`, the origin of pages
    /// without an address, has no host.
    fn allow_origin(&self, origin: &HeaderValue, host: &str) -> bool {
        let origin = origin.to_str().ok().and_then(|text| text.parse::<Uri>().ok());
        origin.is_some_and(|origin| {
            let from = origin.scheme().and(origin.host());
            from.is_some_and(|from| from.eq_ignore_ascii_case(host) || self.has(from))
        })
    }
}

fn is_address(host: &str) -> bool {
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match bracketed {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => host.parse::<IpAddr>().is_ok(),
    }
}

/// Returns the host of a header such as `localhost:8080`.
fn host_of(header: &HeaderValue) -> Option<String> {
    let authority = header.to_str().ok()?.parse::<Authority>().ok()?;
    Some(authority.host().to_owned())
}

/// Refuses requests with a foreign host or origin.
pub async fn check(State(hosts): State<Arc<Hosts>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let mut named = headers.get_all(HOST).iter();
    let host = named.next().filter(|_| named.next().is_none()).and_then(host_of);
    let host = host.filter(|host| hosts.allow(host));
    let is_target_allowed = request.uri().host().is_none_or(|host| hosts.allow(host));
    let what = match host {
        Some(host) if is_target_allowed => {
            if headers.get_all(ORIGIN).iter().all(|origin| hosts.allow_origin(origin, &host)) {
                return next.run(request).await;
            }
            "origin"
        }
        _ => "host name",
    };
    let message = format!("the server does not accept requests with this {what}");
    Problem::new(StatusCode::FORBIDDEN, message).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_names_are_refused() {
        let hosts = Hosts::new(["Flowers.Example".into()]);
        let host = |text: &'static str| {
            host_of(&HeaderValue::from_static(text)).is_some_and(|host| hosts.allow(&host))
        };
        for allowed in [
            "localhost",
            "LOCALHOST:8080",
            "a.localhost:1",
            "127.0.0.1",
            "127.0.0.1:8080",
            "[::1]:8080",
            "192.168.0.7",
            "flowers.example:80",
        ] {
            assert!(host(allowed), "{allowed}");
        }
        for refused in [
            "",
            "evil.example",
            "localhost.evil.example:8080",
            "127.0.0.1.evil.example",
            "evil.example:127",
            "a@evil.example",
            "localhost@evil.example",
            "evil.example#localhost",
        ] {
            assert!(!host(refused), "{refused}");
        }
        let origin =
            |text: &'static str, host| hosts.allow_origin(&HeaderValue::from_static(text), host);
        for (allowed, host) in [
            ("http://localhost:8080", "127.0.0.1"),
            ("https://flowers.example", "127.0.0.1"),
            ("http://127.0.0.1:8080", "127.0.0.1"),
            ("http://[::1]:8080", "[::1]"),
        ] {
            assert!(origin(allowed, host), "{allowed}");
        }
        for refused in
            ["null", "", "http://evil.example", "localhost", "file://", "http://192.168.0.7"]
        {
            assert!(!origin(refused, "127.0.0.1"), "{refused}");
        }
    }
}
