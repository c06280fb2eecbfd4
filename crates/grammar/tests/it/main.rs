//! Samples of random models under a constraint.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod invalid;
mod json;
mod patterns;
mod states;
mod support;
