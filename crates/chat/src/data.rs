//! Reads chat data: conversations to train on, and preferences between two answers.
//!
//! A file has one JSON object per line, or is one JSON list of objects, which is held in memory as a whole. A folder
//! stands for all its `.jsonl` files, in sorted order. Empty lines, CRLF and a byte order mark are allowed.
//!
//! | layout | keys |
//! |---|---|
//! | messages | `messages`: a list of `{"role": "system" \| "user" \| "assistant", "content": TEXT}` |
//! | ShareGPT | `conversations`: a list of `{"from": "system" \| "human" \| "gpt", "value": TEXT}` |
//! | prompt and completion | `prompt`, `completion`: text, or lists of messages, which are joined |
//! | Alpaca | `instruction`, `output`, and `input`, which may be empty |
//!
//! - An Alpaca `input` follows its `instruction` after an empty line.
//! - Text may be a list of parts `{"type": "text", "text": TEXT}`, which are joined.
//! - A `system` key is the system message of a row that has none.
//! - Preference data has `prompt`, `chosen` and `rejected`: text or lists of messages. Without `prompt`, or if `chosen`
//!   and `rejected` start with the user or a system message, the prompt is the messages that both start with.
//! - `weight`, `train` and `loss` of an answer must be 1 or true: single answers can't be left out of training.
//! - Other keys are ignored, except those whose loss would change the conversation, such as `tool_calls`.

mod fields;
mod files;
mod kinds;
mod layout;
mod preference;
mod reader;
mod rows;

pub use kinds::Kinds;
pub use preference::Preference;
pub use reader::{Located, Reader};
