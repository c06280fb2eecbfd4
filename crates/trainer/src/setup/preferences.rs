//! Pairs of a preferred and another answer, for preference tuning.

use std::{path::Path, sync::Arc};

use chat::{Encoder, data::Reader};
use dataset::{Example, Examples};

use super::{
    chats::ChatFormat,
    error::SetupError,
    rows::{RowKind, RowsRead, parts},
};
use crate::Recipe;

/// Pairs of conversations that differ in their last answer, encoded for training.
#[derive(Debug, Clone)]
pub struct Preferences {
    pub format: ChatFormat,
    /// For each pair the conversation with the preferred answer, then the other one.
    pub train: Arc<Examples>,
    /// As `train`.
    pub valid: Arc<Examples>,
    /// Rows of the training and the validation part.
    pub summary: PairSummary,
}

/// Figures and the first pair of those that were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PairSummary {
    pub n_pairs: usize,
    pub n_tokens: usize,
    pub n_trained_tokens: usize,
    /// The tokens of the longest pair, also of one that does not fit.
    pub n_tokens_longest: usize,
    /// Pairs that do not fit the block.
    pub n_too_long: usize,
    /// The first pair, after the place of its row.
    pub first: Option<(String, [chat::Example; 2])>,
}

impl Preferences {
    /// Reads the pairs of a recipe. Those longer than the block are left out, and counted.
    ///
    /// # Errors
    ///
    /// If a file can't be read or has invalid rows, or there are too few pairs.
    pub(super) fn read(recipe: &Recipe, format: ChatFormat) -> Result<Self, SetupError> {
        let mut summary = PairSummary::default();
        let read = |path: &Path| summary.read(path, &format.encoder, Some(recipe.model.block_size));
        let [train, valid] = parts(recipe, RowKind::Pair, read)?;
        Ok(Self { format, train, valid, summary })
    }

    /// SHA-256 of the training and of the validation pairs.
    pub fn checksums(&self) -> [String; 2] {
        [self.train.sha256(), self.valid.sha256()]
    }
}

impl PairSummary {
    /// Reads the pairs of a file or folder that fit a block, if there is one. Longer ones are left out, and counted.
    ///
    /// # Errors
    ///
    /// If a file can't be read.
    pub fn read(
        &mut self,
        path: &Path,
        encoder: &Encoder,
        block_size: Option<usize>,
    ) -> Result<(Examples, RowsRead), SetupError> {
        let mut examples = Examples::default();
        let rows = RowsRead::read(Reader::preferences(path)?, |row| {
            let pair = [encoder.encode(&row.value.chosen)?, encoder.encode(&row.value.rejected)?];
            let n_tokens: usize = pair.iter().map(|example| example.ids.len()).sum();
            self.n_tokens_longest = self.n_tokens_longest.max(n_tokens);
            // The last token of each conversation is a target only.
            let n_positions = n_tokens - 2;
            if block_size.is_some_and(|block_size| n_positions > block_size) {
                self.n_too_long += 1;
                return Ok(Some(n_positions));
            }
            self.n_pairs += 1;
            self.n_tokens += n_tokens;
            for example in &pair {
                self.n_trained_tokens += example.n_trained();
                examples.push(Example { ids: &example.ids, trained: &example.trained });
            }
            self.first.get_or_insert_with(|| (row.to_string(), pair));
            Ok(None)
        })?;
        Ok((examples, rows))
    }
}
