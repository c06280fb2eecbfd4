//! Errors in OpenAI's form, and errors at the start.

use std::net::Ipv4Addr;

use serde_json::json;
use serve::{Control, Error, Settings};

use crate::support::{TestServer, tiny_model};

#[test]
fn unknown_paths_are_404() {
    let server = TestServer::start();
    for path in
        ["/v1/embeddings", "/v1/images/generations", "/v1", "/none", "/v1/models/", "/v1/completions/"]
    {
        let message = server.get(path).error(404);
        assert!(message.contains(path), "{message}");
    }
    let message = server.post("/v1/embeddings", &json!({ "input": "a" })).error(404);
    assert!(message.contains("POST /v1/embeddings"), "{message}");
}

#[test]
fn invalid_utf8_in_a_path_is_400() {
    let server = TestServer::start();
    for path in ["/v1/models/%ff", "/page/%ff", "/api/runs/%ff/losses", "/tokenizer_info?model=a&model=b"] {
        server.get(path).error(400);
    }
}

#[test]
fn a_wrong_method_is_405_and_the_right_one_is_named() {
    let server = TestServer::start();
    let answer = server.get("/v1/completions");
    let message = answer.error(405);
    assert!(message.contains("GET"), "{message}");
    assert_eq!(answer.header("allow"), Some("POST"));
    let answer = server.post("/v1/models", &json!({}));
    answer.error(405);
    assert_eq!(answer.header("allow"), Some("GET,HEAD"));
}

#[test]
fn a_body_of_another_type_is_415() {
    let server = TestServer::start();
    for headers in [&[][..], &[("Content-Type", "text/plain")]] {
        let message = server.send("POST", "/v1/completions", headers, r#"{"prompt": "a"}"#).error(415);
        assert!(message.contains("application/json"), "{message}");
    }
    let headers = [("Content-Type", "application/json; charset=utf-8")];
    server.send("POST", "/tokenize", &headers, r#"{"prompt": "a"}"#).ok();
}

#[test]
fn malformed_json_is_400() {
    let server = TestServer::start();
    for body in ["", "{", "[1", "[]", "\"prompt\"", "null"] {
        let headers = [("Content-Type", "application/json")];
        let message = server.send("POST", "/tokenize", &headers, body).error(400);
        assert!(message.contains("body"), "{body}: {message}");
    }
}

#[test]
fn a_large_body_is_413() {
    let server = TestServer::start();
    let message = server.post("/tokenize", &json!({ "prompt": "a".repeat(9 << 20) })).error(413);
    assert!(message.contains("8 MiB"), "{message}");
    // A body that is too large to discard is refused before it is sent.
    let head = "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    server.send_raw(&format!("{head}Connection: close\r\nContent-Length: 9999999999\r\n\r\n")).error(413);
    server.get("/health").ok();
}

#[test]
fn an_unknown_model_is_404_and_the_served_ones_are_named() {
    let models = ["tiny", "org/second"].map(|name| (name.to_owned(), tiny_model()));
    let server = TestServer::of(Settings::default(), models.into());
    let answer = server.post("/tokenize", &json!({ "model": "gpt-4", "prompt": "a" }));
    let message = answer.error(404);
    assert!(message.contains("gpt-4") && message.contains("tiny, org/second"), "{message}");
    assert_eq!(answer.json()["error"]["code"], "model_not_found");
    server.get("/v1/models/gpt-4").error(404);

    let models = server.get("/v1/models").ok();
    assert_eq!(models["object"], "list");
    let names: Vec<&str> =
        models["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(names, ["tiny", "org/second"]);
    for path in ["/v1/models/org/second", "/v1/models/org%2Fsecond"] {
        let model = server.get(path).ok();
        assert_eq!(model, models["data"][1]);
        assert_eq!((&model["object"], &model["owned_by"]), (&json!("model"), &json!("kindling")));
        assert_eq!(model["max_model_len"], 4096);
        assert!(model["created"].as_u64().unwrap() > 1_700_000_000, "{model}");
    }
}

#[test]
fn names_must_differ_and_a_model_is_needed() {
    let start = |models| {
        let listener = serve::listen(Ipv4Addr::LOCALHOST.into(), 0).unwrap();
        serve::run(Settings::default(), models, listener, &Control::default()).unwrap_err()
    };
    assert!(matches!(start(vec![]), Error::NoModel));
    let twins = ["a", "a"].map(|name| (name.to_owned(), tiny_model()));
    let error = start(twins.into());
    assert!(matches!(&error, Error::DuplicateName(name) if name == "a"), "{error:?}");
}
