//! How a corpus is prepared, and a corpus that is.

use std::{path::PathBuf, sync::Arc};

use tokenizer::{Tokenizer, TokenizerKind};

use crate::{Rules, Tokens, documents::END_OF_TEXT, meta::Meta};

/// Which tokenizer turns the text into tokens.
#[derive(Debug, Clone)]
pub enum TokenizerChoice {
    /// One of this kind, made from the text where the kind needs it.
    Kind(TokenizerKind),
    /// The tokenizer of a model that goes on learning.
    Given(Tokenizer),
}

impl TokenizerChoice {
    /// Whether the tokenizer has `<|endoftext|>`.
    pub(crate) fn has_end_of_text(&self) -> bool {
        match self {
            Self::Kind(TokenizerKind::Char | TokenizerKind::Byte) => false,
            Self::Kind(TokenizerKind::Gpt2 | TokenizerKind::Bpe { .. }) => true,
            Self::Given(tokenizer) => tokenizer.end_of_text().is_some(),
        }
    }
}

/// Where and how to prepare.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Folder of all prepared data.
    pub root: PathBuf,
    /// Part of the characters, at the end, that is kept for validation; in `(0, 1)`.
    pub valid_fraction: f64,
    /// A text of its own for validation, in place of the fraction.
    pub valid: Option<PathBuf>,
    /// A string that divides the text into documents: it becomes `<|endoftext|>`, if the tokenizer has that token.
    pub separator: Option<String>,
    /// Compare the checksums of shards that are reused even where they are large. Small ones are always
    /// compared.
    pub verify: bool,
    /// Which files are read, and how.
    pub rules: Rules,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            root: "datasets".into(),
            valid_fraction: 0.1,
            valid: None,
            separator: Some(END_OF_TEXT.to_owned()),
            verify: false,
            rules: Rules::NEWEST,
        }
    }
}

/// A corpus, ready to be drawn from.
#[derive(Debug)]
pub struct Prepared {
    /// The folder with the shards.
    pub folder: PathBuf,
    /// What the shards hold.
    pub meta: Meta,
    /// What made the tokens.
    pub tokenizer: Tokenizer,
    /// The tokens to learn from.
    pub train: Arc<Tokens>,
    /// The tokens to estimate the loss on.
    pub valid: Arc<Tokens>,
    /// What had to be done.
    pub outcome: Outcome,
}

/// What had to be done to have a corpus ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was prepared for the first time.
    Built,
    /// It was ready.
    Reused,
    /// It was prepared again.
    Rebuilt {
        /// Why what there was could not be used.
        reason: String,
    },
}
