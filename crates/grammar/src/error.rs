//! Errors.

use std::io;

/// An error of constrained generation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(
        "the text of this tokenizer can't be constrained: its decoder does more than join the bytes of tokens; \
         use a model with a byte-level BPE, SentencePiece, byte or character tokenizer"
    )]
    Decoder,

    #[error("cannot index the {n_tokens} tokens of the vocabulary: {reason}")]
    Vocabulary { n_tokens: usize, reason: String },

    #[error("invalid JSON schema at {path}: {reason}")]
    JsonSchema {
        /// The JSON pointer of the invalid part.
        path: String,
        reason: String,
    },

    #[error("invalid regular expression: {0}")]
    Regex(String),

    #[error("invalid Lark grammar: {0}")]
    Lark(String),

    #[error("the grammar has {n_bytes} bytes; use at most {max}")]
    TooLong { n_bytes: usize, max: usize },

    #[error("the JSON schema is nested deeper than {max} levels")]
    TooDeep { max: usize },

    #[error("multipleOf is {divisor}; use at most {max_digits} significant digits")]
    Divisor { divisor: String, max_digits: usize },

    #[error("cannot start a thread to compile the grammar")]
    Thread(#[source] io::Error),

    #[error("the grammar forbids token {id} after {n_accepted} tokens")]
    Forbidden { id: u32, n_accepted: usize },

    #[error(
        "no token of the vocabulary can follow {n_accepted} tokens: the grammar matches no text, or only text that the \
         vocabulary can't spell"
    )]
    NoToken { n_accepted: usize },

    #[error("the sample is complete after {n_accepted} tokens")]
    Complete { n_accepted: usize },

    #[error("cannot apply the grammar after {n_accepted} tokens: {reason}; use a simpler grammar")]
    Evaluation { n_accepted: usize, reason: String },
}

/// The result of an operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The message of an error of the library, without the state and the backtrace that it may append.
pub(crate) fn message(error: &impl ToString) -> String {
    let text = error.to_string();
    let end =
        ["\n<state>", "\n<non-verbose/>", "\n<backtrace>"].iter().filter_map(|part| text.find(part)).min();
    text[..end.unwrap_or(text.len())].trim_end().to_owned()
}
