//! Whole completions: fields, options, samples, stopping.

use serde_json::{Value, json};

use crate::{
    models::{bytes, story, story_with_eos},
    support::{COMPLETIONS, Server},
};

/// Greedy, as in the documentation of `engine`.
fn greedy(max_tokens: usize) -> Value {
    json!({ "prompt": "the cat", "temperature": 0, "max_tokens": max_tokens })
}

fn with(mut body: Value, fields: &Value) -> Value {
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

fn text(response: &Value) -> &str {
    response["choices"][0]["text"].as_str().unwrap()
}

#[tokio::test]
async fn a_completion_has_the_fields_of_openai() {
    let server = Server::of(story()).await;
    let response = server.json(COMPLETIONS, &greedy(20)).await;
    assert!(response["id"].as_str().unwrap().starts_with("cmpl-"));
    assert!(response["created"].as_u64().unwrap() > 1_600_000_000);
    assert_eq!((&response["object"], &response["model"]), (&json!("text_completion"), &json!("tiny")));
    let choice =
        json!({ "text": " saw it.\nthe hen sle", "index": 0, "logprobs": null, "finish_reason": "length" });
    assert_eq!(response["choices"], json!([choice]));
    assert_eq!(response["usage"], json!({ "prompt_tokens": 7, "completion_tokens": 20, "total_tokens": 27 }));
}

#[tokio::test]
async fn the_default_is_16_tokens() {
    let server = Server::of(story()).await;
    let response = server.json(COMPLETIONS, &json!({ "prompt": "the cat" })).await;
    assert_eq!(response["usage"]["completion_tokens"], 16);
}

#[tokio::test]
async fn unknown_fields_and_nulls_change_nothing() {
    let server = Server::of(story()).await;
    let extra = json!({
        "user": "me", "foo": [1, { "bar": null }], "best_of": 1, "suffix": null, "model": null, "n": null,
        "stop": null, "logprobs": null, "logit_bias": null, "top_p": null, "top_k": null, "seed": null, "echo": null,
        "stream": null, "stream_options": { "include_usage": true }, "presence_penalty": null, "response_format": null,
    });
    let plain = server.json(COMPLETIONS, &greedy(20)).await;
    let same = server.json(COMPLETIONS, &with(greedy(20), &extra)).await;
    assert_eq!(plain["choices"], same["choices"]);
}

#[tokio::test]
async fn max_tokens_0_generates_nothing() {
    let server = Server::of(story()).await;
    let response = server.json(COMPLETIONS, &with(greedy(0), &json!({ "n": 2, "echo": true }))).await;
    for index in 0..2 {
        let choice = &response["choices"][index];
        assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!("the cat"), &json!("length")));
    }
    assert_eq!(response["usage"], json!({ "prompt_tokens": 7, "completion_tokens": 0, "total_tokens": 7 }));
}

