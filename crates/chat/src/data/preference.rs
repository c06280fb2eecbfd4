//! Preferences between two answers.

use serde_json::Value;

use super::{
    fields::{keys, messages_or_text},
    kinds::Kinds,
    layout::{add_system, object},
};
use crate::{Conversation, Flaw, Message, Speaker};

/// A prompt with a preferred and another answer. The two conversations differ in their last message only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preference {
    pub chosen: Conversation,
    pub rejected: Conversation,
}

/// The preference of a row.
pub(crate) fn preference(row: Value) -> Result<Preference, Flaw> {
    let mut row = object(row)?;
    let unknown = match Kinds::of_keys(&row).conversations {
        true => Flaw::OtherKind { found: "a conversation", preset: "sft" },
        false => Flaw::NotPreference { keys: keys(&row) },
    };
    let missing = |present, missing| Flaw::MissingKey { present, missing };
    let (chosen, rejected) = match (row.remove("chosen"), row.remove("rejected")) {
        (Some(chosen), Some(rejected)) => (chosen, rejected),
        (Some(_), None) => return Err(missing("chosen", "rejected")),
        (None, Some(_)) => return Err(missing("rejected", "chosen")),
        (None, None) => return Err(unknown),
    };
    let mut chosen = messages_or_text("chosen", chosen, Speaker::Assistant)?;
    let mut rejected = messages_or_text("rejected", rejected, Speaker::Assistant)?;
    let has_prompt = |messages: &[Message]| {
        messages.first().is_some_and(|message| message.role != Speaker::Assistant.role())
    };
    let mut prompt = if has_prompt(&chosen) && has_prompt(&rejected) {
        let n_common =
            chosen.iter().zip(&rejected).take_while(|(chosen, rejected)| chosen == rejected).count();
        if n_common == chosen.len() && n_common == rejected.len() {
            return Err(Flaw::SameAnswers);
        }
        rejected.drain(..n_common);
        chosen.drain(..n_common).collect()
    } else {
        let prompt = row.remove("prompt").ok_or(missing("chosen", "prompt"))?;
        messages_or_text("prompt", prompt, Speaker::User)?
    };
    add_system(&mut row, &mut prompt)?;
    if chosen == rejected {
        return Err(Flaw::SameAnswers);
    }
    let with_answer = |key: &'static str, answer: Vec<Message>| match &answer[..] {
        [message] if message.role == Speaker::Assistant.role() => {
            Conversation::new([prompt.clone(), answer].concat())
        }
        _ => Err(Flaw::NotOneAnswer { key, n_messages: answer.len() }),
    };
    Ok(Preference { chosen: with_answer("chosen", chosen)?, rejected: with_answer("rejected", rejected)? })
}
