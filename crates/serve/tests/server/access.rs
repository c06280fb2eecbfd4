//! Hosts, keys and origins.

use serde_json::json;
use serve::{ApiKey, Settings};

use crate::support::TestServer;

#[test]
fn a_foreign_host_is_refused() {
    let server = TestServer::start();
    let to =
        |host: &str| server.send_raw(&format!("GET /v1/models HTTP/1.1\r\n{host}Connection: close\r\n\r\n"));
    for host in ["localhost", "localhost:1234", "127.0.0.1", "[::1]:8080"] {
        to(&format!("Host: {host}\r\n")).ok();
    }
    for host in ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "192.168.1.1", ""] {
        let message = to(&format!("Host: {host}\r\n")).error(403);
        assert!(message.contains("localhost") && message.contains("--host"), "{message}");
    }
    to("").error(403);
    let page = server.send_raw("GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
    page.error(403);
}

#[test]
fn with_a_key_only_the_page_and_health_are_open() {
    let api_key = Some(ApiKey::new("sk-right").unwrap());
    let server = TestServer::with(Settings { api_key, ..Settings::default() });
    for path in ["/", "/page/app.js", "/health"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    let closed =
        ["/v1/models", "/v1/models/tiny", "/metrics", "/tokenizer_info", "/api/runs", "/page/", "/none"];
    for path in closed.into_iter().chain(["/page/../metrics", "//metrics", "/health/../metrics"]) {
        let message = server.get(path).error(401);
        assert!(message.contains("Bearer"), "{message}");
    }
    server.post("/v1/completions", &json!({ "prompt": "a" })).error(401);

    let with = |key: &str| server.send("GET", "/v1/models", &[("Authorization", key)], "");
    with("Bearer sk-right").ok();
    with("bearer sk-right").ok();
    for wrong in ["Bearer sk-wrong", "Bearer", "Bearer ", "sk-right", "Basic sk-right", "Bearer sk-right1"] {
        let answer = with(wrong);
        answer.error(401);
        assert_eq!(answer.json()["error"]["code"], "invalid_api_key");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
}

#[test]
fn without_a_key_any_is_accepted() {
    let server = TestServer::start();
    for headers in [&[("Authorization", "Bearer sk-anything")][..], &[("Authorization", "nonsense")], &[]] {
        server.send("GET", "/v1/models", headers, "").ok();
    }
}

#[test]
fn pages_of_other_origins_get_nothing_by_default() {
    let server = TestServer::start();
    let origin = ("Origin", "https://evil.example");
    let answer = server.send("GET", "/v1/models", &[origin], "");
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let preflight = [origin, ("Access-Control-Request-Method", "POST")];
    let answer = server.send("OPTIONS", "/v1/completions", &preflight, "");
    answer.error(405);
    assert_eq!(answer.header("access-control-allow-origin"), None);
    // Without a preflight, a page can only send these content types.
    for simple in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let headers = [origin, ("Content-Type", simple)];
        for path in ["/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"] {
            server.send("POST", path, &headers, r#"{"prompt": "a"}"#).error(415);
        }
    }
}

#[test]
fn pages_of_a_named_origin_may_send_requests() {
    let origins = vec!["https://app.example".parse().unwrap(), "http://localhost:3000".parse().unwrap()];
    let api_key = Some(ApiKey::new("sk-right").unwrap());
    let server = TestServer::with(Settings { origins, api_key, ..Settings::default() });
    let allowed = |origin: &str| {
        let headers = [
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "authorization,content-type,x-stainless-lang"),
        ];
        let preflight = server.send("OPTIONS", "/v1/completions", &headers, "");
        let answer = server.send("GET", "/v1/models", &[("Origin", origin)], "");
        answer.error(401); // A page can read the error.
        let named = answer.header("access-control-allow-origin").map(str::to_owned);
        assert_eq!(preflight.header("access-control-allow-origin"), named.as_deref());
        if named.is_some() {
            assert_eq!(preflight.status, 200);
            let names = preflight.header("access-control-allow-headers").unwrap();
            assert!(names.contains("authorization") && names.contains("x-stainless-lang"), "{names}");
        }
        named
    };
    assert_eq!(allowed("https://app.example").as_deref(), Some("https://app.example"));
    assert_eq!(allowed("http://localhost:3000").as_deref(), Some("http://localhost:3000"));
    assert_eq!(allowed("https://evil.example"), None);

    let server = TestServer::with(Settings { origins: vec!["*".parse().unwrap()], ..Settings::default() });
    let answer = server.send("GET", "/v1/models", &[("Origin", "https://any.example")], "");
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
}

#[test]
fn the_page_loads_nothing_from_elsewhere() {
    let server = TestServer::start();
    let page = server.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.body.starts_with("<!doctype html>"), "{}", page.body);
    let script = server.get("/page/app.js");
    assert_eq!((script.status, script.header("content-type")), (200, Some("text/javascript; charset=utf-8")));
    assert_eq!(server.get("/page/style.css").header("content-type"), Some("text/css; charset=utf-8"));
    for answer in [page, script] {
        let policy = answer.header("content-security-policy").unwrap();
        for rule in
            ["default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"]
        {
            assert!(policy.contains(rule), "{rule} is missing in {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
    }
    assert_eq!(server.get("/v1/models").header("x-content-type-options"), Some("nosniff"));
}

#[test]
fn the_page_can_not_read_a_file() {
    let server = TestServer::start();
    for path in [
        "/page/none.js",
        "/page/..%2flib.rs",
        "/page/%2e%2e%2flib.rs",
        "/page/../lib.rs",
        "/page//etc/passwd",
        "/page/%2fetc%2fpasswd",
        "/page/index.html%00.js",
    ] {
        server.get(path).error(404);
    }
}
