//! The program as a person runs it: what it does, and what it says when something is wrong.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may panic, and its numbers are small"
)]

mod architectures;
mod arguments;
mod commands;
mod companions;
mod continuing;
mod errors;
mod exchange;
mod finetune;
mod foreign;
mod gguf_files;
#[cfg(unix)]
mod help_examples;
#[cfg(feature = "hub")]
mod hub;
#[cfg(unix)]
mod live;
mod malformed;
mod resume;
mod support;
mod texts;
mod views;
mod vocabulary;
mod weights;
