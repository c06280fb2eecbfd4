//! The generation API: `/v1/completions` and `/v1/chat/completions`.
//!
//! A request passes through these files in order: `body` reads its JSON; `completions` or `chat_completions` makes a
//! [`Call`](call::Call) of it, with the prompts of `prompt` or `messages`, the options of `options` and the constraint of
//! `constraint`; the engine thread runs it; `choices` makes deltas of the outputs; `response` sends them, whole or as a
//! stream.

pub(crate) mod body;
pub(crate) mod constraint;
pub(crate) mod messages;
pub(crate) mod token_texts;

mod call;
mod chat_completions;
mod completions;

mod options;
mod prompt;

mod choice;
mod choices;
mod producer;

mod logprobs;
mod response;

use std::sync::Arc;

use axum::{Router, routing::post};

use crate::app::App;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/completions", post(completions::completions))
        .route("/v1/chat/completions", post(chat_completions::chat_completions))
}
