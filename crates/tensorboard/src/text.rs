//! Plain texts for TensorBoard, which renders Markdown.

/// Converts a plain text to Markdown that shows it unchanged: an indented code block.
///
/// TensorBoard renders texts as Markdown, which joins lines and hides text in angle brackets.
pub fn verbatim(text: &str) -> String {
    // In Markdown, a carriage return also ends a line.
    let lines = text.replace("\r\n", "\n");
    lines.split(['\n', '\r']).map(|line| format!("    {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_indented() {
        assert_eq!(verbatim("a\r\n\n```\rb"), "    a\n    \n    ```\n    b\n");
    }
}
