//! Log-probabilities as lm-eval and OpenAI's clients read them.

use serde_json::{Value, json};

use crate::{
    models::{SECOND_A, bytes, chatting, chatting_bytes, story, story_with_eos},
    support::{CHAT, COMPLETIONS, Server},
};

/// Positions by the rule of the note: each token starts where the one before it ends.
fn check_offsets(logprobs: &Value, start: usize) {
    let mut offset = start as u64;
    let tokens = logprobs["tokens"].as_array().unwrap().iter();
    for (token, found) in tokens.zip(logprobs["text_offset"].as_array().unwrap()) {
        assert_eq!(found.as_u64().unwrap(), offset, "{logprobs}");
        offset += token.as_str().unwrap().chars().count() as u64;
    }
}

fn floats(values: &Value) -> Vec<f64> {
    values.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

/// The request of lm-eval: `ids`, then one token.
fn lm_eval(rows: &[Vec<u32>]) -> Value {
    json!({
        "model": "tiny", "prompt": rows, "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": true,
    })
}

#[tokio::test]
async fn echo_and_logprobs_have_an_entry_for_each_prompt_token_and_the_generated_one() {
    // The second row is followed by an EOS token, which has its entry too.
    let model = story_with_eos("\n");
    let rows = ["the cat saw", "the cat saw it.", "a", "the hen sle"]
        .map(|row| model.tokenizer.encode(row).unwrap());
    let expected: Vec<Vec<f32>> =
        rows.iter().map(|ids| model::score(&model.gpt, &[ids], 48).remove(0)).collect();
    let server = Server::of(model).await;
    let response = server.json(COMPLETIONS, &lm_eval(&rows)).await;
    assert_eq!(response["choices"].as_array().unwrap().len(), rows.len());
    for (idx, ids) in rows.iter().enumerate() {
        let choice = &response["choices"][idx];
        assert_eq!(choice["index"], idx);
        let logprobs = &choice["logprobs"];
        for list in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
            assert_eq!(logprobs[list].as_array().unwrap().len(), ids.len() + 1, "{list}");
        }
        assert_eq!(
            (&logprobs["token_logprobs"][0], &logprobs["top_logprobs"][0]),
            (&Value::Null, &Value::Null)
        );
        check_offsets(logprobs, 0);
        for (position, &expected) in (1..).zip(&expected[idx]) {
            let found = logprobs["token_logprobs"][position].as_f64().unwrap();
            assert!((found - f64::from(expected)).abs() < 1e-4, "{found} instead of {expected}");
        }
    }
    assert_eq!(response["choices"][1]["logprobs"]["tokens"][15], "\n");
    assert_eq!(response["choices"][1]["finish_reason"], "stop");
    assert_eq!(response["choices"][1]["text"], "the cat saw it.");
}

#[tokio::test]
async fn a_token_is_the_most_probable_one_by_equality_of_floats() {
    let model = story();
    let ids = model.tokenizer.encode("the cat saw it.\nthe hen sle").unwrap();
    let server = Server::of(model).await;
    let response = server.json(COMPLETIONS, &lm_eval(&[ids])).await;
    let logprobs = &response["choices"][0]["logprobs"];
    for position in 1..logprobs["tokens"].as_array().unwrap().len() {
        let token = logprobs["tokens"][position].as_str().unwrap();
        let logprob = logprobs["token_logprobs"][position].as_f64().unwrap();
        let top = logprobs["top_logprobs"][position].as_object().unwrap();
        let best = top.values().map(|value| value.as_f64().unwrap()).fold(f64::MIN, f64::max);
        assert_eq!(top[token].as_f64().unwrap(), logprob, "the same float in both lists");
        // From the eighth token on, the text is the model's own greedy choice.
        if position >= 7 {
            assert_eq!(logprob, best, "position {position}");
        }
        assert_eq!(top.len(), if logprob == best { 1 } else { 2 });
    }
}

#[tokio::test]
async fn without_echo_only_generated_tokens_are_scored() {
    let server = Server::of(story()).await;
    let body = json!({ "prompt": "the cat", "temperature": 0, "max_tokens": 5, "logprobs": 3 });
    let whole = server.json(COMPLETIONS, &body).await;
    let logprobs = &whole["choices"][0]["logprobs"];
    assert_eq!(logprobs["tokens"], json!([" ", "s", "a", "w", " "]));
    assert_eq!(logprobs["top_logprobs"][4].as_object().unwrap().len(), 3);
    check_offsets(logprobs, "the cat".len());
    for (wanted, expected) in [(json!(true), json!(1)), (json!(0), json!(1)), (json!(false), Value::Null)] {
        let body = json!({ "prompt": "the cat", "temperature": 0, "logprobs": wanted });
        let found = server.json(COMPLETIONS, &body).await["choices"][0]["logprobs"].take();
        let n_top = found["top_logprobs"][0].as_object().map(|top| json!(top.len()));
        assert_eq!(n_top.unwrap_or_default(), expected, "{wanted}");
    }
}

#[tokio::test]
async fn text_offsets_continue_from_the_prompt_while_streaming() {
    let server = Server::of(story()).await;
    for echo in [false, true] {
        let body = json!({
            "prompt": "the cat", "temperature": 0, "max_tokens": 9, "logprobs": 1, "echo": echo, "stream": true,
        });
        let chunks = server.chunks(COMPLETIONS, &body).await;
        let mut all = json!({ "tokens": [], "text_offset": [] });
        for chunk in &chunks {
            for list in ["tokens", "text_offset"] {
                let new = chunk["choices"][0]["logprobs"][list].as_array().unwrap().clone();
                all[list].as_array_mut().unwrap().extend(new);
            }
        }
        assert_eq!(all["tokens"].as_array().unwrap().len(), if echo { 16 } else { 9 });
        check_offsets(&all, if echo { 0 } else { 7 });
    }
}

