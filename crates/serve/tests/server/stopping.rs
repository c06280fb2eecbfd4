//! The end of a server, and clients that are slow or leave.

use std::io::{Read, Write};

use serde_json::json;

use crate::support::TestServer;

/// A streamed completion of many tokens.
fn long_request() -> String {
    let body = json!({ "prompt": "a", "max_tokens": 1000, "ignore_eos": true, "stream": true }).to_string();
    let length = body.len();
    format!(
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: \
         {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

#[test]
fn a_server_that_stops_completes_the_requests_that_run() {
    let mut server = TestServer::start();
    let idle = server.connect();
    let mut stream = server.connect();
    stream.write_all(long_request().as_bytes()).unwrap();
    let mut first = [0; 512];
    let n = stream.read(&mut first).unwrap();
    assert!(n > 0);
    assert_eq!(server.control.n_running(), 1);
    server.stop();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    let text = String::from_utf8_lossy(&first[..n]).into_owned() + &rest;
    assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
    assert!(text.contains("data: [DONE]"), "{text}");
    assert!(text.contains("\"finish_reason\":\"length\""), "{text}");
    assert_eq!(server.control.n_running(), 0);
    drop(idle);
    std::net::TcpStream::connect(server.address).unwrap_err();
}

#[test]
fn slow_clients_do_not_block_others() {
    let server = TestServer::start();
    let slow: Vec<_> = (0..100)
        .map(|i| {
            let mut stream = server.connect();
            let request = long_request();
            stream.write_all(&request.as_bytes()[..i * request.len() / 100]).unwrap();
            stream
        })
        .collect();
    server.get("/health").ok();
    server.post("/v1/completions", &json!({ "prompt": "a", "max_tokens": 2 })).ok();
    drop(slow);
    server.get("/health").ok();
}

#[test]
fn a_client_that_leaves_is_not_counted_as_running() {
    let server = TestServer::start();
    let mut stream = server.connect();
    stream.write_all(long_request().as_bytes()).unwrap();
    stream.read_exact(&mut [0; 12]).unwrap();
    drop(stream);
    while server.control.n_running() > 0 {
        std::thread::yield_now();
    }
    server.get("/health").ok();
}
