//! The server over loopback: access, errors, metrics, tokenizers, runs and its end.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod access;
mod errors;
mod monitoring;
mod runs;
mod stopping;
mod support;
mod tokenizers;
