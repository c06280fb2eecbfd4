//! `POST /v1/completions`.

use std::sync::Arc;

use axum::{Extension, extract::State, response::Response};
use serde::Serialize;
use serde_json::Value;

use super::{
    body::Fields,
    call::{Call, read_call},
    choice::{Delta, FinishReason},
    choices::Choices,
    logprobs::CompletionLogprobs,
    options::{n_samples, options},
    prompt::given_prompts,
    response::{Choice, respond},
    token_texts::TokenTexts,
};
use crate::{app::App, error::ApiError, log::TokenCounts};

/// As in OpenAI's API.
const DEFAULT_MAX_TOKENS: usize = 16;

/// Largest `logprobs`. OpenAI's limit is 5, but clients of other servers ask for 10 and more.
const MAX_TOP: usize = 100;

pub(crate) async fn completions(
    State(app): State<Arc<App>>,
    Extension(counts): Extension<TokenCounts>,
    fields: Fields,
) -> Result<Response, ApiError> {
    let call = read_call(&app, fields, read).await?;
    respond::<CompletionChoice>(app, call, counts).await
}

fn read(app: &App, fields: &Fields) -> Result<Call, ApiError> {
    let (model_idx, served) = app.model(fields.get::<String>("model")?.as_deref())?;
    let n_samples = n_samples(fields)?;
    check_supported(fields, n_samples)?;
    let max_tokens = fields.get("max_tokens")?.unwrap_or(DEFAULT_MAX_TOKENS);
    let options = options(fields, &served.model, max_tokens)?;
    let given = given_prompts(fields.value("prompt"))?;
    app.worker.check_size((given.len() as u64).saturating_mul(n_samples as u64))?;
    let prompts = given.into_iter().map(|prompt| prompt.encode(&served.model)).collect::<Result<_, _>>()?;
    let echo = fields.get("echo")?.unwrap_or(false);
    let choices = Choices { prompts, n_samples, echo, n_top: n_top(fields)? };
    Call::new(app, fields, model_idx, choices, options)
}

fn check_supported(fields: &Fields, n_samples: usize) -> Result<(), ApiError> {
    if fields.get::<usize>("best_of")?.is_some_and(|best_of| best_of > n_samples) {
        let message = "`best_of` above `n` is not supported; ask for `n` samples and choose among them";
        return Err(ApiError::invalid(message, Some("best_of")));
    }
    if fields.is_set("suffix") {
        let message = "`suffix` is not supported: the model continues a prompt, and does not fill gaps";
        return Err(ApiError::invalid(message, Some("suffix")));
    }
    Ok(())
}

/// A number, or true for 1.
fn n_top(fields: &Fields) -> Result<Option<usize>, ApiError> {
    let n_top = match fields.value("logprobs") {
        Value::Bool(wanted) => wanted.then_some(1),
        _ => fields.get("logprobs")?,
    };
    match n_top {
        Some(n_top) if n_top > MAX_TOP => {
            let message = format!("`logprobs` must be at most {MAX_TOP} (got {n_top})");
            Err(ApiError::invalid(message, Some("logprobs")))
        }
        n_top => Ok(n_top),
    }
}

/// A choice, or a piece of one.
#[derive(Debug, Serialize)]
struct CompletionChoice {
    text: String,
    index: usize,
    logprobs: Option<CompletionLogprobs>,
    finish_reason: Option<FinishReason>,
}

impl Choice for CompletionChoice {
    const ID_PREFIX: &str = "cmpl";
    const OBJECT: &str = "text_completion";
    const CHUNK_OBJECT: &str = "text_completion";

    type Chunk = Self;

    fn new(index: usize) -> Self {
        Self { text: String::new(), index, logprobs: None, finish_reason: None }
    }

    fn push(&mut self, delta: &Delta, texts: &TokenTexts) {
        self.text += &delta.text;
        if let Some(tokens) = &delta.tokens {
            let logprobs = self.logprobs.get_or_insert_default();
            tokens.iter().for_each(|token| logprobs.push(token, texts));
        }
        self.finish_reason = delta.finish_reason;
    }

    fn chunks(delta: &Delta, texts: &TokenTexts) -> Vec<Self> {
        if delta.is_empty() && delta.finish_reason.is_none() {
            return Vec::new();
        }
        let mut chunk = Self::new(delta.choice_idx);
        chunk.push(delta, texts);
        vec![chunk]
    }
}
