//! Constrained output.

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::{
    models::chatting,
    support::{CHAT, COMPLETIONS, Server, text_of},
};

#[tokio::test]
async fn text_matches_its_grammar() {
    let server = Server::of(chatting()).await;
    let body = |fields: Value| {
        let mut body = json!({ "prompt": "ab", "max_tokens": 60, "n": 3, "temperature": 2 });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        body
    };
    let regex = body(json!({ "grammar": { "type": "regex", "value": "(yes|no){3}" } }));
    let lark = body(json!({ "grammar": "start: (\"yes\" | \"no\")~3" }));
    for body in [regex, lark] {
        for choice in server.json(COMPLETIONS, &body).await["choices"].as_array().unwrap() {
            let rest = choice["text"].as_str().unwrap().replace("yes", "").replace("no", "");
            assert_eq!((rest.as_str(), &choice["finish_reason"]), ("", &json!("stop")), "{choice}");
        }
        let mut streamed = body;
        streamed["stream"] = json!(true);
        let chunks = server.chunks(COMPLETIONS, &streamed).await;
        assert_eq!(text_of(&chunks, 2).replace("yes", "").replace("no", ""), "");
    }
}

#[tokio::test]
async fn a_grammar_ends_with_eos_also_if_eos_is_ignored() {
    let server = Server::of(chatting()).await;
    let grammar = json!({ "type": "regex", "value": "(yes|no)+" });
    let body = json!({ "prompt": "ab", "max_tokens": 30, "n": 8, "grammar": grammar, "ignore_eos": true, "seed": 1 });
    let response = server.json(COMPLETIONS, &body).await;
    let choices = response["choices"].as_array().unwrap();
    assert!(
        choices.iter().any(|choice| choice["finish_reason"] == "stop"),
        "no sample chose EOS: {response}"
    );
    assert!(choices.iter().all(|choice| !choice["text"].as_str().unwrap().contains('<')), "{response}");
}

#[tokio::test]
async fn a_json_schema_gives_valid_json() {
    let server = Server::of(chatting()).await;
    let schema = json!({
        "type": "object", "properties": { "ok": { "type": "boolean" } }, "required": ["ok"], "additionalProperties": false,
    });
    let format = json!({ "type": "json_schema", "json_schema": { "name": "answer", "schema": schema } });
    let messages = json!([{ "role": "user", "content": "ok?" }]);
    let response = server.json(CHAT, &json!({ "messages": messages, "response_format": format })).await;
    let content = response["choices"][0]["message"]["content"].as_str().unwrap();
    let answer: Value = serde_json::from_str(content).unwrap();
    assert!(answer["ok"].is_boolean(), "{content}");
    let text = json!({ "messages": messages, "response_format": { "type": "text" }, "max_tokens": 2 });
    server.json(CHAT, &text).await;
}

#[tokio::test]
async fn an_error_within_a_stream_is_its_last_event_but_one() {
    let server = Server::of(chatting()).await;
    // The vocabulary has no token for "é".
    let mut body = json!({ "prompt": "b", "grammar": { "type": "regex", "value": "aé" } });
    let (status, error) = server.error(COMPLETIONS, &body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{error}");
    body["stream"] = json!(true);
    let chunks = server.chunks(COMPLETIONS, &body).await;
    let (last, others) = chunks.split_last().unwrap();
    assert_eq!(last["error"], error);
    assert_eq!(text_of(others, 0), "a");
}

#[tokio::test]
async fn an_invalid_grammar_is_a_400_that_names_its_field() {
    let server = Server::of(chatting()).await;
    let cases = [
        (json!({ "grammar": { "type": "regex", "value": "(" } }), "grammar"),
        (json!({ "grammar": "start" }), "grammar"),
        (json!({ "grammar": { "type": "gbnf", "value": "x" } }), "grammar"),
        (json!({ "response_format": { "type": "json_schema" } }), "response_format"),
        (
            json!({ "response_format": { "type": "json_schema", "json_schema": { "schema": { "type": "thing" } } } }),
            "response_format",
        ),
        (json!({ "response_format": { "type": "json_object" }, "grammar": "start: \"a\"" }), "grammar"),
    ];
    for (fields, param) in cases {
        let mut body = json!({ "prompt": "ab" });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let (status, error) = server.error(COMPLETIONS, &body).await;
        assert_eq!((status, &error["param"]), (StatusCode::BAD_REQUEST, &json!(param)), "{fields}: {error}");
    }
}
