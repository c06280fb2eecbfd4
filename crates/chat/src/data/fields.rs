//! The fields of JSON objects.

use serde_json::{Map, Value};

use crate::{Flaw, Message, Speaker};

/// Keys of a message that can't be ignored, as they change what the assistant says, and advice.
const UNSUPPORTED: [(&str, &str); 5] = [
    ("tool_calls", "remove the conversation"),
    ("function_call", "remove the conversation"),
    ("reasoning_content", "put it into the content, as <think>TEXT</think>"),
    ("thinking", "put it into the content, as <think>TEXT</think>"),
    ("images", "remove the conversation"),
];

/// Keys with which other programs leave an answer out of training, by 0 or false.
const TRAINED_KEYS: [&str; 3] = ["weight", "train", "loss"];

/// Roles of tools.
const TOOL_ROLES: [&str; 6] =
    ["tool", "function", "observation", "function_call", "function_response", "ipython"];

/// The kind of a value, for messages.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The sorted keys of an object.
pub(crate) fn keys(object: &Map<String, Value>) -> Vec<String> {
    let mut keys: Vec<String> = object.keys().cloned().collect();
    keys.sort();
    keys
}

/// Whether a value is present, so that ignoring it would lose something.
pub(crate) fn is_present(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(items)) => !items.is_empty(),
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Bool(_) | Value::Number(_)) => true,
    }
}

/// The messages of a list.
pub(crate) fn messages(key: &'static str, value: Value) -> Result<Vec<Message>, Flaw> {
    match value {
        Value::Array(items) => (1..).zip(items).map(|(number, item)| message(number, item)).collect(),
        other => Err(Flaw::RowType { key, expected: "a list of messages", found: kind(&other) }),
    }
}

/// Messages of a list, or one message whose text the value is.
pub(crate) fn messages_or_text(
    key: &'static str,
    value: Value,
    speaker: Speaker,
) -> Result<Vec<Message>, Flaw> {
    match value {
        Value::String(content) => Ok(vec![Message { role: speaker.role().to_owned(), content }]),
        Value::Array(_) => messages(key, value),
        other => Err(Flaw::RowType { key, expected: "text or a list of messages", found: kind(&other) }),
    }
}

/// The text of a key of a row; empty if it is missing or null.
pub(crate) fn text(row: &mut Map<String, Value>, key: &'static str) -> Result<String, Flaw> {
    match row.remove(key) {
        Some(Value::String(text)) => Ok(text),
        None | Some(Value::Null) => Ok(String::new()),
        Some(other) => Err(Flaw::RowType { key, expected: "text", found: kind(&other) }),
    }
}

/// A message `{role, content}` or `{from, value}`.
fn message(number: usize, value: Value) -> Result<Message, Flaw> {
    let mut object = match value {
        Value::Object(object) => object,
        other => return Err(Flaw::MessageType { number, found: kind(&other) }),
    };
    if let Some(&(key, advice)) = UNSUPPORTED.iter().find(|(key, _)| is_present(object.get(*key))) {
        return Err(Flaw::UnsupportedField { number, key, advice });
    }
    let (role_key, content_key) = match object.contains_key("from") {
        true => ("from", "value"),
        false => ("role", "content"),
    };
    let missing = |key: &'static str| Flaw::MissingField { number, key, keys: keys(&object) };
    let (no_role, no_content) = (missing(role_key), missing(content_key));
    let role = match object.remove(role_key).ok_or(no_role)? {
        Value::String(role) => role,
        other => {
            return Err(Flaw::FieldType { number, key: role_key, expected: "text", found: kind(&other) });
        }
    };
    if TOOL_ROLES.contains(&role.as_str()) {
        return Err(Flaw::ToolRole { number, role });
    }
    let Some(speaker) = Speaker::of(&role) else { return Err(Flaw::UnknownRole { number, role }) };
    if speaker == Speaker::Assistant
        && let Some((key, value)) = untrained(&object)
    {
        return Err(Flaw::Untrained { number, key, value });
    }
    let content = content(number, content_key, object.remove(content_key).ok_or(no_content)?)?;
    Ok(Message { role: speaker.role().to_owned(), content })
}

/// The key that leaves a message out of training or changes its weight, and its value.
fn untrained(message: &Map<String, Value>) -> Option<(&'static str, String)> {
    let is_trained =
        |value: &Value| matches!(value, Value::Null | Value::Bool(true)) || value.as_f64() == Some(1.0);
    let mut values = TRAINED_KEYS.into_iter().filter_map(|key| Some((key, message.get(key)?)));
    values.find(|(_, value)| !is_trained(value)).map(|(key, value)| (key, value.to_string()))
}

/// The text of a message, whose parts are joined.
fn content(number: usize, key: &'static str, value: Value) -> Result<String, Flaw> {
    let wrong = |value: &Value| Flaw::FieldType { number, key, expected: "text", found: kind(value) };
    match value {
        Value::String(text) => Ok(text),
        Value::Array(parts) => parts
            .into_iter()
            .map(|part| match part {
                Value::String(text) => Ok(text),
                Value::Object(mut part) => {
                    let text = part.remove("text");
                    match (part.get("type").and_then(Value::as_str).unwrap_or("text"), text) {
                        ("text", Some(Value::String(text))) => Ok(text),
                        ("text", text) => Err(wrong(&text.unwrap_or_default())),
                        (kind, _) => Err(Flaw::NotText { number, kind: kind.to_owned() }),
                    }
                }
                other => Err(wrong(&other)),
            })
            .collect(),
        other => Err(wrong(&other)),
    }
}
