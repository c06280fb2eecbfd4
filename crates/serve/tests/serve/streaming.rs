//! Streamed completions.

use serde_json::{Value, json};

use crate::{
    models::{bytes, story},
    support::{COMPLETIONS, Server, text_of},
};

fn streamed(mut body: Value) -> Value {
    body["stream"] = json!(true);
    body
}

#[tokio::test]
async fn a_stream_has_the_text_of_the_whole_answer_with_its_last_token() {
    let server = Server::of(story()).await;
    let bodies = [
        json!({ "prompt": "the cat", "temperature": 0, "max_tokens": 20 }),
        json!({ "prompt": "the cat", "temperature": 0, "max_tokens": 20, "stop": "it." }),
        json!({ "prompt": "the cat", "temperature": 0, "max_tokens": 7, "stop": "it.x" }),
        json!({ "prompt": "the cat", "temperature": 0, "max_tokens": 1 }),
        json!({ "prompt": ["the cat", "a"], "seed": 3, "n": 3, "max_tokens": 30, "echo": true, "stop": ["\n", "he"] }),
        json!({ "prompt": "the cat", "max_tokens": 0 }),
    ];
    for body in bodies {
        let whole = server.json(COMPLETIONS, &body).await;
        let chunks = server.chunks(COMPLETIONS, &streamed(body.clone())).await;
        for choice in whole["choices"].as_array().unwrap() {
            let index = usize::try_from(choice["index"].as_u64().unwrap()).unwrap();
            assert_eq!(text_of(&chunks, index), choice["text"].as_str().unwrap(), "{body}");
            let own: Vec<&Value> = chunks.iter().map(|chunk| &chunk["choices"][0]).collect();
            let own: Vec<&Value> = own.into_iter().filter(|choice| choice["index"] == index).collect();
            let (last, others) = own.split_last().unwrap();
            assert_eq!(last["finish_reason"], choice["finish_reason"]);
            assert!(others.iter().all(|choice| choice["finish_reason"].is_null()));
        }
        for chunk in &chunks {
            assert_eq!(chunk["object"], "text_completion");
            assert_eq!((&chunk["id"], &chunk["created"]), (&chunks[0]["id"], &chunks[0]["created"]));
            assert!(chunk.get("usage").is_none(), "usage was not asked for");
        }
    }
}

#[tokio::test]
async fn usage_comes_in_a_chunk_without_choices_and_only_on_request() {
    let server = Server::of(story()).await;
    let body = json!({
        "prompt": ["the cat", "a"], "max_tokens": 5, "stream": true, "stream_options": { "include_usage": true },
    });
    let chunks = server.chunks(COMPLETIONS, &body).await;
    let (last, others) = chunks.split_last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"], json!({ "prompt_tokens": 8, "completion_tokens": 10, "total_tokens": 18 }));
    for chunk in others {
        assert_eq!((&chunk["usage"], chunk["choices"].as_array().unwrap().len()), (&Value::Null, 1));
        assert!(chunk.as_object().unwrap().contains_key("usage"));
    }
    for options in [Value::Null, json!({}), json!({ "include_usage": false })] {
        let body = json!({ "prompt": "a", "max_tokens": 5, "stream": true, "stream_options": options });
        let chunks = server.chunks(COMPLETIONS, &body).await;
        assert!(chunks.iter().all(|chunk| chunk.get("usage").is_none() && chunk["choices"] != json!([])));
    }
}

#[tokio::test]
async fn a_character_is_never_cut() {
    let server = Server::of(bytes()).await;
    // Only the bytes of "é", in any order: C3 and A9.
    let body = json!({
        "prompt": "a", "max_tokens": 60, "seed": 1, "logit_bias": { "195": 100, "169": 100 }, "logprobs": 0,
    });
    let whole = server.json(COMPLETIONS, &body).await["choices"][0].take();
    let tokens = whole["logprobs"]["tokens"].as_array().unwrap().iter();
    let sampled: Vec<u8> = tokens.map(|token| if token == r"bytes:\xc3" { 0xC3 } else { 0xA9 }).collect();
    let expected = String::from_utf8_lossy(&sampled).into_owned();
    let n_whole = expected.matches('é').count();
    assert!(n_whole > 5 && expected.contains('\u{FFFD}'), "{expected}");
    // A character that is incomplete at the end is left out.
    let expected = if sampled.ends_with(&[0xC3]) { expected.trim_end_matches('\u{FFFD}') } else { &expected };
    assert_eq!(whole["text"], expected);

    let chunks = server.chunks(COMPLETIONS, &streamed(body)).await;
    assert_eq!(text_of(&chunks, 0), expected);
    let n_streamed =
        chunks.iter().filter(|chunk| chunk["choices"][0]["text"].as_str().unwrap().contains('é')).count();
    assert_eq!(n_streamed, n_whole, "each é is in one chunk");
}

#[tokio::test]
async fn text_is_held_back_while_it_may_start_a_stop_string() {
    let server = Server::of(story()).await;
    let body =
        json!({ "prompt": "the cat", "temperature": 0, "max_tokens": 20, "stop": ["it.\nx", "the h"] });
    let chunks = server.chunks(COMPLETIONS, &streamed(body)).await;
    let texts: Vec<&str> = chunks.iter().map(|chunk| chunk["choices"][0]["text"].as_str().unwrap()).collect();
    // "it.\n" may start a stop string until "t" follows.
    assert_eq!(texts, [" ", "s", "a", "w", " ", "it.\n", ""]);
}
