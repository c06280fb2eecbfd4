//! `/tokenize`, `/detokenize` and `/tokenizer_info`, as in vLLM and llama.cpp. lm-eval's remote tokenizer needs them.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Query, State, rejection::QueryRejection},
    routing::{get, post},
};
use chat::Message;
use engine::Model;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use crate::{
    App,
    api::{body::Fields, messages::messages},
    app::Served,
    error::ApiError,
};

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/tokenize", post(tokenize))
        .route("/detokenize", post(detokenize))
        .route("/tokenizer_info", get(info))
}

#[derive(Debug, Deserialize)]
struct WhichModel {
    model: Option<String>,
}

async fn tokenize(State(app): State<Arc<App>>, fields: Fields) -> Result<Json<Value>, ApiError> {
    let state = app.clone();
    let _permit = state.encoders.acquire().await;
    // A body of the largest size takes a second.
    let encoded = spawn_blocking(move || {
        let (_, served) = app.model(fields.get::<String>("model")?.as_deref())?;
        let ids = encode(served, &fields)?;
        Ok(json!({ "count": ids.len(), "tokens": ids, "max_model_len": served.block_size() }))
    });
    encoded.await.unwrap_or_else(|error| Err(ApiError::internal(error.to_string()))).map(Json)
}

/// The ids of `prompt`, `content` or `messages`. vLLM's `prompt` has the prompt prefix (BOS token) by default, and
/// llama.cpp's `content` does not. A chat template writes its own BOS token.
fn encode(served: &Served, fields: &Fields) -> Result<Vec<u32>, ApiError> {
    let adds_prefix = match fields.get("add_special_tokens")? {
        Some(adds) => Some(adds),
        None => fields.get("add_special")?, // llama.cpp's name.
    };
    let encode =
        |text: String, by_default| encode_text(&served.model, &text, adds_prefix.unwrap_or(by_default));
    match (fields.get("prompt")?, fields.get("content")?, fields.is_set("messages")) {
        (Some(prompt), None, false) => encode(prompt, true),
        (None, Some(content), false) => encode(content, false),
        (None, None, true) => {
            let is_prompt = fields.get("add_generation_prompt")?.unwrap_or(true);
            encode(render(served, &messages(fields)?, is_prompt)?, false)
        }
        _ => Err(ApiError::invalid("give one of `prompt`, `content` and `messages`", None)),
    }
}

fn encode_text(model: &Model, text: &str, adds_prefix: bool) -> Result<Vec<u32>, ApiError> {
    let ids = model.tokenizer.encode_special(text);
    let ids = ids.map_err(|error| ApiError::invalid(error.to_string(), None))?;
    let prefix = model.tokenizer.prompt_prefix();
    Ok(if adds_prefix && !ids.starts_with(prefix) { [prefix, &ids].concat() } else { ids })
}

/// The text of a conversation. As a prompt, it ends with the start of the assistant's next message.
fn render(served: &Served, messages: &[Message], is_prompt: bool) -> Result<String, ApiError> {
    let template = served.template.as_ref().ok_or_else(|| {
        let id = &served.id;
        ApiError::invalid(format!("the model {id} has no chat template; give `prompt`"), Some("messages"))
    })?;
    let text =
        if is_prompt { template.render_prompt(messages) } else { template.render_conversation(messages) };
    text.map_err(|error| ApiError::invalid(error.to_string(), Some("messages")))
}

async fn detokenize(State(app): State<Arc<App>>, fields: Fields) -> Result<Json<Value>, ApiError> {
    let (_, served) = app.model(fields.get::<String>("model")?.as_deref())?;
    let ids: Vec<u32> = fields
        .get("tokens")?
        .ok_or_else(|| ApiError::invalid("`tokens` is missing; give a list of token ids", Some("tokens")))?;
    let tokenizer = &served.model.tokenizer;
    let n_tokens = tokenizer.vocab_size();
    if let Some(id) = ids.iter().find(|&&id| id as usize >= n_tokens) {
        let message =
            format!("`tokens` has the id {id}, but the model has {n_tokens} tokens, with ids from 0");
        return Err(ApiError::invalid(message, Some("tokens")));
    }
    let text = tokenizer.decode(&ids);
    Ok(Json(json!({ "prompt": text, "content": text })))
}

/// Has `eos_token` even if the model has none, because lm-eval takes the key as a sign of support.
async fn info(
    State(app): State<Arc<App>>,
    request: Result<Query<WhichModel>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let Query(request) = request?;
    let (_, served) = app.model(request.model.as_deref())?;
    let Model { tokenizer, special_tokens, .. } = &*served.model;
    let mut info = json!({
        "eos_token": null,
        "bos_token": null,
        "pad_token": null,
        "unk_token": null,
        "chat_template": special_tokens.companions.chat_template(),
        "vocab_size": tokenizer.vocab_size(),
        "model_max_length": served.block_size(),
    });
    for (name, text) in special_tokens.texts(tokenizer) {
        info[name] = json!(text);
    }
    Ok(Json(info))
}
