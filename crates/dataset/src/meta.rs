//! `meta.json`: contents and source of the shards beside it.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::source_file::SourceFile;
use crate::{Documents, Dtype, Error, Result, Rules};

/// Version of the layout of a prepared folder. A folder with another version is prepared again.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// Contents and source of a prepared folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    pub format_version: u32,
    /// The tokenizer's kind as in recipes, or `custom`.
    pub tokenizer: String,
    /// Equal for equal tokenizers.
    pub tokenizer_fingerprint: String,
    pub vocab_size: usize,
    pub dtype: Dtype,
    pub split: Split,
    #[serde(default, skip_serializing_if = "Rules::is_v1")]
    pub rules: Rules,
    /// `train.bin`.
    pub train: Part,
    /// `val.bin`.
    pub valid: Part,
    /// The text; only the training text if there is a separate validation text.
    pub source: SourceText,
    /// The separate validation text, if there is one.
    pub valid_source: Option<SourceText>,
    /// The documents of `source`; absent in files of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub documents: Option<Documents>,
    /// Whether a file begins with a line of JSON, which was encoded as plain text.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_json_lines: bool,
}

/// How a corpus is split into training and validation text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// The end of the text is for validation: of n characters, the first ⌊n (1 - fraction)⌋ are for training, as in
    /// nanoGPT.
    Fraction(f64),
    /// A separate validation text.
    File(#[serde(with = "crate::path_serde")] PathBuf),
}

/// One shard and its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    pub n_tokens: u64,
    /// Size of the text, used to convert the loss per token to bits per byte.
    pub text_bytes: u64,
    /// SHA-256 of the shard.
    pub sha256: String,
}

/// A prepared text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceText {
    /// Name of the corpus, path or URL.
    pub description: String,
    pub size_bytes: u64,
    pub n_characters: u64,
    pub n_distinct_characters: u64,
    /// SHA-256 of the text.
    pub sha256: String,
    pub files: Vec<SourceFile>,
}

impl Meta {
    /// Reads the `meta.json` of a prepared folder.
    ///
    /// Fails with [`Error::Unusable`] if it is missing, invalid or of another version.
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
        let mut json = serde_json::to_vec_pretty(self).expect("all map keys are strings");
        json.push(b'\n');
        json
    }
}
