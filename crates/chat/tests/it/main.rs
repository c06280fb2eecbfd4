//! Integration tests of chat templates and chat data.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod data;
mod golden;
mod hostile;
mod masks;
mod refusals;
