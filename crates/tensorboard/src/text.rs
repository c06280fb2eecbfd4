//! Texts that are no Markdown.

/// A text as Markdown that shows it as it is: a block of code, each line indented.
///
/// TensorBoard takes texts for Markdown, which joins the lines of a poem and hides what is between angle brackets.
pub fn verbatim(text: &str) -> String {
    // Markdown ends a line at a carriage return as well.
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
