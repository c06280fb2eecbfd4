//! Pairs of a preferred and another answer, for preference tuning.

use std::{path::Path, sync::Arc};

use chat::{Encoder, data::Reader};
use dataset::{Example, Examples};

use super::{
    chats::ChatFormat,
    error::SetupError,
    rows::{parts, read_rows},
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
    /// Pairs that do not fit the block.
    pub n_too_long: usize,
}

impl Preferences {
    /// Reads the pairs of a recipe. Those longer than the block are left out, and counted.
    ///
    /// # Errors
    ///
    /// If a file can't be read or has invalid rows, or there are too few pairs.
    pub(super) fn read(recipe: &Recipe, format: ChatFormat) -> Result<Self, SetupError> {
        let (encoder, block_size) = (&format.encoder, recipe.model.block_size);
        let mut n_too_long = 0;
        let read = |path: &str| read_pairs(Path::new(path), encoder, block_size, &mut n_too_long);
        let [train, valid] = parts(&recipe.data, 2, read, |path, n| SetupError::FewPairs { path, n })?;
        Ok(Self { format, train, valid, n_too_long })
    }

    /// SHA-256 of the training and of the validation pairs.
    pub fn checksums(&self) -> [String; 2] {
        [self.train.sha256(), self.valid.sha256()]
    }
}

fn read_pairs(
    path: &Path,
    encoder: &Encoder,
    block_size: usize,
    n_too_long: &mut usize,
) -> Result<Examples, SetupError> {
    let mut examples = Examples::default();
    read_rows(path, Reader::preferences(path)?, |row| {
        let pair = [encoder.encode(&row.chosen)?, encoder.encode(&row.rejected)?];
        // The last token of each conversation is a target only.
        if pair.iter().map(|example| example.ids.len() - 1).sum::<usize>() > block_size {
            *n_too_long += 1;
            return Ok(());
        }
        for chat::Example { ids, trained } in &pair {
            examples.push(Example { ids, trained });
        }
        Ok(())
    })?;
    Ok(examples)
}
