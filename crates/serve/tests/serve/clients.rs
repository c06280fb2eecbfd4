//! Full queues, clients that leave, and shutdown.

use std::{sync::Arc, time::Duration};

use hyper::{StatusCode, header};
use serde_json::{Value, json};
use serve::Settings;

use crate::{
    models::{endless, story},
    support::{COMPLETIONS, Server},
};

const RUNNING: &str = "kindling_slots_busy";
const WAITING: &str = "kindling_queue_length";

async fn start(n_slots: usize, queue: usize) -> Arc<Server> {
    let settings = Settings { n_slots, queue, ..Settings::default() };
    Arc::new(Server::start(vec![("tiny", endless())], settings).await)
}

/// A stream that does not end during a test.
fn endless_stream() -> Value {
    json!({ "prompt": "a", "max_tokens": 100_000, "stream": true, "logprobs": 0 })
}

fn one_token() -> Value {
    json!({ "prompt": "a", "max_tokens": 1 })
}

#[tokio::test]
async fn a_full_queue_answers_429() {
    let server = start(1, 1).await;
    let mut running = server.stream(COMPLETIONS, &endless_stream()).await;
    let waiting = tokio::spawn({
        let server = server.clone();
        async move { server.json(COMPLETIONS, &one_token()).await }
    });
    server.wait_for_metric(WAITING, 1).await;

    let response = server.post(COMPLETIONS, &one_token()).await;
    assert_eq!(response.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(response.headers[header::RETRY_AFTER].to_str().unwrap().parse::<u64>().unwrap() > 0);
    assert_eq!(response.error().await["code"], "rate_limit_exceeded");

    // A request that can never fit is a mistake of the client.
    let (status, error) = server.error(COMPLETIONS, &json!({ "prompt": ["a", "b"], "n": 2 })).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(error["message"].as_str().unwrap().contains("4 samples"), "{error}");
    let huge = json!({ "prompt": ["a", "b"], "n": u64::MAX });
    assert_eq!(server.error(COMPLETIONS, &huge).await.0, StatusCode::BAD_REQUEST);

    assert!(running.next().await.is_some());
    drop(running);
    assert_eq!(waiting.await.unwrap()["usage"]["completion_tokens"], 1);
}

#[tokio::test]
async fn a_call_is_admitted_with_all_its_samples_or_not_at_all() {
    let server = start(1, 2).await;
    let running = server.stream(COMPLETIONS, &endless_stream()).await;
    assert_eq!(
        server.error(COMPLETIONS, &json!({ "prompt": "a", "n": 3 })).await.0,
        StatusCode::TOO_MANY_REQUESTS
    );
    assert_eq!(server.metric(WAITING).await, 0);
    drop(running);
    server.wait_for_metric(RUNNING, 0).await;
    let response = server.json(COMPLETIONS, &json!({ "prompt": "a", "n": 3, "max_tokens": 1 })).await;
    assert_eq!(response["usage"]["completion_tokens"], 3);
}

#[tokio::test]
async fn a_client_that_leaves_during_generation_frees_its_slot() {
    let server = start(2, 0).await;
    let mut staying = server.stream(COMPLETIONS, &endless_stream()).await;
    let mut leaving = server.stream(COMPLETIONS, &endless_stream()).await;
    assert!(leaving.next().await.is_some());
    server.wait_for_metric(RUNNING, 2).await;
    drop(leaving);
    server.wait_for_metric(RUNNING, 1).await;
    // The other stream continues: these tokens are later than the metric.
    let so_far = server.metric("kindling_generated_tokens_total").await;
    for _ in 0..so_far {
        assert_ne!(staying.next().await.unwrap(), "[DONE]");
    }
    assert!(server.metric("kindling_generated_tokens_total").await < 100_000);
    server.json(COMPLETIONS, &one_token()).await;
}

#[tokio::test]
async fn a_client_that_leaves_without_a_stream_frees_its_slot_too() {
    let server = start(1, 0).await;
    let request = tokio::spawn({
        let server = server.clone();
        async move { server.post(COMPLETIONS, &json!({ "prompt": "a", "max_tokens": 100_000 })).await.status }
    });
    server.wait_for_metric(RUNNING, 1).await;
    request.abort();
    server.wait_for_metric(RUNNING, 0).await;
    assert!(server.metric("kindling_generated_tokens_total").await < 100_000);
}

#[tokio::test]
async fn a_client_that_leaves_the_queue_takes_its_request_along() {
    let server = start(1, 2).await;
    let mut running = server.stream(COMPLETIONS, &endless_stream()).await;
    let request = |body: Value| {
        let server = server.clone();
        tokio::spawn(async move { server.json(COMPLETIONS, &body).await })
    };
    let leaving = request(endless_stream());
    server.wait_for_metric(WAITING, 1).await;
    let staying = request(one_token());
    server.wait_for_metric(WAITING, 2).await;
    leaving.abort();
    server.wait_for_metric(WAITING, 1).await;
    assert_eq!(server.metric(RUNNING).await, 1);
    assert_ne!(running.next().await.unwrap(), "[DONE]");
    drop(running);
    assert_eq!(staying.await.unwrap()["usage"]["completion_tokens"], 1);
}

#[tokio::test]
async fn a_client_that_leaves_during_prefill_frees_its_slot() {
    const N_PROMPT: usize = 100_000;
    let server = start(1, 0).await;
    let request = tokio::spawn({
        let server = server.clone();
        async move {
            server.post(COMPLETIONS, &json!({ "prompt": vec![7; N_PROMPT], "max_tokens": 1 })).await.status
        }
    });
    server.wait_for_metric(RUNNING, 1).await;
    assert_eq!(server.metric("kindling_generated_tokens_total").await, 0);
    request.abort();
    server.wait_for_metric(RUNNING, 0).await;
    assert!(server.metric("kindling_prompt_tokens_total").await < N_PROMPT as u64);
    assert_eq!(server.metric("kindling_generated_tokens_total").await, 0);
    server.json(COMPLETIONS, &one_token()).await;
}

#[tokio::test]
async fn the_time_limit_ends_a_sample_and_keeps_its_text() {
    let settings = Settings { time_limit: Duration::from_millis(300), ..Settings::default() };
    let server = Server::start(vec![("tiny", endless())], settings).await;
    let body = json!({ "prompt": "a", "max_tokens": 100_000, "logit_bias": { "120": 100 } });
    let response = server.json(COMPLETIONS, &body).await;
    let n_sampled = usize::try_from(response["usage"]["completion_tokens"].as_u64().unwrap()).unwrap();
    assert!(n_sampled < 100_000);
    assert_eq!(response["choices"][0]["text"], "x".repeat(n_sampled));
    assert_eq!(response["choices"][0]["finish_reason"], "length");
}

#[tokio::test]
async fn many_requests_at_a_time_are_all_answered() {
    let settings = Settings { n_slots: 4, queue: 60, ..Settings::default() };
    let server = Arc::new(Server::start(vec![("tiny", story())], settings).await);
    let body = json!({ "prompt": "the cat", "temperature": 0, "max_tokens": 20 });
    let requests: Vec<_> = (0..64)
        .map(|_| {
            let (server, body) = (server.clone(), body.clone());
            tokio::spawn(async move { server.json(COMPLETIONS, &body).await["choices"][0]["text"].take() })
        })
        .collect();
    for request in requests {
        assert_eq!(request.await.unwrap(), " saw it.\nthe hen sle");
    }
    server.wait_for_metric(RUNNING, 0).await;
    assert_eq!(server.metric(WAITING).await, 0);
}

#[tokio::test]
async fn a_shutdown_completes_the_running_request() {
    let server = Server::of(story()).await;
    let body = json!({ "prompt": "the cat", "temperature": 0, "max_tokens": 4000, "stream": true });
    let mut running = server.stream(COMPLETIONS, &body).await;
    server.control.stop();
    let mut n_chunks = 0;
    while running.next().await.unwrap() != "[DONE]" {
        n_chunks += 1;
    }
    assert_eq!(n_chunks, 4000);
}
