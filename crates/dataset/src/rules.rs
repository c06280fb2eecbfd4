//! Versions of the rules by which text files are read.

use serde::{Deserialize, Serialize};

/// The rules that select the text files of a folder and decode them. A run resumes with the version it started with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rules {
    /// Files of a folder with a zero byte near their beginning are skipped; all others are UTF-8.
    #[default]
    V1,
    /// UTF-16 is decoded. In a folder, runs, models, prepared data, validation text and duplicate links are skipped.
    V2,
}

impl Rules {
    /// The rules of new runs.
    pub const NEWEST: Self = Self::V2;

    pub(crate) fn is_v1(&self) -> bool {
        *self == Self::V1
    }
}
