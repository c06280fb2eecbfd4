//! The forms of prompts, and their BOS tokens.

use serde_json::{Value, json};

use crate::{
    models::{BOS, END, chatting, story},
    support::{CHAT, COMPLETIONS, Server},
};

/// The text and the tokens of a choice that is nothing but its prompt.
async fn echoed(server: &Server, prompt: Value) -> (String, Vec<String>) {
    let body = json!({ "prompt": prompt, "max_tokens": 0, "echo": true, "logprobs": 0 });
    let choice = server.json(COMPLETIONS, &body).await["choices"][0].take();
    let tokens = choice["logprobs"]["tokens"].as_array().unwrap().iter();
    let tokens = tokens.map(|token| token.as_str().unwrap().to_owned()).collect();
    (choice["text"].as_str().unwrap().to_owned(), tokens)
}

#[tokio::test]
async fn all_four_forms_of_a_prompt_give_the_same_text() {
    let model = story();
    let ids = model.tokenizer.encode("the cat").unwrap();
    let server = Server::of(model).await;
    for prompt in [json!("the cat"), json!(["the cat"]), json!(ids), json!([ids])] {
        let response =
            server.json(COMPLETIONS, &json!({ "prompt": prompt, "temperature": 0, "echo": true })).await;
        assert_eq!(response["choices"][0]["text"], "the cat saw it.\nthe hen");
    }
    let mixed = json!({ "prompt": [ids, "a", [4, 4]], "max_tokens": 0, "echo": true });
    let response = server.json(COMPLETIONS, &mixed).await;
    let texts: Vec<&Value> =
        response["choices"].as_array().unwrap().iter().map(|choice| &choice["text"]).collect();
    assert_eq!(texts, ["the cat", "a", "aa"]);
}

#[tokio::test]
async fn an_empty_prompt_is_the_default_prompt() {
    let server = Server::of(story()).await;
    for body in [json!({}), json!({ "prompt": null }), json!({ "prompt": "" }), json!({ "prompt": [[]] })] {
        let response = server.json(COMPLETIONS, &body).await;
        assert_eq!(response["usage"]["prompt_tokens"], 1, "a line break");
    }
    assert_eq!(echoed(&server, json!("")).await, (String::new(), vec!["\n".to_owned()]));
}

#[tokio::test]
async fn a_text_has_one_bos_token_and_ids_get_none() {
    let server = Server::of(chatting()).await;
    let tokens = |tokens: &[&str]| tokens.iter().map(ToString::to_string).collect::<Vec<String>>();
    assert_eq!(echoed(&server, json!("ab")).await, ("ab".into(), tokens(&["<bos>", "a", "b"])));
    assert_eq!(echoed(&server, json!("<bos>ab")).await, ("<bos>ab".into(), tokens(&["<bos>", "a", "b"])));
    assert_eq!(
        echoed(&server, json!("a<end>b")).await,
        ("a<end>b".into(), tokens(&["<bos>", "a", "<end>", "b"]))
    );
    assert_eq!(echoed(&server, json!([64])).await, ("`".into(), tokens(&["`"])));
    assert_eq!(
        echoed(&server, json!([BOS, 64, END])).await,
        ("<bos>`<end>".into(), tokens(&["<bos>", "`", "<end>"]))
    );
}

#[tokio::test]
async fn a_chat_template_writes_the_only_bos_token() {
    let server = Server::of(chatting()).await;
    let body = json!({ "messages": [{ "role": "user", "content": "ab" }], "max_tokens": 1 });
    let usage = server.json(CHAT, &body).await["usage"].take();
    // <bos> <start> "user ab" <end> <start> "assistant "
    assert_eq!(usage["prompt_tokens"], 1 + 1 + "user ab".len() + 1 + 1 + "assistant ".len());
}
