//! Conversations that a model can be trained on.

use crate::{Flaw, Message, Speaker};

/// A conversation to train on: an optional system message, then turns of the user and the assistant that alternate. It
/// starts with the user and ends with the assistant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    messages: Vec<Message>,
    n_unanswered: usize,
}

impl Conversation {
    /// Checks messages with the roles `system`, `user` and `assistant`.
    ///
    /// A user's message at the end is dropped. Nothing after it is trained, so the loss of the other turns stays the
    /// same.
    ///
    /// ```
    /// use chat::{Conversation, Message};
    ///
    /// let messages = vec![Message::user("2 + 2?"), Message::assistant("4"), Message::user("Thanks!")];
    /// let conversation = Conversation::new(messages)?;
    /// assert_eq!(conversation.messages().len(), 2);
    ///
    /// let flaw = Conversation::new(vec![Message::user("2 + 2?"), Message::user("And?")]).unwrap_err();
    /// assert_eq!(flaw.to_string(), "messages 1 and 2 are both from the user; join them, or remove one");
    /// # Ok::<(), chat::Flaw>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The first flaw, with the number of its message.
    pub fn new(mut messages: Vec<Message>) -> Result<Self, Flaw> {
        if messages.is_empty() {
            return Err(Flaw::NoMessages);
        }
        let mut previous = None;
        for (number, message) in (1..).zip(&messages) {
            let speaker = Speaker::of(&message.role)
                .ok_or_else(|| Flaw::UnknownRole { number, role: message.role.clone() })?;
            match (previous, speaker) {
                (Some(_), Speaker::System) => return Err(Flaw::LateSystem { number }),
                (Some(previous), _) if previous == speaker => {
                    return Err(Flaw::TwoInARow { first: number - 1, second: number, speaker });
                }
                (None | Some(Speaker::System), Speaker::Assistant) => {
                    return Err(Flaw::StartsWithAnswer { number });
                }
                (_, Speaker::Assistant) if message.content.trim().is_empty() => {
                    return Err(Flaw::EmptyAnswer { number });
                }
                _ => previous = Some(speaker),
            }
        }
        let n_unanswered = usize::from(previous == Some(Speaker::User));
        messages.truncate(messages.len() - n_unanswered);
        if messages.len() < 2 {
            return Err(Flaw::NoAnswer);
        }
        Ok(Self { messages, n_unanswered })
    }

    /// All messages; the last one is the assistant's.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The first `n_answers` answers with the messages before them.
    ///
    /// # Panics
    ///
    /// If `n_answers` is 0 or more than the conversation has.
    pub(crate) fn with_answers(&self, n_answers: usize) -> Self {
        let last = self.answers().nth(n_answers - 1).expect("the conversation has the answer");
        Self { messages: self.messages[..=last].to_vec(), n_unanswered: 0 }
    }

    /// The number of user messages that were dropped at the end: 0 or 1.
    pub fn n_unanswered(&self) -> usize {
        self.n_unanswered
    }

    /// The indices of the assistant's messages.
    pub fn answers(&self) -> impl DoubleEndedIterator<Item = usize> + ExactSizeIterator {
        let first = self.messages.len() % 2;
        (0..self.messages.len() / 2).map(move |turn| first + 2 * turn + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(roles: &str) -> Vec<Message> {
        roles
            .chars()
            .map(|role| match role {
                's' => Message::system("be kind"),
                'u' => Message::user("hello"),
                'a' => Message::assistant("hello!"),
                _ => Message::assistant(" \n"),
            })
            .collect()
    }

    #[test]
    fn valid_orders_are_accepted() {
        for (roles, answers) in
            [("ua", &[1][..]), ("sua", &[2]), ("uaua", &[1, 3]), ("suaua", &[2, 4]), ("uau", &[1])]
        {
            let conversation = Conversation::new(messages(roles)).unwrap();
            assert_eq!(conversation.answers().collect::<Vec<_>>(), answers, "{roles}");
            assert!(answers.iter().all(|&idx| conversation.messages()[idx].role == "assistant"));
            assert_eq!(conversation.n_unanswered(), usize::from(roles.ends_with('u')), "{roles}");
        }
    }

    #[test]
    fn other_orders_are_refused_with_the_message() {
        for (roles, expected) in [
            ("", "no messages"),
            ("s", "no message of the assistant"),
            ("u", "no message of the assistant"),
            ("su", "no message of the assistant"),
            ("a", "message 1 is the assistant's, but a conversation starts with the user"),
            ("sa", "message 2 is the assistant's, but a conversation starts with the user"),
            ("uua", "messages 1 and 2 are both from the user"),
            ("uaa", "messages 2 and 3 are both from the assistant"),
            ("uasua", "message 3 is a system message"),
            ("ssua", "message 2 is a system message"),
            ("ue", "message 2 (assistant) is empty"),
            ("uaue", "message 4 (assistant) is empty"),
        ] {
            let flaw = Conversation::new(messages(roles)).unwrap_err().to_string();
            assert!(flaw.starts_with(expected), "{roles}: {flaw}");
        }
    }

    #[test]
    fn an_unknown_role_is_refused_by_name() {
        let message = Message { role: "critic".to_owned(), content: "Boo!".to_owned() };
        let flaw = Conversation::new(vec![Message::user("hello"), message]).unwrap_err();
        assert!(flaw.to_string().starts_with("message 2 has the unknown role \"critic\""), "{flaw}");
    }
}