#[tokio::test]
async fn offsets_count_characters_and_an_added_bos_token_has_none() {
    let server = Server::of(chatting()).await;
    let body =
        json!({ "prompt": "a<end>b", "max_tokens": 2, "logprobs": 0, "echo": true, "ignore_eos": true });
    let offsets = server.json(COMPLETIONS, &body).await["choices"][0]["logprobs"]["text_offset"].take();
    assert_eq!(floats(&offsets)[..5], [0.0, 0.0, 1.0, 6.0, 7.0]);

    let server = Server::of(bytes()).await;
    let body = json!({ "prompt": "é→b", "max_tokens": 1, "logprobs": 0, "echo": true });
    let offsets = server.json(COMPLETIONS, &body).await["choices"][0]["logprobs"]["text_offset"].take();
    // Two bytes, three bytes, one byte, and the generated one.
    assert_eq!(floats(&offsets), [0.0, 0.0, 1.0, 1.0, 1.0, 2.0, 3.0]);
}

#[tokio::test]
async fn bytes_of_characters_have_distinct_keys() {
    let server = Server::of(bytes()).await;
    let body = json!({ "prompt": "é", "max_tokens": 1, "logprobs": 100, "echo": true });
    let logprobs = server.json(COMPLETIONS, &body).await["choices"][0]["logprobs"].take();
    assert_eq!(
        (&logprobs["tokens"][0], &logprobs["tokens"][1]),
        (&json!(r"bytes:\xc3"), &json!(r"bytes:\xa9"))
    );
    let top = logprobs["top_logprobs"][2].as_object().unwrap();
    assert!(top.len() >= 100, "{} keys of 100 tokens", top.len());
    assert!(top.contains_key(logprobs["tokens"][2].as_str().unwrap()));
}

#[tokio::test]
async fn tokens_of_the_same_text_have_distinct_keys() {
    let model = chatting();
    let a = model.tokenizer.encode("a").unwrap()[0];
    let server = Server::of(model).await;
    let body = json!({ "prompt": [a, SECOND_A, a], "max_tokens": 0, "logprobs": 99, "echo": true });
    let logprobs = server.json(COMPLETIONS, &body).await["choices"][0]["logprobs"].take();
    assert_eq!(logprobs["tokens"], json!(["a", format!("token_id:{SECOND_A}"), "a"]));
    assert_eq!(logprobs["top_logprobs"][1].as_object().unwrap().len(), 99);
}

#[tokio::test]
async fn a_chat_has_bytes_and_top_tokens() {
    let server = Server::of(chatting()).await;
    let messages = json!([{ "role": "user", "content": "ab" }]);
    let body = json!({ "messages": messages, "max_tokens": 4, "logprobs": true, "top_logprobs": 3, "temperature": 0 });
    let response = server.json(CHAT, &body).await;
    let content = response["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert_eq!(content.len(), response["usage"]["completion_tokens"]);
    for token in content {
        assert_eq!(token["top_logprobs"].as_array().unwrap().len(), 3);
        assert_eq!(token["bytes"], json!(token["token"].as_str().unwrap().as_bytes()));
        assert_eq!(token["logprob"], token["top_logprobs"][0]["logprob"], "greedy");
    }
    let body = json!({ "messages": messages, "max_tokens": 2, "logprobs": true });
    let response = server.json(CHAT, &body).await;
    assert_eq!(response["choices"][0]["logprobs"]["content"][0]["top_logprobs"], json!([]));
}

#[tokio::test]
async fn a_byte_of_a_character_is_u_fffd_with_its_bytes() {
    let server = Server::of(chatting_bytes()).await;
    let body = json!({
        "messages": [{ "role": "user", "content": "é" }], "max_tokens": 8, "logprobs": true, "top_logprobs": 20,
        "logit_bias": { "195": 100, "169": 100 },
    });
    let choice = server.json(CHAT, &body).await["choices"][0].take();
    let content = choice["logprobs"]["content"].as_array().unwrap();
    assert_eq!(content.len(), 8);
    for token in content {
        assert_eq!(token["token"], "\u{FFFD}");
        assert!([json!([0xC3]), json!([0xA9])].contains(&token["bytes"]), "{token}");
        let bytes: Vec<&Value> =
            token["top_logprobs"].as_array().unwrap().iter().map(|top| &top["bytes"]).collect();
        assert_eq!(bytes.len(), 20);
        assert!((1..20).all(|idx| !bytes[..idx].contains(&bytes[idx])), "{bytes:?} has an entry twice");
    }
}

#[tokio::test]
async fn json_never_has_nan() {
    let server = Server::of(bytes()).await;
    let bias: serde_json::Map<String, Value> = (0..200).map(|id| (id.to_string(), json!(-100))).collect();
    let body = json!({ "prompt": "abc", "logprobs": 50, "echo": true, "logit_bias": bias });
    let text = server.post(COMPLETIONS, &body).await.text().await;
    assert!(!text.contains("NaN") && !text.contains("Infinity"), "{text}");
    let body: Value = serde_json::from_str(&text).unwrap();
    let logprobs = floats(&json!(body["choices"][0]["logprobs"]["token_logprobs"].as_array().unwrap()[1..]));
    assert!(logprobs.iter().all(|logprob| *logprob <= 0.0 && *logprob >= -9999.0), "{logprobs:?}");
}
