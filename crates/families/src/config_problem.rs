//! Why a `config.json` describes no model that can be opened.

use serde::Serialize;
use serde_json::json;

/// Why a `config.json` describes no model that can be opened.
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

/// A value that no model here has.
pub(crate) fn unsupported(key: &str, value: impl Serialize, supported: &str) -> ConfigProblem {
    ConfigProblem::Unsupported(format!("`{key}` is {}; only {supported} is supported", json!(value)))
}
