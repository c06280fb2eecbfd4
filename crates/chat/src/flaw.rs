//! Flaws of chat data.

use std::fmt;

/// Who speaks in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    System,
    User,
    Assistant,
}

impl Speaker {
    /// The speaker of a role: its name in a chat template, OpenAI's `developer`, or ShareGPT's `human` and `gpt`.
    pub(crate) fn of(role: &str) -> Option<Self> {
        match role {
            "system" | "developer" => Some(Self::System),
            "user" | "human" => Some(Self::User),
            "assistant" | "gpt" => Some(Self::Assistant),
            _ => None,
        }
    }

    /// The role in a chat template.
    pub(crate) fn role(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

impl fmt::Display for Speaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.role())
    }
}

/// The options that train last answers only.
pub(crate) const LAST_ONLY: &str = "--set chat.train_on=last (in `data check`: --train-on last)";

/// Why a row of chat data can't be trained on, and what to do. Messages are counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Flaw {
    #[error("invalid JSON at column {column}: {message}; a line is one JSON object")]
    Json { column: usize, message: String },

    #[error("invalid UTF-8; chat data is JSON lines, so convert a Parquet or Arrow file first")]
    NotUtf8,

    #[error(
        "the list is followed by {found:?}; a JSON file is one list of objects, and JSON lines have one object a line"
    )]
    ListEnd { found: char },

    #[error("expected `,` or `]` before {found:?}, after a value of the list; correct the list")]
    NoComma { found: char },

    #[error("expected an object with `messages`, found {found}")]
    NotAnObject { found: &'static str },

    #[error(
        "unknown layout with {}; use `messages`, `conversations`, `prompt` and `completion`, or `instruction` and `output`",
        list(.keys)
    )]
    UnknownLayout { keys: Vec<String> },

    #[error(
        "unknown layout with {}; preference data has `prompt`, `chosen` and `rejected`",
        list(.keys)
    )]
    NotPreference { keys: Vec<String> },

    #[error("the row has `{present}` but no `{missing}`; add it, or remove the row")]
    MissingKey { present: &'static str, missing: &'static str },

    /// Data of the other preset for chats.
    #[error("the row is {found}, for `train {preset}`")]
    OtherKind {
        found: &'static str,
        /// `sft` or `dpo`.
        preset: &'static str,
    },

    #[error("`{key}` must be {expected}, found {found}")]
    RowType { key: &'static str, expected: &'static str, found: &'static str },

    #[error("message {number} must be an object with `role` and `content`, found {found}")]
    MessageType { number: usize, found: &'static str },

    #[error("`{key}` of message {number} must be {expected}, found {found}")]
    FieldType { number: usize, key: &'static str, expected: &'static str, found: &'static str },

    #[error("message {number} has no `{key}` (its keys: {})", list(.keys))]
    MissingField { number: usize, key: &'static str, keys: Vec<String> },

    #[error(
        "message {number} has a part of type {kind:?}; only text can be trained on, so remove the conversation"
    )]
    NotText { number: usize, kind: String },

    #[error(
        "message {number} has the unknown role {role:?}; roles are system (developer), user (human) and assistant (gpt)"
    )]
    UnknownRole { number: usize, role: String },

    #[error(
        "message {number} has the role {role:?}, but tool calls are not supported; remove the conversation"
    )]
    ToolRole { number: usize, role: String },

    #[error("message {number} has `{key}`, which is not supported; {advice}")]
    UnsupportedField { number: usize, key: &'static str, advice: &'static str },

    /// An answer with a weight of 0 in the loss, or another one than 1.
    #[error(
        "message {number} (assistant) has `{key}` = {value}, but an answer can't be left out of training; remove the key, \
         or to train last answers only, remove it everywhere and use {}",
        LAST_ONLY
    )]
    Untrained { number: usize, key: &'static str, value: String },

    #[error("`{key}` is not supported; {advice}")]
    UnsupportedKey { key: &'static str, advice: &'static str },

    #[error("no messages; remove the row")]
    NoMessages,

    #[error("no message of the assistant, so nothing can be trained; remove the row")]
    NoAnswer,

    #[error("message {number} (assistant) is empty; give it text, or remove it and the question before it")]
    EmptyAnswer { number: usize },

    #[error("messages {first} and {second} are both from the {speaker}; join them, or remove one")]
    TwoInARow { first: usize, second: usize, speaker: Speaker },

    #[error("message {number} is a system message; only the first message can be one, so join them")]
    LateSystem { number: usize },

    #[error("message {number} is the assistant's, but a conversation starts with the user; remove it")]
    StartsWithAnswer { number: usize },

    #[error(
        "`{key}` must be one answer of the assistant after the prompt, found {n_messages} messages there"
    )]
    NotOneAnswer { key: &'static str, n_messages: usize },

    #[error("`chosen` and `rejected` are the same answer; remove the row")]
    SameAnswers,
}

/// The names of keys as text.
fn list(keys: &[String]) -> String {
    match keys {
        [] => "no keys".to_owned(),
        _ => format!("`{}`", keys.join("`, `")),
    }
}
