//! The errors of chat templates, chat data and masks.

use std::{error, fmt, io, path::PathBuf};

use minijinja::ErrorKind;

use crate::{Flaw, Message, flaw::LAST_ONLY};

/// An error of a chat template, of chat data, or of the tokens to train in a conversation. Messages are counted from 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("the chat template is invalid at line {line}: {message}")]
    Syntax { line: usize, message: String },

    /// The template called `raise_exception`, such as for a conversation that does not alternate between two roles.
    #[error("the chat template refuses the conversation: {message}")]
    Refused { message: String },

    #[error("the chat template fails at line {line}: {message}")]
    Render { line: usize, message: String },

    #[error("the chat template takes too many steps; shorten the conversation or correct the template")]
    TooManySteps,

    /// The text between the tags is not in the conversation as it was between them.
    #[error(
        "the chat template changes text after its tags {{% generation %}}, or the conversation has U+FDD0 or U+FDD1; \
         remove the tags or the characters"
    )]
    GenerationTags,

    #[error("cannot read the chat data {}", .path.display())]
    Read { path: PathBuf, source: io::Error },

    #[error("{} has no .jsonl files; name a file or another folder", .path.display())]
    NoFiles { path: PathBuf },

    /// A row can't be trained on.
    #[error("{}:{line}: {flaw}", .path.display())]
    Row {
        path: PathBuf,
        /// From 1.
        line: usize,
        flaw: Flaw,
    },

    #[error(
        "the tokenizer lacks the special token {token}, which the ChatML template needs; add it to the tokenizer"
    )]
    MissingToken { token: String },

    /// The template fails for the first messages of a conversation, which end with an answer or the question before.
    #[error("the messages up to number {number} ({role}) can't be formatted")]
    UpTo { number: usize, role: String, source: Box<Self> },

    /// The text before the answer depends on later messages: templates may remove the reasoning of earlier turns.
    #[error(
        "the chat template changes the text up to message {number} ({role}) when later messages follow, so not every \
         answer can be trained; use {}, conversations of one answer, or a template with the tags \
         {{% generation %}}",
        LAST_ONLY
    )]
    PrefixChanges { number: usize, role: String },

    #[error(
        "the chat template generates nothing for message {number} (assistant), so nothing can be trained"
    )]
    NothingTrained { number: usize },

    /// A model would not learn when to stop.
    #[error(
        "message {number} (assistant) ends with {text:?}, which is not a special token of the tokenizer; add it to the \
         tokenizer, or use the template of this model"
    )]
    EndIsText { number: usize, text: String },

    /// A model would not learn when to stop.
    #[error(
        "the chat template ends message {number} (assistant) without a special token among the trained text, so the model \
         would not learn to stop; use a template with one, such as ChatML's <|im_end|>"
    )]
    NoEnd { number: usize },

    #[error(
        "the tokens of message {number} (assistant) can't be located, because the tokenizer changes the text"
    )]
    Unaligned { number: usize },

    #[error(
        "{place} has the character {character:?} (U+{:04X}), which is not in the vocabulary of the model; remove it, or \
         train a model whose tokenizer encodes any text, with data.tokenizer=byte, gpt2 or bpe:N",
        u32::from(*character)
    )]
    UnknownCharacter {
        /// A message, or the chat template.
        place: String,
        character: char,
    },

    #[error(transparent)]
    Tokenizer(#[from] tokenizer::Error),
}

/// The place of an error outside the messages.
pub(crate) const CHAT_TEMPLATE: &str = "the chat template";

/// The result of an operation on chat templates or data.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The argument of `raise_exception`, as an error within the template engine.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl error::Error for Refusal {}

impl Error {
    /// An error of compiling a template.
    pub(crate) fn of_compiling(error: &minijinja::Error) -> Self {
        Self::Syntax { line: error.line().unwrap_or(1), message: message(error) }
    }

    /// An error of encoding the text of these messages. Positions in that text are replaced by the message.
    pub(crate) fn of_encoding(error: tokenizer::Error, messages: &[Message]) -> Self {
        let tokenizer::Error::UnknownCharacter { character, .. } = error else { return error.into() };
        let idx = messages.iter().position(|message| message.content.contains(character));
        let place = idx.map_or_else(|| CHAT_TEMPLATE.to_owned(), |idx| format!("message {}", idx + 1));
        Self::UnknownCharacter { place, character }
    }

    /// An error of rendering a template.
    pub(crate) fn of_rendering(error: &minijinja::Error) -> Self {
        for cause in causes(error) {
            if let Some(Refusal(message)) = cause.downcast_ref() {
                return Self::Refused { message: message.clone() };
            }
            if cause.downcast_ref().map(minijinja::Error::kind) == Some(ErrorKind::OutOfFuel) {
                return Self::TooManySteps;
            }
        }
        Self::Render { line: error.line().unwrap_or(1), message: message(error) }
    }
}

/// An error and the errors that caused it.
fn causes(error: &minijinja::Error) -> impl Iterator<Item = &(dyn error::Error + 'static)> {
    let first: &(dyn error::Error + 'static) = error;
    std::iter::successors(Some(first), |error| error.source())
}

/// The text of an error without its line.
fn message(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}
