//! Runs `kindling` as a user does, and checks its output and its errors.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may panic, and its values are small"
)]

mod architectures;
mod arguments;
mod chat;
mod chats;
mod commands;
mod companions;
mod continuing;
mod data;
mod errors;
mod exchange;
mod finetune;
mod gguf_files;
#[cfg(unix)]
mod help_examples;
#[cfg(feature = "hub")]
mod hub;
#[cfg(unix)]
mod live;
mod malformed;
mod preferences;
mod quantize;
mod reports;
mod resume;
#[cfg(feature = "grammar")]
mod schemas;
#[cfg(feature = "serve")]
mod serve;
mod support;
mod texts;
mod unsupported;
mod vocabulary;
mod weights;
