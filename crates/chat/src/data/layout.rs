//! The layouts of conversations.

use serde_json::{Map, Value};

use super::{
    fields::{is_present, keys, kind, messages, messages_or_text, text},
    kinds::Kinds,
};
use crate::{Conversation, Flaw, Message, Speaker};

/// The conversation of a row in any of the layouts.
pub(crate) fn conversation(row: Value) -> Result<Conversation, Flaw> {
    let mut row = object(row)?;
    let mut found = if let Some(value) = row.remove("messages") {
        messages("messages", value)?
    } else if let Some(value) = row.remove("conversations") {
        messages("conversations", value)?
    } else if row.contains_key("prompt") && row.contains_key("completion") {
        let prompt = row.remove("prompt").unwrap_or_default();
        let completion = row.remove("completion").unwrap_or_default();
        let mut found = messages_or_text("prompt", prompt, Speaker::User)?;
        found.extend(messages_or_text("completion", completion, Speaker::Assistant)?);
        found
    } else if row.contains_key("instruction") && row.contains_key("output") {
        let mut question = text(&mut row, "instruction")?;
        let input = text(&mut row, "input")?;
        if !input.trim().is_empty() {
            question += "\n\n";
            question += &input;
        }
        vec![Message::user(question), Message::assistant(text(&mut row, "output")?)]
    } else {
        return Err(unknown(&row));
    };
    add_system(&mut row, &mut found)?;
    Conversation::new(found)
}

/// The flaw of a row without the keys of a layout.
fn unknown(row: &Map<String, Value>) -> Flaw {
    if Kinds::of_keys(row).preferences {
        return Flaw::OtherKind { found: "a pair of answers", preset: "dpo" };
    }
    let halves = [("prompt", "completion"), ("instruction", "output")];
    let both_ways = halves.into_iter().flat_map(|(one, other)| [(one, other), (other, one)]);
    match both_ways.into_iter().find(|(present, _)| row.contains_key(*present)) {
        Some((present, missing)) => Flaw::MissingKey { present, missing },
        None => Flaw::UnknownLayout { keys: keys(row) },
    }
}

/// The object of a row, without keys that can't be ignored.
pub(crate) fn object(row: Value) -> Result<Map<String, Value>, Flaw> {
    let row = match row {
        Value::Object(row) => row,
        other => return Err(Flaw::NotAnObject { found: kind(&other) }),
    };
    for (key, advice) in [
        ("tools", "remove conversations with tools"),
        ("images", "remove conversations with images"),
        ("history", "use `messages`, which have all turns"),
    ] {
        if is_present(row.get(key)) {
            return Err(Flaw::UnsupportedKey { key, advice });
        }
    }
    Ok(row)
}

/// Puts the system message of a row before messages that have none.
pub(crate) fn add_system(row: &mut Map<String, Value>, messages: &mut Vec<Message>) -> Result<(), Flaw> {
    let system = text(row, "system")?;
    if !system.is_empty() && messages.first().is_none_or(|message| message.role != Speaker::System.role()) {
        messages.insert(0, Message::system(system));
    }
    Ok(())
}
