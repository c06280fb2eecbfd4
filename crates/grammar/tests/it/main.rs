//! Samples of random models under a constraint.

mod invalid;
mod json;
mod patterns;
mod states;
mod support;
