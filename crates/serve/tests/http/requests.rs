use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use crate::server;

/// Requests of broken and hostile clients must be answered or closed, and the server must go on.
#[test]
fn broken_requests_do_not_stop_the_server() {
    let post = "POST /predict HTTP/1.1\r\nhost: localhost\r\n";
    for request in [
        String::new(),
        "\r\n\r\n".into(),
        "GET".into(),
        "\0\u{1}\u{2}".into(),
        format!("{post}content-length: -1\r\n\r\n"),
        format!("{post}content-length: 99999999999999999999\r\n\r\n"),
        format!("{post}content-length: 3\r\ncontent-length: 4\r\n\r\nabcd"),
        format!("{post}content-length: 3\r\ntransfer-encoding: chunked\r\n\r\nabc"),
        format!("{post}transfer-encoding: chunked\r\n\r\nzz\r\nabc\r\n"),
        format!("{post}transfer-encoding: chunked\r\n\r\nffffffffffffffff\r\nabc\r\n"),
        format!("{post}content-type: multipart/form-data; boundary=\"\r\ncontent-length: 1\r\n\r\na"),
        format!("{post}host: evil.example\r\ncontent-length: 1\r\n\r\na"),
        "POST http://evil.example/predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\n\r\na".into(),
        "CONNECT localhost:80 HTTP/1.1\r\nhost: localhost\r\n\r\n".into(),
        "GET /%00%ff/../../etc/passwd HTTP/1.1\r\nhost: localhost\r\n\r\n".into(),
        format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "a".repeat(60_000)),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(),
    ] {
        let mut stream = TcpStream::connect(server()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let _ = stream.write_all(request.as_bytes());
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = vec![];
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        let refused = answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.0 4");
        assert!(answer.is_empty() || refused, "{request:?}: {answer}");
        assert_eq!(crate::get(server(), "/healthz").status, 200, "{request:?}");
    }
}
