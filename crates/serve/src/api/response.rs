//! Responses: all choices in one body, or as server-sent events.

use std::{
    convert::Infallible,
    pin::pin,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Json,
    response::{IntoResponse, Response, Sse, sse::Event},
};
use futures_util::{Stream, StreamExt as _, stream};
use serde::Serialize;

use super::{
    call::{Call, Delivery},
    choice::Delta,
    producer::produced,
    token_texts::TokenTexts,
};
use crate::{
    app::{App, Served},
    error::ApiError,
    log::TokenCounts,
};

/// A choice in the form of one route.
pub(crate) trait Choice: Serialize + Send + 'static {
    /// The start of the response's id.
    const ID_PREFIX: &str;
    /// The `object` of a response.
    const OBJECT: &str;
    /// The `object` of a streamed chunk.
    const CHUNK_OBJECT: &str;

    /// A choice in a streamed chunk.
    type Chunk: Serialize + Send;

    /// An empty choice.
    fn new(index: usize) -> Self;

    fn push(&mut self, delta: &Delta, texts: &TokenTexts);

    /// The chunks of a delta, none if nothing can be shown yet.
    fn chunks(delta: &Delta, texts: &TokenTexts) -> Vec<Self::Chunk>;
}

#[derive(Debug, Clone, Serialize)]
struct Head {
    id: String,
    object: &'static str,
    /// In seconds since 1970.
    created: u64,
    model: String,
}

#[derive(Debug, Serialize)]
struct Body<'a, C> {
    #[serde(flatten)]
    head: &'a Head,
    choices: Vec<C>,
    /// `Some(None)` is null.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
}

/// Tokens of all prompts and of all choices.
#[derive(Debug, Clone, Copy, Serialize)]
struct Usage {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
}

/// Runs a call and responds with its choices. An error before the first token decides the status, in streams too.
///
/// # Errors
///
/// The errors of the engine thread.
pub(crate) async fn respond<C: Choice>(
    app: Arc<App>,
    call: Call,
    counts: TokenCounts,
) -> Result<Response, ApiError> {
    let Call { model_idx, choices, requests, delivery, deadline } = call;
    let outputs = app.worker.submit(model_idx, requests, deadline)?;
    let (n_prompt, n_choices) = (choices.n_prompt_tokens(), choices.n_choices());
    counts.add_prompt(n_prompt as u64);
    let deltas = choices.deltas(app.clone(), model_idx, outputs).inspect(move |delta| {
        counts.add_generated(delta.as_ref().map_or(0, |delta| delta.n_sampled) as u64);
    });
    let served = &app.models[model_idx];
    match delivery {
        Delivery::Whole => whole::<C>(served, deltas, n_prompt, n_choices).await,
        Delivery::Stream { include_usage } => {
            let mut deltas = Box::pin(deltas);
            let Some(first) = deltas.next().await else {
                return Err(ApiError::internal("the engine gave no output"));
            };
            let deltas = stream::iter([Ok(first?)]).chain(deltas);
            let head = Head::new(C::ID_PREFIX, C::CHUNK_OBJECT, served);
            let usage = include_usage.then(|| Usage::new(n_prompt, 0));
            Ok(Sse::new(events::<C>(app, model_idx, deltas, head, usage)).into_response())
        }
    }
}

async fn whole<C: Choice>(
    served: &Served,
    deltas: impl Stream<Item = Result<Delta, ApiError>>,
    n_prompt: usize,
    n_choices: usize,
) -> Result<Response, ApiError> {
    let mut choices: Vec<C> = (0..n_choices).map(C::new).collect();
    let mut n_sampled = 0;
    let mut deltas = pin!(deltas);
    while let Some(delta) = deltas.next().await {
        let delta = delta?;
        n_sampled += delta.n_sampled;
        choices[delta.choice_idx].push(&delta, &served.texts);
    }
    let head = &Head::new(C::ID_PREFIX, C::OBJECT, served);
    Ok(Json(Body { head, choices, usage: Some(Some(Usage::new(n_prompt, n_sampled))) }).into_response())
}

/// The events of a stream. With `usage`, every chunk has the field: null, and the usage in the last one.
fn events<C: Choice>(
    app: Arc<App>,
    model_idx: usize,
    deltas: impl Stream<Item = Result<Delta, ApiError>> + Send + 'static,
    head: Head,
    usage: Option<Usage>,
) -> impl Stream<Item = Result<Event, Infallible>> + Send + 'static {
    let events = produced(async move |events| {
        let texts = &app.models[model_idx].texts;
        let chunk = |choices: Vec<C::Chunk>, usage| json_event(&Body { head: &head, choices, usage });
        let mut n_sampled = 0;
        let mut deltas = pin!(deltas);
        while let Some(delta) = deltas.next().await {
            match delta {
                Ok(delta) => {
                    n_sampled += delta.n_sampled;
                    for choice in C::chunks(&delta, texts) {
                        events.send(chunk(vec![choice], usage.map(|_| None))).await;
                    }
                }
                Err(error) => {
                    events.send(json_event(&error.to_json())).await;
                    return;
                }
            }
        }
        if let Some(Usage { prompt_tokens, .. }) = usage {
            let usage = Usage::new(prompt_tokens, n_sampled);
            events.send(chunk(Vec::new(), Some(Some(usage)))).await;
        }
    });
    events.chain(stream::iter([Event::default().data("[DONE]")])).map(Ok)
}

fn json_event(data: &impl Serialize) -> Event {
    Event::default().json_data(data).expect("responses have no keys but strings")
}

impl Head {
    fn new(id_prefix: &str, object: &'static str, served: &Served) -> Self {
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let id = format!("{id_prefix}-{:032x}", rand::random::<u128>());
        Self { id, object, created, model: served.id.clone() }
    }
}

impl Usage {
    fn new(prompt_tokens: usize, completion_tokens: usize) -> Self {
        Self { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens }
    }
}
