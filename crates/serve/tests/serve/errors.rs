//! Requests that fail, in OpenAI's form.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    models::{chatting, story},
    support::{CHAT, COMPLETIONS, Server},
};

#[tokio::test]
async fn a_wrong_value_is_a_400_that_names_its_field() {
    let server = Server::of(story()).await;
    let cases = [
        (json!({ "temperature": "hot" }), "temperature", "can't be \"hot\""),
        (json!({ "temperature": -1 }), "temperature", "temperature is -1"),
        (json!({ "temperature": 1e39 }), "temperature", "temperature is inf"),
        (json!({ "top_p": 0 }), "top_p", "top_p is 0"),
        (json!({ "top_k": -2 }), "top_k", "got -2"),
        (json!({ "min_p": 2 }), "min_p", "min_p is 2"),
        (json!({ "typical_p": 0 }), "typical_p", "typical_p is 0"),
        (json!({ "repetition_penalty": 0 }), "repetition_penalty", "is 0"),
        (json!({ "presence_penalty": 3 }), "presence_penalty", "is 3"),
        (json!({ "frequency_penalty": 3 }), "frequency_penalty", "is 3"),
        (json!({ "logit_bias": { "22": 1 } }), "logit_bias", "from 0 to 21"),
        (json!({ "logit_bias": { "the": 1 } }), "logit_bias", "from 0 to 21"),
        (json!({ "logit_bias": { "1": 101 } }), "logit_bias", "is 101"),
        (json!({ "stop": ["a", ""] }), "stop", "stop string 2 is empty"),
        (json!({ "stop": [1] }), "stop", "can't be [1]"),
        (json!({ "stop": vec!["a"; 257] }), "stop", "at most 256 strings"),
        (json!({ "stop": "a".repeat(1025) }), "stop", "at most 1024 bytes"),
        (json!({ "n": 40, "max_tokens": 1000, "logprobs": 100 }), "logprobs", "4040000 log-probabilities"),
        (json!({ "seed": 1.5 }), "seed", "got 1.5"),
        (json!({ "n": 0 }), "n", "got 0"),
        (json!({ "max_tokens": -1 }), "max_tokens", "can't be -1"),
        (json!({ "max_tokens": 2.5 }), "max_tokens", "can't be 2.5"),
        (json!({ "max_tokens": 4097 }), "max_tokens", "at most 4096 for this model (got 4097)"),
        (json!({ "logprobs": 101 }), "logprobs", "at most 100 (got 101)"),
        (json!({ "best_of": 2 }), "best_of", "not supported"),
        (json!({ "suffix": "end" }), "suffix", "not supported"),
        (json!({ "stream": "yes" }), "stream", "can't be \"yes\""),
        (json!({ "response_format": { "type": "xml" } }), "response_format", "json_object"),
        (json!({ "grammar": 7 }), "grammar", "Lark"),
        (json!({ "prompt": "THE" }), "prompt", "character 'T'"),
        (json!({ "prompt": [0, 22] }), "prompt", "the id 22, but the model has 22 tokens"),
        (json!({ "prompt": [[0], [-1]] }), "prompt", "must be a string"),
        (json!({ "prompt": [] }), "prompt", "empty list"),
        (json!({ "prompt": { "text": "a" } }), "prompt", "must be a string"),
    ];
    for (fields, param, message) in cases {
        let mut body = json!({ "prompt": "the" });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let (status, error) = server.error(COMPLETIONS, &body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{fields}");
        assert_eq!(
            (&error["type"], &error["param"]),
            (&json!("invalid_request_error"), &json!(param)),
            "{error}"
        );
        assert!(error["message"].as_str().unwrap().contains(message), "{error} lacks {message:?}");
    }
}

#[tokio::test]
async fn a_whole_number_may_have_a_decimal_point() {
    let server = Server::of(story()).await;
    let request = |number: Value| json!({ "prompt": "the", "max_tokens": number, "top_k": 1.0, "seed": 7.0 });
    let [float, integer] = [json!(2.0), json!(2)].map(request);
    let [float, integer] = [server.json(COMPLETIONS, &float).await, server.json(COMPLETIONS, &integer).await];
    assert_eq!(float["usage"]["completion_tokens"], 2);
    assert_eq!(float["choices"], integer["choices"]);
}

#[tokio::test]
async fn a_prompt_longer_than_the_context_is_an_error_with_both_numbers() {
    let server = Server::of(story()).await;
    let (status, error) = server.error(COMPLETIONS, &json!({ "prompt": vec![4; 49] })).await;
    assert_eq!((status, &error["code"]), (StatusCode::BAD_REQUEST, &json!("context_length_exceeded")));
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("49 tokens") && message.contains("48 tokens"), "{message}");
    let whole = server.json(COMPLETIONS, &json!({ "prompt": vec![4; 48], "max_tokens": 3 })).await;
    assert_eq!(whole["usage"], json!({ "prompt_tokens": 48, "completion_tokens": 3, "total_tokens": 51 }));

    let server = Server::of(chatting()).await;
    let messages = json!([{ "role": "user", "content": "x".repeat(200) }]);
    let (status, error) = server.error(CHAT, &json!({ "messages": messages })).await;
    assert_eq!((status, &error["code"]), (StatusCode::BAD_REQUEST, &json!("context_length_exceeded")));
    assert_eq!(error["param"], "messages");
}

#[tokio::test]
async fn a_body_that_is_not_a_json_object_is_an_error() {
    let server = Server::of(story()).await;
    let cases = [
        ("application/json", "{\"prompt\": ", StatusCode::BAD_REQUEST, "not valid JSON"),
        ("application/json", "[1]", StatusCode::BAD_REQUEST, "must be a JSON object"),
        ("text/plain", "{}", StatusCode::UNSUPPORTED_MEDIA_TYPE, "application/json"),
        (
            "application/json",
            &format!("{{\"prompt\": \"{}\"}}", "a".repeat(9 << 20)),
            StatusCode::PAYLOAD_TOO_LARGE,
            "",
        ),
    ];
    for (content_type, body, status, message) in cases {
        for path in [COMPLETIONS, CHAT] {
            let response = server.request(Method::POST, path, content_type, body.to_owned()).await;
            assert_eq!(response.status, status);
            let error = response.error().await;
            assert!(error["message"].as_str().unwrap().contains(message), "{error}");
        }
    }
    let json =
        server.request(Method::POST, COMPLETIONS, "application/json; charset=utf-8", "{}".to_owned()).await;
    assert_eq!(json.status, StatusCode::OK);
}

#[tokio::test]
async fn the_model_of_a_request_is_found_by_its_name() {
    let models = vec![("one", story()), ("two", chatting())];
    let server = Server::start(models, serve::Settings::default()).await;
    for (body, name) in
        [(json!({}), "one"), (json!({ "model": "one" }), "one"), (json!({ "model": "two" }), "two")]
    {
        assert_eq!(server.json(COMPLETIONS, &body).await["model"], name);
    }
    let (status, error) = server.error(COMPLETIONS, &json!({ "model": "gpt-4o" })).await;
    assert_eq!((status, &error["code"]), (StatusCode::NOT_FOUND, &json!("model_not_found")));
    assert!(error["message"].as_str().unwrap().contains("one, two"), "{error}");
}

#[tokio::test]
async fn a_failed_stream_has_the_status_of_its_error() {
    let server = Server::of(story()).await;
    let body: Value = json!({ "prompt": vec![4; 49], "stream": true });
    let (status, error) = server.error(COMPLETIONS, &body).await;
    assert_eq!((status, &error["code"]), (StatusCode::BAD_REQUEST, &json!("context_length_exceeded")));
}
