use std::collections::BTreeSet;

use serde_json::json;

use crate::{CLASSES, get, png, post, server};

#[test]
fn the_page_and_its_files_load_nothing_from_elsewhere() {
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/page.js", "text/javascript; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
    ] {
        let answer = get(server(), path);
        assert_eq!((answer.status, answer.header("content-type")), (200, content_type));
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
        let text = String::from_utf8(answer.body).unwrap();
        for address in text
            .split("http")
            .skip(1)
            .filter(|rest| rest.starts_with("s:") || rest.starts_with(':'))
        {
            // The name of the SVG format.
            assert!(address.starts_with("://www.w3.org/2000/svg"), "{path}: http{address:.60}");
        }
    }
}

#[test]
fn the_server_says_what_it_runs_and_how_it_is() {
    let info = get(server(), "/info").json();
    assert_eq!((&info["engine"], &info["classes"]), (&json!("cpu"), &json!(CLASSES)));
    assert!(info["weights"].as_str().unwrap().ends_with("w.safetensors"));
    assert_eq!(
        (info["input_size"].as_u64(), info["max_body"].as_u64()),
        (Some(224), Some(32 << 20))
    );
    for path in ["/healthz", "/readyz"] {
        assert_eq!(get(server(), path).status, 200);
    }
    assert_eq!(post(server(), "/predict", &[], &png(50, 50, 3)).status, 200);
    let answer = get(server(), "/metrics");
    assert!(answer.header("content-type").starts_with("application/openmetrics-text"));
    let text = String::from_utf8(answer.body).unwrap();
    for name in [
        "alexnet_http_requests_total{method=\"POST\",route=\"/predict\",code=\"200\"} ",
        "alexnet_http_request_duration_seconds_bucket{",
        "alexnet_queue_wait_seconds_count ",
        "alexnet_batch_images_sum ",
        "alexnet_batch_duration_seconds_sum ",
        "alexnet_connections ",
        "alexnet_queue_images ",
    ] {
        assert!(text.contains(name), "{name}: {text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn unknown_paths_and_methods_are_errors_in_json() {
    let missing = get(server(), "/nothing");
    assert_eq!(missing.status, 404);
    assert!(missing.error().contains("/openapi.json"));
    let wrong = get(server(), "/predict");
    assert_eq!((wrong.status, wrong.header("allow")), (405, "POST"));
    assert!(wrong.error().contains("does not accept this method"));
}

#[test]
fn a_request_keeps_its_id() {
    let given = post(server(), "/predict", &[("x-request-id", "abc-1")], b"");
    assert_eq!(given.header("x-request-id"), "abc-1");
    let ids: BTreeSet<_> =
        (0..3).map(|_| get(server(), "/healthz").header("x-request-id").to_owned()).collect();
    assert_eq!(ids.len(), 3);
}

#[test]
fn foreign_hosts_and_origins_are_refused() {
    let file = png(30, 20, 1);
    for (headers, status) in [
        (&[("host", "localhost:1")][..], 200),
        (&[("origin", "http://127.0.0.1:8080")], 200),
        (&[("origin", "http://192.168.0.7:8080")], 403),
        (&[("host", "evil.example")], 403),
        (&[("origin", "http://evil.example")], 403),
        (&[("origin", "null")], 403),
    ] {
        let answer = post(server(), "/predict", headers, &file);
        assert_eq!(answer.status, status, "{headers:?}: {answer:?}");
    }
}

#[test]
fn the_document_describes_all_paths() {
    let document = get(server(), "/openapi.json").json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let paths: Vec<_> = document["paths"].as_object().unwrap().keys().cloned().collect();
    let v2 = ["/v2/models/{model}", "/v2/models/{model}/versions/{version}"];
    for path in ["/predict", "/explain", "/info", "/metrics"]
        .map(String::from)
        .into_iter()
        .chain(v2.map(String::from))
        .chain(v2.map(|path| format!("{path}/infer")))
    {
        assert!(paths.contains(&path), "{paths:?}");
    }
    let parameters =
        document["paths"]["/v2/models/{model}/versions/{version}"]["get"]["parameters"].clone();
    let names: Vec<_> = parameters.as_array().unwrap().iter().map(|p| p["name"].clone()).collect();
    assert_eq!(names, ["model", "version"]);
    assert_eq!(document, serde_json::to_value(alexnet_serve::openapi()).unwrap());
}
