//! The options for preparing a corpus, and the result.

use std::{path::PathBuf, sync::Arc};

use tokenizer::{Tokenizer, TokenizerKind};

use crate::{Rules, Tokens, documents::END_OF_TEXT, meta::Meta};

/// The choice of tokenizer for a corpus.
#[derive(Debug, Clone)]
pub enum TokenizerChoice {
    /// A tokenizer of this kind, trained on the text if the kind requires it.
    Kind(TokenizerKind),
    /// An existing tokenizer, such as the tokenizer of a model to be fine-tuned.
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

/// Options for preparing a corpus.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The folder of all prepared data.
    pub root: PathBuf,
    /// The fraction of characters, at the end of the text, used for validation; in `(0, 1)`.
    pub valid_fraction: f64,
    /// A separate validation text, used instead of `valid_fraction`.
    pub valid: Option<PathBuf>,
    /// The separator between documents, encoded as `<|endoftext|>` if the tokenizer has that token.
    pub separator: Option<String>,
    /// Verify the checksums of large shards before reuse. Small ones are always verified.
    pub verify: bool,
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

/// A prepared corpus: tokenizer and token shards.
#[derive(Debug)]
pub struct Prepared {
    pub folder: PathBuf,
    pub meta: Meta,
    pub tokenizer: Tokenizer,
    /// Training tokens.
    pub train: Arc<Tokens>,
    /// Validation tokens.
    pub valid: Arc<Tokens>,
    pub outcome: Outcome,
}

/// Whether existing shards were reused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Built,
    Reused,
    Rebuilt {
        /// Why the existing shards could not be reused.
        reason: String,
    },
}
