//! Commands for a shell, as advice has them.

/// A path or another argument as the shell takes it.
pub fn quoted(text: &str) -> String {
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    if is_plain { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// The shell command that runs some Python.
pub(crate) fn python(code: &str) -> String {
    format!("python3 -c {}", quoted(code))
}
