//! `serve`: the program around the server.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::TestDir;

const IMAGE: &str = "flowers/roses/roses_0001.jpg";

/// A running server, which is killed when this is dropped.
pub struct Serving {
    process: Child,
    /// IP address and port.
    pub address: String,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Serving {
    /// Starts a server on a free port.
    pub fn start(dir: &TestDir, more: &[&str]) -> Self {
        let arguments = [&["serve", "--weights", "w.safetensors", "--port", "0"], more].concat();
        let mut process =
            dir.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit_once("http://").map(|(_, address)| address.to_owned());
        Self { process, address: address.unwrap_or_else(|| panic!("{line:?}")) }
    }

    /// Sends a request and returns the whole response.
    fn request(&self, head: &str, body: &[u8]) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let head = format!(
            "{head} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    /// Waits for the end, and returns the exit code and the log.
    fn end(mut self) -> (Option<i32>, String) {
        let mut log = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (self.process.wait().unwrap().code(), log)
    }
}

#[test]
fn an_answer_is_that_of_predict_and_each_request_is_logged() {
    let dir = TestDir::with_flowers(1);
    dir.save_fresh_weights("w.safetensors");
    let predicted =
        dir.succeeds(&["predict", IMAGE, "--weights", "w.safetensors", "--format", "json"]);
    let mut expected: Value = serde_json::from_str(&predicted).unwrap();
    expected[0]["path"] = "-".into();
    let server = Serving::start(&dir, &["--log", "json"]);
    let answer = server.request("POST /predict", &std::fs::read(dir.file(IMAGE)).unwrap()).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(serde_json::from_str::<Value>(body).unwrap(), expected);
    server.request("GET /\u{1b}[31m%22", b"").unwrap();
    server.signal("-TERM");
    let (code, log) = server.end();
    assert_eq!(code, Some(0), "{log}");
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let line = lines.iter().find(|line| line["path"] == "/predict").unwrap();
    assert_eq!((&line["status"], &line["images"]), (&200.into(), &1.into()));
    for key in [
        "timestamp",
        "level",
        "id",
        "remote",
        "method",
        "bytes",
        "queue_ms",
        "model_ms",
        "total_ms",
    ] {
        assert!(!line[key].is_null(), "{key}: {line}");
    }
}

#[test]
fn no_accepted_request_is_lost_when_the_server_stops() {
    let dir = TestDir::with_flowers(1);
    dir.save_fresh_weights("w.safetensors");
    let file = std::fs::read(dir.file(IMAGE)).unwrap();
    for signal in ["-TERM", "-INT"] {
        let server = Serving::start(&dir, &[]);
        let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        match server.request("POST /predict", &file) {
                            Ok(answer) if answer.starts_with("HTTP/1.1 200") => {
                                answered.fetch_add(1, Ordering::Relaxed);
                            }
                            // The server no longer listens. The log below shows that it did not
                            // accept the request.
                            Err(_) => break,
                            Ok(answer) => panic!("{answer:?}"),
                        }
                    }
                });
            }
            while answered.load(Ordering::Relaxed) < 20 {
                thread::sleep(Duration::from_millis(5));
            }
            server.signal(signal);
            thread::sleep(Duration::from_millis(500));
            stop.store(true, Ordering::Relaxed);
        });
        let (code, log) = server.end();
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("stopping"), "{log}");
        let accepted = log.lines().filter(|line| line.contains("\"/predict\"")).count();
        assert_eq!(accepted, answered.into_inner(), "{log}");
    }
}

#[test]
fn an_address_that_cannot_be_used_is_an_error() {
    let dir = TestDir::new();
    dir.save_fresh_weights("w.safetensors");
    let server = Serving::start(&dir, &[]);
    let (host, port) = server.address.rsplit_once(':').unwrap();
    let ran = dir.run(&["serve", "--weights", "w.safetensors", "--host", host, "--port", port]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("cannot listen on 127.0.0.1:"), "{ran:?}");
    assert!(ran.err.contains("; choose another port with `--port`"), "{ran:?}");
}
