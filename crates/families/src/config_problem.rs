//! Errors while parsing a `config.json`.

use serde::Serialize;
use serde_json::json;

/// An error while parsing a `config.json`.
#[derive(Debug)]
pub(crate) enum ConfigProblem {
    Json(serde_json::Error),
    Unsupported(String),
}

impl From<serde_json::Error> for ConfigProblem {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}

/// An unsupported value of a key.
pub(crate) fn unsupported(key: &str, value: impl Serialize, supported: &str) -> ConfigProblem {
    ConfigProblem::Unsupported(format!("`{key}` is {}; only {supported} is supported", json!(value)))
}
