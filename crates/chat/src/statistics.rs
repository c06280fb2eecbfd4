//! Figures of chat data.

use crate::{Conversation, Fit};

/// Figures of the conversations of a data set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Conversations that can be trained on.
    pub n_conversations: usize,
    /// Their messages of the user and the assistant, after cutting.
    pub n_turns: usize,
    pub n_tokens: usize,
    pub n_trained_tokens: usize,
    /// The tokens of the longest conversation before cutting; of one that is too long, up to its first answer.
    pub n_tokens_longest: usize,
    /// Conversations without their last turns, which did not fit the block.
    pub n_cut: usize,
    /// Conversations whose first answer does not fit the block.
    pub n_too_long: usize,
    /// Conversations that ended with the user, whose last message was dropped.
    pub n_unanswered: usize,
}

impl Statistics {
    /// Counts a conversation.
    pub fn add(&mut self, conversation: &Conversation, fit: &Fit) {
        self.n_unanswered += conversation.n_unanswered();
        let (example, n_messages_dropped, n_tokens_whole) = match fit {
            Fit::Whole(example) => (example, 0, example.ids.len()),
            Fit::Cut { example, n_messages_dropped, n_tokens_whole } => {
                self.n_cut += 1;
                (example, *n_messages_dropped, *n_tokens_whole)
            }
            Fit::TooLong { n_tokens } => {
                self.n_too_long += 1;
                self.n_tokens_longest = self.n_tokens_longest.max(*n_tokens);
                return;
            }
        };
        self.n_conversations += 1;
        self.n_turns += 2 * conversation.answers().len() - n_messages_dropped;
        self.n_tokens += example.ids.len();
        self.n_trained_tokens += example.n_trained();
        self.n_tokens_longest = self.n_tokens_longest.max(n_tokens_whole);
    }

    /// The share of tokens that are trained, from 0 to 1; 0 without tokens.
    pub fn trained_share(&self) -> f64 {
        if self.n_tokens == 0 { 0.0 } else { self.n_trained_tokens as f64 / self.n_tokens as f64 }
    }
}
