use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use alexnet_serve::ServeConfig;

use crate::{get, png, post, start};

/// Sends bytes and returns everything that comes back until the server closes the connection.
fn raw(server: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // The server may answer and close before everything is sent.
    let _ = stream.write_all(request);
    let mut answer = vec![];
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn quick() -> ServeConfig {
    let timeout = Duration::from_secs(1);
    ServeConfig { header_timeout: timeout, body_timeout: timeout, ..ServeConfig::default() }
}

#[test]
fn a_body_that_is_too_large_is_refused_before_it_is_read() {
    let server = start(ServeConfig { max_body: 10_000, max_bodies: 30_000, ..quick() });
    let request = "POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10001\r\n\r\n";
    assert!(raw(server, request.as_bytes()).starts_with("HTTP/1.1 413"));
    // Without an announced length, it is refused when the limit is reached.
    let chunk = format!("2711\r\n{}\r\n", "a".repeat(0x2711));
    let request = "POST /predict HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    assert!(raw(server, format!("{request}{chunk}").as_bytes()).starts_with("HTTP/1.1 413"));
    // Bodies of axum's default limit, 2 MiB, and more are accepted by default.
    let answer = post(start(ServeConfig::default()), "/predict", &[], &vec![0; 3 << 20]);
    assert_eq!(answer.status, 422);
}

#[test]
fn headers_that_are_too_large_are_refused() {
    let server = start(quick());
    let request = format!("GET / HTTP/1.1\r\nhost: localhost\r\na: {}\r\n\r\n", "a".repeat(20_000));
    assert!(raw(server, request.as_bytes()).starts_with("HTTP/1.1 431"));
    assert!(raw(server, b"nonsense\r\n\r\n").starts_with("HTTP/1.1 400"));
    assert!(raw(server, b"GET /healthz HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 403"));
}

#[test]
fn idle_and_slow_connections_are_closed_while_others_are_served() {
    let server = start(quick());
    let connect = || TcpStream::connect(server).unwrap();
    let idle: Vec<_> = (0..50).map(|_| connect()).collect();
    let slow: Vec<_> = (0..50)
        .map(|number| {
            let mut stream = connect();
            let start: &[u8] = match number % 2 {
                0 => b"GET / HTTP/1.1\r\nhost: loc",
                _ => b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\nab",
            };
            stream.write_all(start).unwrap();
            stream
        })
        .collect();
    assert_eq!(post(server, "/predict", &[], &png(40, 40, 2)).status, 200);
    let start = Instant::now();
    for mut stream in idle.into_iter().chain(slow) {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut answer = vec![];
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

#[test]
fn a_full_queue_refuses_at_once() {
    let server = start(ServeConfig { queue: 40, max_images: 1, ..ServeConfig::default() });
    let file = png(224, 224, 1);
    // An explanation by occlusion takes the whole queue.
    let body = file.clone();
    let long = thread::spawn(move || post(server, "/explain?method=occlusion", &[], &body));
    let queued = || {
        let text = String::from_utf8(get(server, "/metrics").body).unwrap();
        text.lines().any(|line| line == "alexnet_queue_images 40")
    };
    while !queued() {
        assert!(!long.is_finished(), "{:?}", long.join());
        sleep(Duration::from_millis(2));
    }
    let refused = post(server, "/predict", &[], &file);
    if !long.is_finished() {
        assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
        assert!(refused.error().contains("the queue is full"));
    }
    assert_eq!(long.join().unwrap().status, 200);
    assert_eq!(post(server, "/predict", &[], &file).status, 200);
}

#[test]
fn an_answer_that_takes_too_long_is_given_up() {
    let answer_timeout = Duration::from_millis(20);
    let server = start(ServeConfig { answer_timeout, ..ServeConfig::default() });
    let answer = post(server, "/explain?method=occlusion", &[], &png(224, 224, 1));
    assert_eq!(answer.status, 504, "{answer:?}");
}

/// A client that has gone is counted, and the server does not finish its work.
#[test]
fn abandoned_requests_are_counted() {
    let server = start(ServeConfig::default());
    let file = png(224, 224, 1);
    let head = format!(
        "POST /explain?method=occlusion HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
        file.len()
    );
    let mut stream = TcpStream::connect(server).unwrap();
    stream.write_all(&[head.as_bytes(), &file].concat()).unwrap();
    drop(stream);
    let line = "alexnet_http_requests_total{method=\"POST\",route=\"/explain\",code=\"499\"} 1";
    let start = Instant::now();
    while !String::from_utf8(get(server, "/metrics").body).unwrap().contains(line) {
        assert!(start.elapsed() < Duration::from_secs(10), "the request is not counted");
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn waiting_requests_are_computed_together() {
    let server = start(ServeConfig::default());
    let file = png(224, 224, 1);
    let long = {
        let file = file.clone();
        thread::spawn(move || post(server, "/explain?method=guided-gradcam", &[], &file))
    };
    let clients: Vec<_> = (0..12)
        .map(|_| {
            let file = file.clone();
            thread::spawn(move || post(server, "/predict", &[], &file))
        })
        .collect();
    let answers: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    assert_eq!(long.join().unwrap().status, 200);
    assert!(answers.iter().all(|answer| answer.status == 200));
    let probability = |at: usize| answers[at].json()[0]["probability"].as_f64().unwrap();
    assert!((1..12).all(|at| (probability(at) - probability(0)).abs() < 1e-6));
    let text = String::from_utf8(get(server, "/metrics").body).unwrap();
    let value = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().parse().unwrap()
    };
    assert_eq!(value("alexnet_batch_images_sum"), 12.0);
    assert!(value("alexnet_batch_images_count") < 12.0, "{text}");
}

#[test]
fn the_limit_of_pixels_holds_for_tensors() {
    let server = start(ServeConfig { max_pixels: 99, ..quick() });
    for (width, status) in [(9, 200), (10, 422)] {
        let data = vec![7; 10 * width * 3];
        let input = serde_json::json!({
            "name": "pixels", "datatype": "UINT8", "shape": [1, 10, width, 3], "data": data
        });
        let body = serde_json::json!({"inputs": [input]}).to_string();
        let answer = post(server, "/v2/models/alexnet/infer", &[], body.as_bytes());
        assert_eq!(answer.status, status, "{answer:?}");
    }
}

#[test]
fn settings_that_cannot_work_are_refused() {
    for (config, message) in [
        (ServeConfig { queue: 0, ..quick() }, "queue"),
        (ServeConfig { max_batch: 0, ..quick() }, "max_batch"),
        (ServeConfig { max_bodies: 5, ..quick() }, "max_bodies"),
        (ServeConfig { queue: 5, max_images: 6, ..quick() }, "max_images"),
        (ServeConfig { allowed_hosts: vec!["a.example:80".into()], ..quick() }, "allowed_hosts"),
        (
            ServeConfig { allowed_hosts: vec!["http://a.example".into()], ..quick() },
            "allowed_hosts",
        ),
    ] {
        assert!(config.check().unwrap_err().to_string().contains(message));
    }
}
