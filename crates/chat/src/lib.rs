//! Chat templates and chat data: turns the messages of a conversation into the text that a model continues, or into
//! tokens to train it on.
//!
//! A chat model is trained on conversations in one format. Its Jinja template writes that format, with special tokens
//! as text. A [`Template`] renders it as `apply_chat_template` of transformers does: the same whitespace rules, functions
//! and filters, and the methods of Python strings, lists and dictionaries. `'%s' % text` and the filters `truncate`,
//! `wordcount`, `wordwrap` and `center` are errors.
//!
//! Templates come from downloaded models. They cannot read files or load other templates, and [`Error::TooManySteps`]
//! ends endless loops. A template built to exhaust memory, by printing lists that contain one list many times over, is
//! not stopped.
//!
//! The rendered text has all special tokens, BOS too. So it is encoded with special tokens recognised, and without a
//! further prompt prefix.
//!
//! ```
//! use chat::{Message, SpecialTexts, Template};
//!
//! let source = "{% for message in messages %}<|{{ message.role }}|>{{ message.content | trim }}{{ eos_token }}\n\
//!     {% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";
//! let special = SpecialTexts::from([("eos_token".to_owned(), "<|end|>".to_owned())]);
//! let template = Template::new(source, &special)?;
//!
//! let messages = [Message::user("Hello! ")];
//! assert_eq!(template.render_prompt(&messages)?, "<|user|>Hello!<|end|>\n<|assistant|>");
//! assert_eq!(template.render_conversation(&messages)?, "<|user|>Hello!<|end|>\n");
//! # Ok::<(), chat::Error>(())
//! ```
//!
//! For training, [`data`] reads conversations, and an [`Encoder`] turns them into ids with a mask of the tokens that the
//! assistant generates.

mod conversation;
pub mod data;
mod flaw;
mod message;
mod template;

pub mod chatml;
mod encoder;
mod spans;
mod statistics;
mod train_on;

mod align;
mod environment;
mod fuel;
mod generation_tag;
mod python_json;
mod python_methods;

mod error;

pub use conversation::Conversation;
pub use encoder::{Encoder, Example, Fit};
pub use error::{Error, Result};
pub use flaw::{Flaw, Speaker};
pub use jiff::civil::Date;
pub use message::Message;
pub use statistics::Statistics;
pub use template::{SpecialTexts, Template};
pub use train_on::TrainOn;

/// The date in the time zone of this machine.
pub fn today() -> Date {
    jiff::Zoned::now().date()
}
