//! The version of how text files are read.

use serde::{Deserialize, Serialize};

/// Which files of a folder are text, and how files are read. They have a version: a run that was begun by older rules
/// resumes by them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rules {
    /// Files with a zero byte near their beginning are left out of a folder; every other is UTF-8.
    #[default]
    V1,
    /// UTF-16 is decoded. Runs, models, prepared data, validation text and second links are left out of a folder.
    V2,
}

impl Rules {
    /// Those of new runs.
    pub const NEWEST: Self = Self::V2;

    pub(crate) fn is_v1(&self) -> bool {
        *self == Self::V1
    }
}
