//! The tokens of a recipe's data.

use std::path::{Path, PathBuf};

use dataset::{OnProgress, Prepared, Rules, Source, TokenizerChoice};
use tokenizer::Tokenizer;

use super::{
    chats::{ChatFormat, Chats},
    error::SetupError,
    preferences::Preferences,
};
use crate::{DataRecipe, Recipe, TrainingData};

/// The tokenised data of a run.
pub enum RunData {
    Text(Prepared),
    Chats(Chats),
    Preferences(Preferences),
}

impl RunData {
    /// Reads the conversations of a recipe, or for preference tuning its pairs.
    ///
    /// # Errors
    ///
    /// If a file can't be read or has invalid rows, or there are too few of them.
    pub(super) fn read_chats(recipe: &Recipe, format: ChatFormat) -> Result<Self, SetupError> {
        Ok(match recipe.dpo {
            Some(_) => Self::Preferences(Preferences::read(recipe, format)?),
            None => Self::Chats(Chats::read(recipe, format)?),
        })
    }

    /// The tokenizer of the run's model.
    pub fn tokenizer(&self) -> &Tokenizer {
        match self {
            Self::Text(prepared) => &prepared.tokenizer,
            Self::Chats(chats) => chats.format.tokenizer(),
            Self::Preferences(pairs) => pairs.format.tokenizer(),
        }
    }

    /// SHA-256 of the training and validation part, as stored in checkpoints.
    pub fn checksums(&self) -> [String; 2] {
        match self {
            Self::Text(prepared) => checksums(prepared),
            Self::Chats(chats) => chats.checksums(),
            Self::Preferences(pairs) => pairs.checksums(),
        }
    }

    /// The numbers of training and validation tokens.
    pub fn n_tokens(&self) -> [usize; 2] {
        match self {
            Self::Text(prepared) => [prepared.train.len(), prepared.valid.len()],
            Self::Chats(Chats { train, valid, .. }) | Self::Preferences(Preferences { train, valid, .. }) => {
                [train.n_tokens(), valid.n_tokens()]
            }
        }
    }

    /// The samples for training.
    pub fn training_data(&self) -> TrainingData {
        match self {
            Self::Text(Prepared { train, valid, .. }) => {
                TrainingData::Text { train: train.clone(), valid: valid.clone() }
            }
            Self::Chats(Chats { train, valid, .. }) => {
                TrainingData::Examples { train: train.clone(), valid: valid.clone() }
            }
            Self::Preferences(Preferences { train, valid, .. }) => {
                TrainingData::Pairs { train: train.clone(), valid: valid.clone(), reference: None }
            }
        }
    }
}

/// Tokenizes a recipe's data, or reuses its tokens from the folder for prepared data.
///
/// # Errors
///
/// If the text can't be read or the tokens can't be written.
pub fn prepare_data(
    data: &DataRecipe,
    choice: &TokenizerChoice,
    data_folder: &Path,
    on_progress: OnProgress<'_>,
) -> dataset::Result<Prepared> {
    prepare_by(Rules::NEWEST, data, choice, data_folder, on_progress)
}

/// Like [`prepare_data`], for a run that trained on tokens with the checksums `expected`. If the newest rules for
/// reading text give other tokens, tries the older ones. Returns the tokens and the rules that produced them.
///
/// # Errors
///
/// As [`prepare_data`].
pub fn prepare_same_data(
    data: &DataRecipe,
    choice: &TokenizerChoice,
    data_folder: &Path,
    expected: Option<&[String; 2]>,
    on_progress: OnProgress<'_>,
) -> dataset::Result<(Prepared, Rules)> {
    let newest = prepare_data(data, choice, data_folder, on_progress);
    let may_differ = match (&newest, expected) {
        (_, None) => false,
        (Ok(prepared), Some(expected)) if checksums(prepared) == *expected => false,
        (Ok(_), Some(_)) => {
            dataset::rules_matter(&Source::resolve(&data.corpus)?, &options(Rules::NEWEST, data, data_folder))
        }
        (Err(_), Some(_)) => matches!(Source::resolve(&data.corpus), Ok(Source::Path(_))),
    };
    if may_differ
        && let Ok(older) = prepare_by(Rules::V1, data, choice, data_folder, on_progress)
        && Some(&checksums(&older)) == expected
    {
        return Ok((older, Rules::V1));
    }
    newest.map(|prepared| (prepared, Rules::NEWEST))
}

/// SHA-256 of the training and validation tokens, as stored in checkpoints.
pub fn checksums(prepared: &Prepared) -> [String; 2] {
    [prepared.meta.train.sha256.clone(), prepared.meta.valid.sha256.clone()]
}

fn prepare_by(
    rules: Rules,
    data: &DataRecipe,
    choice: &TokenizerChoice,
    data_folder: &Path,
    on_progress: OnProgress<'_>,
) -> dataset::Result<Prepared> {
    let source = Source::resolve(&data.corpus)?;
    dataset::prepare(&source, choice, &options(rules, data, data_folder), on_progress)
}

fn options(rules: Rules, data: &DataRecipe, data_folder: &Path) -> dataset::Options {
    dataset::Options {
        root: data_folder.to_owned(),
        valid_fraction: data.valid_fraction,
        valid: data.valid.as_ref().map(PathBuf::from),
        separator: data.separator.clone(),
        rules,
        ..dataset::Options::default()
    }
}
