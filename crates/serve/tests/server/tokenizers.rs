//! `/tokenize`, `/detokenize` and `/tokenizer_info`.

use std::fs;

use engine::Model;
use serde_json::{Value, json};
use serve::Settings;
use tokenizer::{Companions, SpecialTokens, Tokenizer};

use crate::support::{TestServer, with_tokenizer};

const END: u32 = 50_256;

/// GPT-2's tokenizer with `<|endoftext|>` before every text, and a chat template.
fn chat_model() -> Model {
    let folder = tempfile::tempdir().unwrap();
    let mut file: Value = serde_json::from_str(&Tokenizer::gpt2().to_json()).unwrap();
    file["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": [
            { "SpecialToken": { "id": "<|endoftext|>", "type_id": 0 } },
            { "Sequence": { "id": "A", "type_id": 0 } },
        ],
        "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
        "special_tokens": {
            "<|endoftext|>": { "id": "<|endoftext|>", "ids": [END], "tokens": ["<|endoftext|>"] }
        },
    });
    let path = folder.path().join("tokenizer.json");
    fs::write(&path, file.to_string()).unwrap();
    let tokenizer = Tokenizer::load(&path).unwrap();
    assert_eq!(tokenizer.prompt_prefix(), [END]);

    let template = "{{ bos_token }}{% for message in messages %}{{ message.role }}: {{ message.content }}\n\
                    {% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";
    let config = json!({ "pad_token": "<|endoftext|>", "chat_template": template });
    fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    let companions = Companions::read(folder.path(), &json!({})).unwrap();
    let special_tokens = SpecialTokens { companions, ..SpecialTokens::of(&tokenizer) };
    with_tokenizer(tokenizer, special_tokens)
}

fn server() -> TestServer {
    TestServer::of(Settings::default(), vec![("chat".to_owned(), chat_model())])
}

#[test]
fn a_text_survives_the_round_trip() {
    let server = TestServer::start();
    for text in ["", "Once upon a time", "naïve 🦀\n\t\0", "<|endoftext|>"] {
        let answer = server.post("/tokenize", &json!({ "prompt": text })).ok();
        let ids: Vec<u32> = text.bytes().map(u32::from).collect();
        assert_eq!(answer, json!({ "tokens": ids, "count": ids.len(), "max_model_len": 4096 }));
        let back = server.post("/detokenize", &json!({ "tokens": ids })).ok();
        assert_eq!(back, json!({ "prompt": text, "content": text }));
    }
}

#[test]
fn an_id_outside_the_vocabulary_is_an_error() {
    let message = server().post("/detokenize", &json!({ "tokens": [1, 99_999] })).error(400);
    assert!(message.contains("99999") && message.contains("50257 tokens"), "{message}");
}

#[test]
fn special_tokens_are_recognised_and_the_prefix_is_added_once() {
    let server = server();
    let ids = |body: Value| server.post("/tokenize", &body).ok()["tokens"].clone();
    let (hello, with_prefix) = (json!([15_496]), json!([END, 15_496]));
    assert_eq!(ids(json!({ "prompt": "Hello" })), with_prefix);
    assert_eq!(ids(json!({ "prompt": "Hello", "add_special_tokens": false })), hello);
    assert_eq!(ids(json!({ "content": "Hello" })), hello);
    assert_eq!(ids(json!({ "content": "Hello", "add_special": true })), with_prefix);
    assert_eq!(ids(json!({ "content": "Hello", "add_special": null, "unknown": 1 })), hello);
    assert_eq!(ids(json!({ "prompt": "<|endoftext|>Hello" })), with_prefix, "not twice");
    assert_eq!(ids(json!({ "prompt": "<|endoftext|>", "add_special_tokens": false })), json!([END]));
    assert_eq!(ids(json!({ "prompt": "" })), json!([END]));
}

#[test]
fn messages_are_encoded_through_the_chat_template() {
    let server = server();
    let text = |body: Value| {
        let tokens = server.post("/tokenize", &body).ok()["tokens"].clone();
        server.post("/detokenize", &json!({ "tokens": tokens })).ok()["prompt"].as_str().unwrap().to_owned()
    };
    let messages = json!([{ "role": "user", "content": "Hi" }]);
    assert_eq!(text(json!({ "messages": messages })), "<|endoftext|>user: Hi\nassistant:");
    assert_eq!(
        text(json!({ "messages": messages, "add_generation_prompt": false })),
        "<|endoftext|>user: Hi\n"
    );

    let message = TestServer::start().post("/tokenize", &json!({ "messages": messages })).error(400);
    assert!(message.contains("tiny has no chat template"), "{message}");
}

#[test]
fn a_wrong_request_names_the_field() {
    let server = TestServer::start();
    for (path, body, word) in [
        ("/tokenize", json!({}), "`prompt`, `content` and `messages`"),
        ("/tokenize", json!({ "prompt": "a", "content": "a" }), "`prompt`, `content` and `messages`"),
        ("/tokenize", json!({ "prompt": 1 }), "prompt"),
        ("/detokenize", json!({}), "tokens"),
        ("/detokenize", json!({ "tokens": "a" }), "tokens"),
        ("/detokenize", json!({ "tokens": [-1] }), "tokens"),
    ] {
        let message = server.post(path, &body).error(400);
        assert!(message.contains(word), "{path} {body}: {message}");
    }
}

#[test]
fn tokenizer_info_has_what_lm_eval_needs() {
    let info = server().get("/tokenizer_info").ok();
    for name in ["eos_token", "bos_token", "pad_token"] {
        assert_eq!(info[name], "<|endoftext|>", "{name}");
    }
    assert!(info["chat_template"].as_str().unwrap().contains("add_generation_prompt"), "{info}");
    assert_eq!((&info["vocab_size"], &info["model_max_length"]), (&json!(50_257), &json!(4096)));

    let server = TestServer::start();
    let info = server.get("/tokenizer_info?model=tiny").ok();
    assert_eq!(info.get("eos_token"), Some(&Value::Null), "the key is there without a token too");
    assert_eq!(info["chat_template"], Value::Null);
    server.get("/tokenizer_info?model=none").error(404);
}
