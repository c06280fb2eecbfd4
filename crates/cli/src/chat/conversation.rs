//! The messages of a conversation, and how they are shortened to fit the block size of a model.

use ::chat::Message;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Conversation {
    system: Option<String>,
    /// Messages of the user and the model, alternately.
    turns: Vec<Message>,
}

impl Conversation {
    pub(super) fn new(system: Option<String>) -> Self {
        Self { system, turns: Vec::new() }
    }

    pub(super) fn system(&self) -> Option<&str> {
        self.system.as_deref()
    }

    pub(super) fn set_system(&mut self, system: String) {
        self.system = Some(system);
    }

    /// Removes all messages but the system message.
    pub(super) fn reset(&mut self) {
        self.turns.clear();
    }

    pub(super) fn push(&mut self, message: Message) {
        self.turns.push(message);
    }

    pub(super) fn messages(&self) -> Vec<Message> {
        self.system.iter().map(Message::system).chain(self.turns.iter().cloned()).collect()
    }

    /// Removes the oldest message of the user and the answer to it, and returns the number of removed messages. The
    /// last message stays.
    pub(super) fn drop_oldest(&mut self) -> usize {
        let is_user = |message: &Message| message.role == "user";
        let next = self.turns.iter().skip(1).position(is_user).map_or(0, |idx| idx + 1);
        self.turns.drain(..next).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_turn_is_dropped_and_the_system_message_stays() {
        let mut conversation = Conversation::new(Some("be kind".to_owned()));
        for text in ["a", "c"] {
            conversation.push(Message::user(text));
            conversation.push(Message::assistant("yes"));
        }
        conversation.push(Message::user("e"));
        assert_eq!(conversation.drop_oldest(), 2);
        let shortened = ["be kind", "c", "yes", "e"];
        assert_eq!(
            conversation.messages().iter().map(|message| &message.content[..]).collect::<Vec<_>>(),
            shortened
        );
        assert_eq!(conversation.drop_oldest(), 2);
        assert_eq!(conversation.drop_oldest(), 0);
        assert_eq!(conversation.messages(), [Message::system("be kind"), Message::user("e")]);
    }
}