#[tokio::test]
async fn choices_are_numbered_by_prompt_and_sample() {
    let server = Server::of(story()).await;
    let body = json!({ "prompt": ["the cat", "a"], "n": 3, "seed": 5, "max_tokens": 9, "echo": true, "temperature": 2 });
    let response = server.json(COMPLETIONS, &body).await;
    let choices = response["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 6);
    for (idx, choice) in choices.iter().enumerate() {
        assert_eq!(choice["index"], idx);
        let prompt = if idx < 3 { "the cat" } else { "a" };
        assert!(choice["text"].as_str().unwrap().starts_with(prompt), "{choice}");
    }
    assert_ne!(choices[0]["text"], choices[1]["text"]);
    assert_eq!(response["usage"], json!({ "prompt_tokens": 8, "completion_tokens": 54, "total_tokens": 62 }));
    let one = server
        .json(
            COMPLETIONS,
            &json!({ "prompt": "a", "seed": 5, "max_tokens": 9, "echo": true, "temperature": 2 }),
        )
        .await;
    assert_eq!(one["choices"][0]["text"], choices[3]["text"], "a sample depends on its own prompt only");
}

#[tokio::test]
async fn a_seed_gives_the_same_text_alone_and_in_company() {
    let server = Server::of(story()).await;
    let seeded = json!({ "prompt": "the cat", "seed": -17, "max_tokens": 60, "temperature": 1.2 });
    let alone = server.json(COMPLETIONS, &seeded).await;
    let prompts: Vec<String> =
        "the cat saw it.".char_indices().map(|(end, _)| "the cat saw it."[..end].into()).collect();
    let company = json!({ "prompt": prompts, "max_tokens": 80 });
    let (first, _, second) = tokio::join!(
        server.json(COMPLETIONS, &seeded),
        server.json(COMPLETIONS, &company),
        server.json(COMPLETIONS, &seeded)
    );
    assert_eq!(text(&first), text(&alone));
    assert_eq!(text(&second), text(&alone));
    let unseeded = json!({ "prompt": "the cat", "max_tokens": 60, "temperature": 1.2 });
    let (one, other) = (server.json(COMPLETIONS, &unseeded).await, server.json(COMPLETIONS, &unseeded).await);
    assert_ne!(text(&one), text(&other));
}

#[tokio::test]
async fn requests_leave_no_state() {
    let server = Server::of(story()).await;
    let first = server.json(COMPLETIONS, &greedy(30)).await;
    for prompt in ["the cat saw", "the", "a hen", "the cat"] {
        server
            .json(COMPLETIONS, &json!({ "prompt": prompt, "max_tokens": 30, "repetition_penalty": 1.5 }))
            .await;
    }
    assert_eq!(server.json(COMPLETIONS, &greedy(30)).await["choices"], first["choices"]);
}

#[tokio::test]
async fn a_stop_string_across_tokens_ends_the_text_before_it() {
    let server = Server::of(story()).await;
    for stop in [json!("it."), json!(["xyz", "it.", "p", "q", "z", "zz"])] {
        let response = server.json(COMPLETIONS, &with(greedy(20), &json!({ "stop": stop }))).await;
        assert_eq!(response["choices"][0]["text"], " saw ");
        assert_eq!(response["choices"][0]["finish_reason"], "stop");
        assert_eq!(response["usage"]["completion_tokens"], 8, "the tokens of the stop string count");
    }
    // The text is held back at its end, and then released.
    let response = server.json(COMPLETIONS, &with(greedy(7), &json!({ "stop": "it.x" }))).await;
    assert_eq!((text(&response), &response["choices"][0]["finish_reason"]), (" saw it", &json!("length")));
}

#[tokio::test]
async fn an_eos_token_ends_the_text_unless_it_is_ignored() {
    let server = Server::of(story_with_eos("\n")).await;
    let response = server.json(COMPLETIONS, &greedy(20)).await;
    assert_eq!((text(&response), &response["choices"][0]["finish_reason"]), (" saw it.", &json!("stop")));
    let response = server.json(COMPLETIONS, &with(greedy(20), &json!({ "ignore_eos": true }))).await;
    assert_eq!(text(&response), " saw it.\nthe hen sle");
}

#[tokio::test]
async fn options_reach_the_sampler() {
    let server = Server::of(bytes()).await;
    let body = |fields: Value| with(json!({ "prompt": "ab", "max_tokens": 8, "seed": 3 }), &fields);
    let forced = server.json(COMPLETIONS, &body(json!({ "logit_bias": { "120": 100 } }))).await;
    assert_eq!(text(&forced), "xxxxxxxx");
    let plain = server.json(COMPLETIONS, &body(json!({}))).await;
    let greedy = server.json(COMPLETIONS, &body(json!({ "temperature": 0 }))).await;
    for off in [json!({ "top_k": -1 }), json!({ "top_k": 0 }), json!({ "top_p": 1 }), json!({ "min_p": 0 })] {
        assert_eq!(server.json(COMPLETIONS, &body(off)).await["choices"], plain["choices"]);
    }
    for on in [json!({ "top_k": 1 }), json!({ "top_p": 0.000_001 }), json!({ "min_p": 1 })] {
        assert_eq!(server.json(COMPLETIONS, &body(on)).await["choices"], greedy["choices"]);
    }
    // An untrained model repeats itself.
    for penalty in [
        json!({ "repetition_penalty": 50 }),
        json!({ "repeat_penalty": 50 }),
        json!({ "presence_penalty": 2 }),
    ] {
        let penalized = server.json(COMPLETIONS, &with(body(penalty), &json!({ "temperature": 0 }))).await;
        assert_ne!(penalized["choices"], greedy["choices"]);
    }
}
