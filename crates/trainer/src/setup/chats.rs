//! Conversations as examples for training.

use std::{path::Path, sync::Arc};

use chat::{
    Encoder, Fit, Message, Statistics, chatml,
    data::{Kinds, Reader},
};
use dataset::{Example, Examples, Source};
use tokenizer::{SpecialTokens, Tokenizer};
use toml::value::{Date, Datetime};

use super::{
    error::SetupError,
    rows::{RowKind, RowsRead, parts},
};
use crate::{ChatRecipe, Recipe};

/// The format of a model's conversations.
#[derive(Debug, Clone)]
pub struct ChatFormat {
    pub encoder: Encoder,
    /// The special tokens of the fine-tuned model: the end of an answer is its first EOS token.
    pub special_tokens: SpecialTokens,
    /// `[chat]`, with a date if the template prints it.
    pub recipe: ChatRecipe,
}

/// Conversations, encoded for training.
#[derive(Debug, Clone)]
pub struct Chats {
    pub format: ChatFormat,
    pub train: Arc<Examples>,
    pub valid: Arc<Examples>,
    /// Rows of the training and the validation part.
    pub summary: ChatSummary,
}

/// Figures and the first example of conversations that were read.
#[derive(Debug, Clone, Default)]
pub struct ChatSummary {
    pub statistics: Statistics,
    /// The first example, after the place of its row.
    pub first: Option<(String, chat::Example)>,
    /// Conversations with special tokens in their messages. A model sees the tokens, not the text.
    pub n_with_special: usize,
    /// The first of these tokens, and the place of its row.
    pub first_special: Option<(String, String)>,
}

impl ChatFormat {
    /// The format of a base model with this name, tokenizer and special tokens: its chat template, or ChatML with new
    /// special tokens. A template that prints the date prints the recipe's, or else today's.
    ///
    /// # Errors
    ///
    /// If the template is invalid, or its special tokens can't be added, or the recipe has a date that the template does
    /// not print.
    pub fn of(
        base_model: &str,
        tokenizer: &Tokenizer,
        special_tokens: &SpecialTokens,
        recipe: ChatRecipe,
    ) -> Result<Self, SetupError> {
        let mut special_tokens = special_tokens.clone();
        let (template, tokenizer) = match special_tokens.companions.chat_template() {
            Some(template) => (template.to_owned(), tokenizer.clone()),
            None => {
                let tokenizer = tokenizer.with_special_tokens(&chatml::SPECIAL_TOKENS)?;
                (chatml::TEMPLATE.to_owned(), tokenizer)
            }
        };
        let date = recipe.date.map_or_else(chat::today, in_calendar);
        let texts = special_tokens.texts(&tokenizer);
        let encoder = Encoder::new(&template, &texts, tokenizer, recipe.train_on, date)?;
        let recipe = match (encoder.prints_date(), recipe.date) {
            (true, _) => ChatRecipe { date: Some(in_toml(date)), ..recipe },
            (false, None) => recipe,
            (false, Some(date)) => {
                return Err(SetupError::UnusedDate { date, base_model: base_model.to_owned() });
            }
        };
        let end = encoder.end_token()?;
        special_tokens.eos.retain(|&id| id != end);
        special_tokens.eos.insert(0, end);
        special_tokens.companions = special_tokens.companions.with_chat_template(template);
        Ok(Self { encoder, special_tokens, recipe })
    }

    /// The tokenizer, with the special tokens of the format.
    pub fn tokenizer(&self) -> &Tokenizer {
        self.encoder.tokenizer()
    }
}

/// The date of a recipe.
fn in_calendar(date: Date) -> chat::Date {
    date.to_string().parse().expect("TOML has valid dates in ISO 8601")
}

/// The date for a recipe.
fn in_toml(date: chat::Date) -> Date {
    let parsed = date.to_string().parse().ok().and_then(|datetime: Datetime| datetime.date);
    parsed.expect("the current year has four digits")
}

impl Chats {
    /// Reads the conversations of a recipe.
    ///
    /// # Errors
    ///
    /// If a file can't be read or has invalid rows, or there are too few conversations.
    pub(super) fn read(recipe: &Recipe, format: ChatFormat) -> Result<Self, SetupError> {
        let mut summary = ChatSummary::default();
        let read = |path: &Path| summary.read(path, &format.encoder, Some(recipe.model.block_size));
        let [train, valid] = parts(recipe, RowKind::Conversation, read)?;
        Ok(Self { format, train, valid, summary })
    }

    /// SHA-256 of the training and of the validation examples.
    pub fn checksums(&self) -> [String; 2] {
        [self.train.sha256(), self.valid.sha256()]
    }
}

impl ChatSummary {
    /// Reads the conversations of a file or folder that fit a block, if there is one. Longer ones are cut or left out,
    /// and counted.
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
        let n_tokens_max = block_size.map_or(usize::MAX, |n| n + 1); // The last token is a target only.
        let special_in = |message: &Message| encoder.tokenizer().special_in(&message.content);
        let mut examples = Examples::default();
        let rows = RowsRead::read(Reader::conversations(path)?, |row| {
            let fit = encoder.fit(&row.value, n_tokens_max)?;
            self.statistics.add(&row.value, &fit);
            if let Some(token) = row.value.messages().iter().find_map(special_in) {
                self.n_with_special += 1;
                self.first_special.get_or_insert_with(|| (token.to_string(), row.to_string()));
            }
            match fit {
                Fit::Whole(example) | Fit::Cut { example, .. } => {
                    examples.push(Example { ids: &example.ids, trained: &example.trained });
                    self.first.get_or_insert_with(|| (row.to_string(), example));
                    Ok(None)
                }
                Fit::TooLong { n_tokens } => Ok(Some(n_tokens - 1)),
            }
        })?;
        Ok((examples, rows))
    }
}

/// The preset that trains on the rows of a corpus: `sft` for conversations, `dpo` for pairs of answers. `None` for text.
pub fn chat_preset(corpus: &str) -> Option<&'static str> {
    let Ok(Source::Path(path)) = Source::resolve(corpus) else { return None };
    match Kinds::of(&path) {
        Kinds { conversations: true, .. } => Some("sft"),
        Kinds { preferences: true, .. } => Some("dpo"),
        _ => None,
    }
}
