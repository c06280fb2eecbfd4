//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::{Extension, extract::State, response::Response};
use serde::Serialize;

use super::{
    body::Fields,
    call::{Call, read_call},
    choice::{Delta, FinishReason},
    choices::Choices,
    logprobs::ChatLogprobs,
    messages::messages,
    options::{n_samples, options},
    prompt::Prompt,
    response::{Choice, respond},
    token_texts::TokenTexts,
};
use crate::{
    app::{App, Served},
    error::ApiError,
    log::TokenCounts,
};

/// Largest `top_logprobs`, as in OpenAI's API.
const MAX_TOP: usize = 20;

const ASSISTANT: &str = "assistant";

pub(crate) async fn chat_completions(
    State(app): State<Arc<App>>,
    Extension(counts): Extension<TokenCounts>,
    fields: Fields,
) -> Result<Response, ApiError> {
    let call = read_call(&app, fields, read).await?;
    respond::<ChatChoice>(app, call, counts).await
}

fn read(app: &App, fields: &Fields) -> Result<Call, ApiError> {
    let (model_idx, served) = app.model(fields.get::<String>("model")?.as_deref())?;
    let n_samples = n_samples(fields)?;
    app.worker.check_size(n_samples as u64)?;
    check_supported(fields)?;
    let prompt = prompt(fields, served)?;
    // A prompt that fills the context has at least one token after it.
    let rest = (served.block_size() - prompt.ids.len()).max(1);
    let max_tokens = fields.get("max_completion_tokens")?.or(fields.get("max_tokens")?).unwrap_or(rest);
    let options = options(fields, &served.model, max_tokens)?;
    let choices = Choices { prompts: vec![prompt], n_samples, echo: false, n_top: n_top(fields)? };
    Call::new(app, fields, model_idx, choices, options)
}

fn check_supported(fields: &Fields) -> Result<(), ApiError> {
    for name in ["tools", "functions"] {
        if fields.is_set(name) {
            let message = format!("`{name}` is not supported; this server answers with text only");
            return Err(ApiError::invalid(message, Some(name)));
        }
    }
    Ok(())
}

fn prompt(fields: &Fields, served: &Served) -> Result<Prompt, ApiError> {
    let invalid = |message: String| ApiError::invalid(message, Some("messages"));
    let template = served.template.as_ref().ok_or_else(|| {
        let id = &served.id;
        invalid(format!("the model {id} has no chat template; use /v1/completions with a prompt"))
    })?;
    let text = template.render_prompt(&messages(fields)?).map_err(|error| invalid(error.to_string()))?;
    Prompt::of_rendered_template(text, &served.model)
}

fn n_top(fields: &Fields) -> Result<Option<usize>, ApiError> {
    let invalid = |message: String| Err(ApiError::invalid(message, Some("top_logprobs")));
    match (fields.get("logprobs")?.unwrap_or(false), fields.get("top_logprobs")?) {
        (_, Some(n_top)) if n_top > MAX_TOP => {
            invalid(format!("`top_logprobs` must be at most {MAX_TOP} (got {n_top})"))
        }
        (false, Some(1..)) => invalid("`top_logprobs` needs `logprobs: true`".to_owned()),
        (false, _) => Ok(None),
        (true, n_top) => Ok(Some(n_top.unwrap_or(0))),
    }
}

#[derive(Debug, Serialize)]
struct ChatChoice {
    index: usize,
    message: ChatMessage,
    logprobs: Option<ChatLogprobs>,
    finish_reason: Option<FinishReason>,
}

#[derive(Debug, Serialize)]
struct ChatMessage {
    role: &'static str,
    content: String,
    /// Always null.
    refusal: Option<()>,
}

#[derive(Debug, Serialize)]
struct ChatChunk {
    index: usize,
    delta: MessageDelta,
    logprobs: Option<ChatLogprobs>,
    finish_reason: Option<FinishReason>,
}

#[derive(Debug, Default, Serialize)]
struct MessageDelta {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
}

impl Choice for ChatChoice {
    const ID_PREFIX: &str = "chatcmpl";
    const OBJECT: &str = "chat.completion";
    const CHUNK_OBJECT: &str = "chat.completion.chunk";

    type Chunk = ChatChunk;

    fn new(index: usize) -> Self {
        let message = ChatMessage { role: ASSISTANT, content: String::new(), refusal: None };
        Self { index, message, logprobs: None, finish_reason: None }
    }

    fn push(&mut self, delta: &Delta, texts: &TokenTexts) {
        self.message.content += &delta.text;
        add_logprobs(&mut self.logprobs, delta, texts);
        self.finish_reason = delta.finish_reason;
    }

    /// The role comes first in a chunk of its own, and the finish reason last.
    fn chunks(delta: &Delta, texts: &TokenTexts) -> Vec<ChatChunk> {
        let chunk = |message: MessageDelta| ChatChunk {
            index: delta.choice_idx,
            delta: message,
            logprobs: None,
            finish_reason: None,
        };
        let mut chunks = Vec::new();
        if delta.is_first {
            chunks.push(chunk(MessageDelta { role: Some(ASSISTANT), content: Some(String::new()) }));
        }
        if !delta.is_empty() {
            let mut content = chunk(MessageDelta { role: None, content: Some(delta.text.clone()) });
            add_logprobs(&mut content.logprobs, delta, texts);
            chunks.push(content);
        }
        if delta.finish_reason.is_some() {
            let finish_reason = delta.finish_reason;
            chunks.push(ChatChunk { finish_reason, ..chunk(MessageDelta::default()) });
        }
        chunks
    }
}

fn add_logprobs(logprobs: &mut Option<ChatLogprobs>, delta: &Delta, texts: &TokenTexts) {
    if let Some(tokens) = &delta.tokens {
        let logprobs = logprobs.get_or_insert_default();
        tokens.iter().filter_map(|token| token.score.as_ref()).for_each(|score| logprobs.push(score, texts));
    }
}
