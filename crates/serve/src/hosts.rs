//! Checks the host name of requests. A foreign page can let its own name point to this machine (DNS
//! rebinding), and the browser then lets it read the answers. Such requests carry the foreign name.

use std::{net::IpAddr, sync::Arc};

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
    /// Allows these names, `localhost` and all IP addresses.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(
            names.into_iter().chain(["localhost".into()]).map(|name| name.to_lowercase()).collect(),
        )
    }

    fn allow(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        address.unwrap_or(&host).parse::<IpAddr>().is_ok()
            || host.ends_with(".localhost")
            || self.0.contains(&host)
    }

    /// Returns whether a header such as `localhost:8080` has an allowed host.
    fn allow_header(&self, header: &HeaderValue) -> bool {
        let authority = header.to_str().ok().and_then(|text| text.parse::<Authority>().ok());
        authority.is_some_and(|authority| self.allow(authority.host()))
    }

    /// Returns whether a header such as `http://localhost:8080` has an allowed host. `null`, the
    /// origin of pages without an address, has none.
    fn allow_origin(&self, header: &HeaderValue) -> bool {
        let uri = header.to_str().ok().and_then(|text| text.parse::<Uri>().ok());
        uri.is_some_and(|uri| {
            uri.scheme().is_some() && uri.host().is_some_and(|host| self.allow(host))
        })
    }
}

/// Refuses requests with a foreign host or origin.
pub async fn check(State(hosts): State<Arc<Hosts>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let mut named = headers.get_all(HOST).iter();
    let host = named.next().is_some_and(|host| hosts.allow_header(host)) && named.next().is_none();
    let target = request.uri().host().is_none_or(|host| hosts.allow(host));
    let origin = headers.get_all(ORIGIN).iter().all(|origin| hosts.allow_origin(origin));
    if host && target && origin {
        return next.run(request).await;
    }
    let what = if host && target { "origin" } else { "host name" };
    let message = format!("the server does not accept requests with this {what}");
    Problem::new(StatusCode::FORBIDDEN, message).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_names_are_refused() {
        let hosts = Hosts::new(["Flowers.Example".into()]);
        let host = |text: &'static str| hosts.allow_header(&HeaderValue::from_static(text));
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
        let origin = |text: &'static str| hosts.allow_origin(&HeaderValue::from_static(text));
        assert!(origin("http://localhost:8080") && origin("https://flowers.example"));
        for refused in ["null", "", "http://evil.example", "localhost", "file://"] {
            assert!(!origin(refused), "{refused}");
        }
    }
}
