//! Conversations as examples for training.

use std::{path::Path, sync::Arc};

use chat::{Encoder, Fit, Statistics, chatml, data::Reader};
use dataset::{Example, Examples};
use tokenizer::{SpecialTokens, Tokenizer};

use super::{
    base_model::BaseModel,
    error::SetupError,
    rows::{parts, read_rows},
};
use crate::{ChatRecipe, Recipe};

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
    /// Figures of both parts.
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
        let read =
            |path: &str| read_examples(Path::new(path), &format.encoder, n_tokens_max, &mut statistics);
        let block_size = recipe.model.block_size;
        let few = |path, n| SetupError::FewConversations { path, n, block_size };
        let [train, valid] = parts(&recipe.data, 1, read, few)?;
        Ok(Self { format, train, valid, statistics })
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

/// Reads conversations that fit a block. Longer ones are cut or left out, and counted.
fn read_examples(
    path: &Path,
    encoder: &Encoder,
    n_tokens_max: usize,
    statistics: &mut Statistics,
) -> Result<Examples, SetupError> {
    let mut examples = Examples::default();
    read_rows(path, Reader::conversations(path)?, |conversation| {
        let fit = encoder.fit(conversation, n_tokens_max)?;
        statistics.add(conversation, &fit);
        if let Fit::Whole(example) | Fit::Cut { example, .. } = &fit {
            examples.push(Example { ids: &example.ids, trained: &example.trained });
        }
        Ok(())
    })?;
    Ok(examples)
}
