//! `meta.json`, the sidecar that says what the shards beside it hold and what they were made from.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::source_file::SourceFile;
use crate::{Documents, Dtype, Error, Result, Rules};

/// Version of the layout of a prepared folder. Another one is prepared anew.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// What a prepared folder holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    /// Version of this layout.
    pub format_version: u32,
    /// Kind of the tokenizer as in recipes, or `custom`.
    pub tokenizer: String,
    /// Says whether two tokenizers are the same.
    pub tokenizer_fingerprint: String,
    /// Number of distinct token ids.
    pub vocab_size: usize,
    /// How wide the tokens of the shards are.
    pub dtype: Dtype,
    /// How the two parts were made.
    pub split: Split,
    /// Which files were read, and how.
    #[serde(default, skip_serializing_if = "Rules::is_v1")]
    pub rules: Rules,
    /// The tokens to learn from, `train.bin`.
    pub train: Part,
    /// The tokens to estimate the loss on, `val.bin`.
    pub valid: Part,
    /// The text, or the training part if the validation part has a text of its own.
    pub source: SourceText,
    /// The text of the validation part, where it has one of its own.
    pub valid_source: Option<SourceText>,
    /// The documents of the text, where separators were looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub documents: Option<Documents>,
    /// Whether a file of the text begins with a JSON object in a line, which was taken as plain text.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_json_lines: bool,
}

/// How a corpus becomes a training part and a validation part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// The last characters of the text are for validation: of n characters the first ⌊n (1 - fraction)⌋ are for
    /// training, as nanoGPT cuts.
    Fraction(f64),
    /// Validation has a text of its own.
    File(#[serde(with = "crate::path_text")] PathBuf),
}

/// One shard, and the text in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Number of tokens.
    pub n_tokens: u64,
    /// Bytes of the text, with which a loss per token becomes one per byte.
    pub text_bytes: u64,
    /// Checksum of the shard.
    pub sha256: String,
}

/// The text that was prepared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceText {
    /// Name of a corpus, or path.
    pub description: String,
    /// Size of the text in bytes.
    pub size_bytes: u64,
    /// Number of its characters.
    pub n_characters: u64,
    /// How many of them are different.
    pub n_distinct_characters: u64,
    /// Checksum of the text.
    pub sha256: String,
    /// The files it was read from.
    pub files: Vec<SourceFile>,
}

impl Meta {
    /// The sidecar of a prepared folder.
    ///
    /// Fails with [`Error::Unusable`] if there is none, or it is not of this version.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("meta.json");
        let unusable = |reason: String| Error::Unusable { path: path.clone(), reason };
        let json = fs::read(&path).map_err(|error| unusable(error.to_string()))?;
        let meta: Self = serde_json::from_slice(&json).map_err(|error| unusable(error.to_string()))?;
        if meta.format_version != FORMAT_VERSION {
            return Err(unusable(format!(
                "its format is version {}, not {FORMAT_VERSION}",
                meta.format_version
            )));
        }
        Ok(meta)
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).expect("the sidecar has only string keys");
        json.push(b'\n');
        json
    }
}
