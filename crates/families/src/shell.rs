//! Shell commands in messages.

/// Quotes an argument for the shell if necessary.
pub fn quoted(text: &str) -> String {
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    if is_plain { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// A shell command that runs Python code.
pub(crate) fn python(code: &str) -> String {
    format!("python3 -c {}", quoted(code))
}
