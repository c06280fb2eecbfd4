//! The tag `{% generation %}`, with which transformers finds the assistant's text in a conversation.
//!
//! It does not change the rendered text. Like any block of its own scope, it is the same as `{% with %}`, which the
//! template engine knows. Only the names of the tags are replaced, so lines and whitespace control stay.

use std::{borrow::Cow, ops::Range};

/// The template with `with` and `endwith` instead of `generation` and `endgeneration`.
pub(crate) fn without_generation_tags(source: &str) -> Cow<'_, str> {
    if !source.contains("generation") {
        return Cow::Borrowed(source);
    }
    let mut replaced = String::new();
    let mut copied = 0;
    for name in tag_names(source) {
        let substitute = match &source[name.clone()] {
            "generation" => "with",
            "endgeneration" => "endwith",
            _ => continue,
        };
        replaced += &source[copied..name.start];
        replaced += substitute;
        copied = name.end;
    }
    replaced += &source[copied..];
    Cow::Owned(replaced)
}

/// The positions of the names of all tags `{% name %}`, outside comments, expressions, strings and raw blocks.
fn tag_names(source: &str) -> Vec<Range<usize>> {
    let mut names = Vec::new();
    let mut position = 0;
    let mut is_raw = false;
    while let Some(offset) = source[position..].find('{') {
        let start = position + offset + 2;
        position = match source.as_bytes().get(start - 1) {
            Some(b'%') => {
                let name = tag_name(source, start);
                match &source[name.clone()] {
                    "endraw" => is_raw = false,
                    "raw" => is_raw = true,
                    _ => {}
                }
                let end = if is_raw { name.end } else { end_of_code(source, name.end, "%}") };
                if !is_raw {
                    names.push(name);
                }
                end
            }
            Some(b'{') if !is_raw => end_of_code(source, start, "}}"),
            Some(b'#') if !is_raw => source[start..].find("#}").map_or(source.len(), |end| start + end + 2),
            _ => start - 1,
        };
    }
    names
}

/// The position of the name of a tag that starts after `{%`.
fn tag_name(source: &str, start: usize) -> Range<usize> {
    let tag = &source[start..];
    let tag = tag.strip_prefix(['-', '+']).unwrap_or(tag).trim_start();
    let n_bytes = tag.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(tag.len());
    let start = source.len() - tag.len();
    start..start + n_bytes
}

/// The position after the end of a tag or expression; the end within a string or brackets does not count.
fn end_of_code(source: &str, start: usize, end: &str) -> usize {
    let bytes = source.as_bytes();
    let (mut position, mut n_open, mut quote) = (start, 0_usize, None);
    while let Some(&byte) = bytes.get(position) {
        match (quote, byte) {
            (Some(_), b'\\') => position += 1,
            (Some(open), _) if open == byte => quote = None,
            (Some(_), _) => {}
            (None, _) if n_open == 0 && bytes[position..].starts_with(end.as_bytes()) => {
                return position + end.len();
            }
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'(' | b'[' | b'{') => n_open += 1,
            (None, b')' | b']' | b'}') => n_open = n_open.saturating_sub(1),
            (None, _) => {}
        }
        position += 1;
    }
    source.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_generation_tags_are_replaced() {
        for (source, expected) in [
            ("{% generation %}a{% endgeneration %}", "{% with %}a{% endwith %}"),
            ("{%-generation-%} a {%+ endgeneration +%}", "{%-with-%} a {%+ endwith +%}"),
            ("{{ {'a': {}} }}{%\n generation\n%}", "{{ {'a': {}} }}{%\n with\n%}"),
            ("ä{ {{ '}}\\'' }}{% generation %}{", "ä{ {{ '}}\\'' }}{% with %}{"),
            ("{# {% raw %} #}{% generation %}", "{# {% raw %} #}{% with %}"),
            ("{% raw %}{{{% endraw %}{% generation %}", "{% raw %}{{{% endraw %}{% with %}"),
        ] {
            assert_eq!(without_generation_tags(source), expected);
        }
    }

    #[test]
    fn other_text_stays() {
        for source in [
            "{% if add_generation_prompt %}generation{% endif %}",
            "{# {% generation %} #}",
            "{{ '{% generation %}' }}",
            "{% set a = '{% generation %}' %}",
            "{% raw %}{% generation %}{% endraw %}",
            "{% generations %}",
            "{% generation",
            "{#generation",
            "{{ 'generation",
            "generation {",
        ] {
            let expected = if source == "{% generation" { "{% with" } else { source };
            assert_eq!(without_generation_tags(source), expected);
        }
    }
}
