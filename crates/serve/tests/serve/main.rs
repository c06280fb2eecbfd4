//! The generation API over loopback, with tiny models.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod models;
mod support;

mod chat;
mod clients;
mod completions;
#[cfg(feature = "grammar")]
mod constraints;
mod errors;
mod load;
mod logprobs;
mod prompts;
mod streaming;
