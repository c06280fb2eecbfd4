//! Chat completions.

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::{
    models::{chatting, story},
    support::{CHAT, COMPLETIONS, Server},
};

fn user(content: &Value) -> Value {
    json!({ "messages": [{ "role": "user", "content": content }], "max_tokens": 6, "temperature": 0 })
}

fn hello() -> Value {
    user(&json!("hello"))
}

/// The rendered template of [`hello`].
const HELLO: &str = "<bos><start>user hello<end><start>assistant ";

#[tokio::test]
async fn a_chat_completion_has_the_fields_of_openai() {
    let server = Server::of(chatting()).await;
    let response = server.json(CHAT, &hello()).await;
    assert!(response["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!((&response["object"], &response["model"]), (&json!("chat.completion"), &json!("tiny")));
    let choice = &response["choices"][0];
    let content = &choice["message"]["content"];
    assert_eq!(choice["message"], json!({ "role": "assistant", "content": content, "refusal": null }));
    assert_eq!((&choice["index"], &choice["logprobs"]), (&json!(0), &Value::Null));
    assert_eq!(choice["finish_reason"], "length");
    assert_eq!(response["usage"]["completion_tokens"], 6);

    // The same prompt as a text gives the same answer.
    let body = json!({ "prompt": HELLO, "max_tokens": 6, "temperature": 0 });
    let completion = server.json(COMPLETIONS, &body).await;
    assert_eq!(&completion["choices"][0]["text"], content);
    assert_eq!(completion["usage"], response["usage"]);
}

#[tokio::test]
async fn contents_may_be_text_null_or_parts() {
    let server = Server::of(chatting()).await;
    let text = |text: &str| json!({ "type": "text", "text": text });
    let expected = server.json(CHAT, &hello()).await["choices"].take();
    let parts = server.json(CHAT, &user(&json!([text("hello")]))).await;
    assert_eq!(parts["choices"], expected);
    let (empty, null) =
        (server.json(CHAT, &user(&json!(""))).await, server.json(CHAT, &user(&Value::Null)).await);
    assert_eq!(empty["choices"], null["choices"]);

    let image = json!([text("what is it?"), { "type": "image_url", "image_url": { "url": "data:" } }]);
    let (status, error) = server.error(CHAT, &user(&image)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(error["message"].as_str().unwrap().contains("image_url"), "{error}");
}

#[tokio::test]
async fn all_roles_of_openai_are_known() {
    let server = Server::of(chatting()).await;
    let say = |role: &str| json!({ "messages": [{ "role": role, "content": "x" }], "max_tokens": 6, "temperature": 0 });
    for role in ["system", "user", "assistant", "tool"] {
        let usage = server.json(CHAT, &say(role)).await["usage"].take();
        assert_eq!(usage["prompt_tokens"], 4 + role.len() + " x".len() + "assistant ".len(), "{role}");
    }
    let [developer, system] = ["developer", "system"].map(say);
    let developer = server.json(CHAT, &developer).await;
    assert_eq!(developer["choices"], server.json(CHAT, &system).await["choices"]);
    let (status, error) = server.error(CHAT, &say("robot")).await;
    assert_eq!((status, &error["param"]), (StatusCode::BAD_REQUEST, &json!("messages")));
}

#[tokio::test]
async fn the_default_is_the_rest_of_the_context() {
    let server = Server::of(chatting()).await;
    let body = json!({ "messages": [{ "role": "user", "content": "hello" }], "ignore_eos": true });
    let usage = server.json(CHAT, &body).await["usage"].take();
    assert_eq!(usage["total_tokens"], 128);
    let mut limited = body;
    limited["max_completion_tokens"] = json!(3);
    assert_eq!(server.json(CHAT, &limited).await["usage"]["completion_tokens"], 3);
}

#[tokio::test]
async fn the_first_delta_has_the_role_and_the_last_one_the_finish_reason() {
    let server = Server::of(chatting()).await;
    let whole = server.json(CHAT, &hello()).await;
    let mut body = hello();
    body["stream"] = json!(true);
    body["n"] = json!(2);
    let chunks = server.chunks(CHAT, &body).await;
    for index in 0..2 {
        let own = chunks.iter().map(|chunk| &chunk["choices"][0]).filter(|choice| choice["index"] == index);
        let own: Vec<&Value> = own.collect();
        let [first, contents @ .., last] = &own[..] else { panic!("{own:?}") };
        assert_eq!(first["delta"], json!({ "role": "assistant", "content": "" }));
        assert_eq!((&last["delta"], &last["finish_reason"]), (&json!({}), &json!("length")));
        let text: String =
            contents.iter().map(|choice| choice["delta"]["content"].as_str().unwrap()).collect();
        assert_eq!(text, whole["choices"][0]["message"]["content"].as_str().unwrap());
        assert!(contents.iter().all(|choice| choice["finish_reason"].is_null()));
    }
    assert!(chunks.iter().all(|chunk| chunk["object"] == "chat.completion.chunk"));
}

#[tokio::test]
async fn streamed_logprobs_are_those_of_the_whole_answer() {
    let server = Server::of(chatting()).await;
    let mut body = hello();
    body["logprobs"] = json!(true);
    body["top_logprobs"] = json!(2);
    let whole = server.json(CHAT, &body).await["choices"][0]["logprobs"]["content"].take();
    body["stream"] = json!(true);
    let chunks = server.chunks(CHAT, &body).await;
    let contents = chunks.iter().filter_map(|chunk| chunk["choices"][0]["logprobs"]["content"].as_array());
    let streamed: Vec<Value> = contents.flatten().cloned().collect();
    assert_eq!(json!(streamed), whole);
}

#[tokio::test]
async fn a_model_without_a_template_can_not_chat() {
    let server = Server::of(story()).await;
    let (status, error) = server.error(CHAT, &hello()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(error["message"].as_str().unwrap().contains("no chat template"), "{error}");
}

#[tokio::test]
async fn unsupported_requests_are_400() {
    let server = Server::of(chatting()).await;
    let tool = json!([{ "type": "function", "function": { "name": "f" } }]);
    let cases = [
        (json!({ "tools": tool }), "tools"),
        (json!({ "functions": [{ "name": "f" }] }), "functions"),
        (json!({ "messages": [] }), "messages"),
        (json!({ "messages": null }), "messages"),
        (json!({ "messages": [{ "role": "user", "content": 7 }] }), "messages"),
        (json!({ "messages": [{ "role": "assistant", "content": null, "tool_calls": [{}] }] }), "messages"),
        (json!({ "logprobs": true, "top_logprobs": 21 }), "top_logprobs"),
        (json!({ "top_logprobs": 2 }), "top_logprobs"),
    ];
    for (fields, param) in cases {
        let mut body = hello();
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let (status, error) = server.error(CHAT, &body).await;
        assert_eq!((status, &error["param"]), (StatusCode::BAD_REQUEST, &json!(param)), "{fields}: {error}");
    }
    let mut body = hello();
    body.as_object_mut()
        .unwrap()
        .extend(json!({ "tools": [], "tool_choice": "none" }).as_object().unwrap().clone());
    server.json(CHAT, &body).await;
}
