//! Conversations as examples for training.

use std::{error::Error, iter, path::Path, sync::Arc};

use chat::{Encoder, Fit, Statistics, chatml, data::Reader};
use dataset::{Example, Examples};
use tokenizer::{SpecialTokens, Tokenizer};

use super::{error::SetupError, new_run::BaseModel};
use crate::{ChatRecipe, Recipe};

/// Rows with errors that are listed.
const N_LISTED: usize = 5;

/// The format of a model's conversations.
#[derive(Debug, Clone)]
pub struct ChatFormat {
    pub encoder: Encoder,
    /// The special tokens of the fine-tuned model: the end of an answer is its first EOS token.
    pub special_tokens: SpecialTokens,
}

/// Conversations, encoded for training.
#[derive(Debug, Clone)]
pub struct Chats {
    pub format: ChatFormat,
    pub train: Arc<Examples>,
    pub valid: Arc<Examples>,
    /// Of both parts.
    pub statistics: Statistics,
}

impl ChatFormat {
    /// The format of a base model: its chat template, or ChatML with new special tokens.
    ///
    /// # Errors
    ///
    /// If the template is invalid, or its special tokens can't be added.
    pub(super) fn of(base: &BaseModel, recipe: ChatRecipe) -> Result<Self, SetupError> {
        let mut special_tokens = base.special_tokens.clone();
        let (template, tokenizer) = match special_tokens.companions.chat_template() {
            Some(template) => (template.to_owned(), base.tokenizer.clone()),
            None => {
                let tokenizer = base.tokenizer.with_special_tokens(&chatml::SPECIAL_TOKENS)?;
                (chatml::TEMPLATE.to_owned(), tokenizer)
            }
        };
        let encoder =
            Encoder::new(&template, &special_tokens.texts(&tokenizer), tokenizer.clone(), recipe.train_on)?;
        let end = encoder.end_token()?;
        special_tokens.eos.retain(|&id| id != end);
        special_tokens.eos.insert(0, end);
        special_tokens.companions = special_tokens.companions.with_chat_template(template);
        Ok(Self { encoder, special_tokens })
    }

    /// The tokenizer, with the special tokens of the format.
    pub fn tokenizer(&self) -> &Tokenizer {
        self.encoder.tokenizer()
    }
}

impl Chats {
    /// Reads the conversations of a recipe.
    ///
    /// # Errors
    ///
    /// If a file can't be read or has invalid rows, or there are too few conversations.
    pub(super) fn read(recipe: &Recipe, format: ChatFormat) -> Result<Self, SetupError> {
        let n_tokens_max = recipe.model.block_size + 1; // The last token is a target only.
        let mut statistics = Statistics::default();
        let mut read =
            |path: &str| read_examples(Path::new(path), &format.encoder, n_tokens_max, &mut statistics);
        let corpus = &recipe.data.corpus;
        let mut train = read(corpus)?;
        let valid = match &recipe.data.valid {
            Some(path) => read(path)?,
            None => {
                let n = train.len();
                if n < 2 {
                    return Err(SetupError::FewConversations { path: corpus.clone(), n });
                }
                train.split_off_last(n_valid(n, recipe.data.valid_fraction))
            }
        };
        for (part, path) in [(&train, Some(corpus)), (&valid, recipe.data.valid.as_ref())] {
            if let Some(path) = path.filter(|_| part.is_empty()) {
                return Err(SetupError::FewConversations { path: path.clone(), n: 0 });
            }
        }
        Ok(Self { format, train: train.into(), valid: valid.into(), statistics })
    }

    /// SHA-256 of the training and of the validation examples.
    pub fn checksums(&self) -> [String; 2] {
        [self.train.sha256(), self.valid.sha256()]
    }
}

/// Whether the first row of a file, or of the files in a folder, is a conversation.
pub fn are_conversations(path: &Path) -> bool {
    Reader::conversations(path).ok().and_then(|mut rows| rows.next()).is_some_and(|row| row.is_ok())
}

/// The number of validation examples: at least one, and not all.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
fn n_valid(n: usize, fraction: f64) -> usize {
    ((n as f64 * fraction).round() as usize).clamp(1, n - 1)
}

/// Reads conversations that fit a block. Longer ones are cut or left out, and counted.
fn read_examples(
    path: &Path,
    encoder: &Encoder,
    n_tokens_max: usize,
    statistics: &mut Statistics,
) -> Result<Examples, SetupError> {
    let mut examples = Examples::default();
    let (mut flaws, mut n_flawed) = (Vec::new(), 0);
    for row in Reader::conversations(path)? {
        let fitted = row.map_err(|error| (None, error)).and_then(|row| {
            let place = row.to_string();
            let fit = encoder.fit(&row.value, n_tokens_max);
            fit.map(|fit| (row, fit)).map_err(|error| (Some(place), error))
        });
        match fitted {
            Ok((row, fit)) => {
                statistics.add(&row.value, &fit);
                if let Fit::Whole(example) | Fit::Cut { example, .. } = &fit {
                    examples.push(Example { ids: &example.ids, trained: &example.trained });
                }
            }
            Err((_, error @ chat::Error::Read { .. })) => return Err(error.into()),
            Err((place, error)) => {
                n_flawed += 1;
                if flaws.len() < N_LISTED {
                    flaws.push(in_one_line(place, &error));
                }
            }
        }
    }
    match flaws.is_empty() {
        true => Ok(examples),
        false => Err(SetupError::Flaws { path: path.to_owned(), n_flawed, flaws }),
    }
}

/// The error with its place, if its message lacks that, and its causes.
fn in_one_line(place: Option<String>, error: &dyn Error) -> String {
    let causes = iter::successors(Some(error), |&error| error.source()).map(ToString::to_string);
    place.into_iter().chain(causes).collect::<Vec<_>>().join(": ")
}
