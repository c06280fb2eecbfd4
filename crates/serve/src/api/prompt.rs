//! Prompts: the forms in which they are given, and their ids.

use engine::{Model, default_prompt, with_prompt_prefix};
use serde::Deserialize;
use serde_json::Value;
use tokenizer::Tokenizer;

use super::options::n_tokens;
use crate::error::ApiError;

/// The field of completions.
const NAME: &str = "prompt";

/// A prompt as a client gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GivenPrompt {
    Text(String),
    Ids(Vec<u32>),
}

/// A prompt that fits the model's context.
#[derive(Debug, Clone)]
pub(crate) struct Prompt {
    pub(crate) ids: Vec<u32>,
    /// How many of the first ids the server has added. They have no text.
    n_added: usize,
    /// The text that `echo` returns.
    pub(crate) text: String,
}

/// Reads the four forms of `prompt`: a string, strings, ids, or lists of ids. Null is an empty prompt.
///
/// # Errors
///
/// 400 for any other form, and for an empty list.
pub(crate) fn given_prompts(value: &Value) -> Result<Vec<GivenPrompt>, ApiError> {
    let error = || {
        let message =
            "`prompt` must be a string, a list of strings, a list of token ids, or a list of lists of ids";
        ApiError::invalid(message, Some(NAME))
    };
    match value {
        Value::Null => Ok(vec![GivenPrompt::Text(String::new())]),
        Value::String(text) => Ok(vec![GivenPrompt::Text(text.clone())]),
        Value::Array(items) => match &items[..] {
            [Value::Number(_), ..] => Ok(vec![GivenPrompt::Ids(ids(value).ok_or_else(error)?)]),
            [_, ..] => items.iter().map(|item| given_prompt(item).ok_or_else(error)).collect(),
            [] => Err(ApiError::invalid("`prompt` is an empty list; give at least one prompt", Some(NAME))),
        },
        _ => Err(error()),
    }
}

fn given_prompt(value: &Value) -> Option<GivenPrompt> {
    match value {
        Value::String(text) => Some(GivenPrompt::Text(text.clone())),
        list => Some(GivenPrompt::Ids(ids(list)?)),
    }
}

fn ids(list: &Value) -> Option<Vec<u32>> {
    Vec::deserialize(list).ok()
}

impl GivenPrompt {
    /// Encodes a text with its special tokens and the prompt prefix. Ids stay unchanged. An empty prompt becomes the
    /// tokenizer's default prompt.
    ///
    /// # Errors
    ///
    /// 400 for a text that the tokenizer can't encode, for an id outside the vocabulary, and for a prompt longer than
    /// the context.
    pub(crate) fn encode(self, model: &Model) -> Result<Prompt, ApiError> {
        let tokenizer = &model.tokenizer;
        let prompt = match self {
            Self::Text(text) => {
                let given = encode_special(tokenizer, &text, NAME)?;
                let n_given = given.len();
                let ids = with_prompt_prefix(tokenizer, given);
                Prompt { n_added: ids.len() - n_given, ids, text }
            }
            Self::Ids(ids) if ids.is_empty() => {
                let ids = default_prompt(tokenizer);
                Prompt { n_added: ids.len(), ids, text: String::new() }
            }
            Self::Ids(ids) => {
                check_ids(&ids, n_tokens(model))?;
                Prompt { n_added: 0, text: tokenizer.decode(&ids), ids }
            }
        };
        prompt.check_length(model)
    }
}

impl Prompt {
    /// Encodes a rendered chat template, which has its special tokens and BOS token as text. Nothing is added.
    ///
    /// # Errors
    ///
    /// 400 for a text that the tokenizer can't encode, an empty one, and one longer than the context.
    pub(crate) fn of_rendered_template(text: String, model: &Model) -> Result<Self, ApiError> {
        let ids = encode_special(&model.tokenizer, &text, "messages")?;
        if ids.is_empty() {
            return Err(ApiError::invalid("the messages give an empty prompt", Some("messages")));
        }
        Self { ids, n_added: 0, text }
            .check_length(model)
            .map_err(|error| ApiError { param: Some("messages"), ..error })
    }

    fn check_length(self, model: &Model) -> Result<Self, ApiError> {
        let (n_prompt, block_size) = (self.ids.len(), model.gpt.config().block_size);
        if n_prompt > block_size {
            return Err(ApiError::context_length(n_prompt, block_size));
        }
        Ok(self)
    }

    /// Length of the text in characters (code points).
    pub(crate) fn n_chars(&self) -> usize {
        self.text.chars().count()
    }

    /// Position of each token in the text, in characters.
    pub(crate) fn offsets(&self, tokenizer: &Tokenizer) -> Vec<usize> {
        let n_chars = self.n_chars();
        let (added, given) = self.ids.split_at(self.n_added);
        let mut offsets = vec![0; added.len()];
        let (mut stream, mut offset) = (tokenizer.decode_stream(), 0);
        for &id in given {
            // A tokenizer that normalizes may decode to more characters than it was given.
            offsets.push(n_chars.min(offset));
            offset += stream.push(id).chars().count();
        }
        offsets
    }
}

fn encode_special(tokenizer: &Tokenizer, text: &str, param: &'static str) -> Result<Vec<u32>, ApiError> {
    tokenizer.encode_special(text).map_err(|error| ApiError::invalid(error.to_string(), Some(param)))
}

fn check_ids(ids: &[u32], n_tokens: usize) -> Result<(), ApiError> {
    match ids.iter().find(|&&id| id as usize >= n_tokens) {
        None => Ok(()),
        Some(id) => {
            let message =
                format!("`prompt` has the id {id}, but the model has {n_tokens} tokens, with ids from 0");
            Err(ApiError::invalid(message, Some(NAME)))
        }
    }
}
