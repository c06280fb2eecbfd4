//! The messages of a chat.

use chat::Message;
use serde_json::Value;

use super::body::Fields;
use crate::error::ApiError;

const NAME: &str = "messages";

/// Reads `messages`. A content is a string, null, or a list of texts. The role `developer` is the same as `system`.
///
/// # Errors
///
/// 400 for no messages, unknown roles, contents other than text, and calls of tools.
pub(crate) fn messages(fields: &Fields) -> Result<Vec<Message>, ApiError> {
    match fields.value(NAME).as_array().map(Vec::as_slice) {
        None | Some([]) => Err(invalid("`messages` must be a list of at least one message")),
        Some(messages) => messages.iter().enumerate().map(|(idx, value)| message(idx, value)).collect(),
    }
}

fn message(idx: usize, message: &Value) -> Result<Message, ApiError> {
    let role = match message["role"].as_str() {
        Some("developer") => "system",
        Some(role @ ("system" | "user" | "assistant" | "tool")) => role,
        _ => {
            let given = &message["role"];
            return Err(invalid(format!(
                "`messages[{idx}].role` must be developer, system, user, assistant or tool (got {given})"
            )));
        }
    };
    if message["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty()) {
        return Err(invalid(format!("`messages[{idx}]` has `tool_calls`, which are not supported")));
    }
    let content = match &message["content"] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts = parts.iter().map(|part| text(idx, part)).collect::<Result<Vec<&str>, _>>()?;
            texts.join("\n")
        }
        _ => {
            let message = format!("`messages[{idx}].content` must be a string, null or a list of parts");
            return Err(invalid(message));
        }
    };
    Ok(Message { role: role.to_owned(), content })
}

/// The text of a part `{"type": "text", "text": …}`.
fn text(idx: usize, part: &Value) -> Result<&str, ApiError> {
    match (part["type"].as_str(), part["text"].as_str()) {
        (Some("text"), Some(text)) => Ok(text),
        _ => {
            let kind = &part["type"];
            Err(invalid(format!(
                "`messages[{idx}].content` has a part of type {kind}; only text is supported"
            )))
        }
    }
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::invalid(message, Some(NAME))
}
