//! The trained answers of a conversation.

use serde::{Deserialize, Serialize};

/// The answers of a conversation that are trained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrainOn {
    /// All messages of the assistant.
    #[default]
    Assistant,
    /// The last message.
    Last,
}
