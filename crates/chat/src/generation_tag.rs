//! The tag `{% generation %}`, with which transformers finds the assistant's text in a conversation.
//!
//! It does not change the rendered text. It is a block of its own scope, as `{% with %}`, and a filter gets its text, as
//! in `{% filter %}`; the template engine knows both. Only the names of the tags are replaced, so lines and whitespace
//! control stay.

use std::{borrow::Cow, ops::Range};

use minijinja::{State, Value};

/// The name of the filter that gets the text between the tags.
pub(crate) const FILTER: &str = "generation";

/// The variable of the context that says whether the filter puts marks around the text.
const IS_MARKED: &str = "generation_is_marked";

/// The replacements of the names of the tags.
const OPENING: &str = "with %}{% filter generation";
const CLOSING: &str = "endfilter %}{% endwith";

/// The marks around the text between two tags. Unicode reserves both characters for internal use.
const MARKS: [char; 2] = ['\u{FDD0}', '\u{FDD1}'];

/// Puts marks around the text between the tags, if they are requested.
pub(crate) fn mark(state: &State, text: &str) -> String {
    match state.lookup(IS_MARKED).is_some_and(|value: Value| value.is_true()) {
        true => format!("{}{text}{}", MARKS[0], MARKS[1]),
        false => text.to_owned(),
    }
}

/// Removes the marks. Returns the text and the ranges that were between them, or `None` if the marks are not in pairs.
pub(crate) fn without_marks(marked: &str) -> Option<(String, Vec<Range<usize>>)> {
    let (mut text, mut ranges, mut start) = (String::with_capacity(marked.len()), Vec::new(), None);
    for c in marked.chars() {
        match (c, start) {
            (c, None) if c == MARKS[0] => start = Some(text.len()),
            (c, Some(start_of_range)) if c == MARKS[1] => {
                ranges.push(start_of_range..text.len());
                start = None;
            }
            (c, _) if MARKS.contains(&c) => return None,
            (c, _) => text.push(c),
        }
    }
    start.is_none().then_some((text, ranges))
}

/// The template with blocks that the engine knows instead of the tags.
pub(crate) fn with_filter_blocks(source: &str) -> Cow<'_, str> {
    if !source.contains("generation") {
        return Cow::Borrowed(source);
    }
    let mut replaced = String::new();
    let mut copied = 0;
    for name in tag_names(source) {
        let substitute = match &source[name.clone()] {
            "generation" => OPENING,
            "endgeneration" => CLOSING,
            _ => continue,
        };
        replaced += &source[copied..name.start];
        replaced += substitute;
        copied = name.end;
    }
    match copied {
        0 => Cow::Borrowed(source),
        _ => Cow::Owned(replaced + &source[copied..]),
    }
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
        for source in [
            "{% generation %}a{% endgeneration %}",
            "{%-generation-%} a {%+ endgeneration +%}",
            "{{ {'a': {}} }}{%\n generation\n%}",
            "ä{ {{ '}}\\'' }}{% generation %}{",
            "{# {% raw %} #}{% generation %}",
        ] {
            let expected =
                source.replace("endgeneration", "END").replace("generation", OPENING).replace("END", CLOSING);
            assert_eq!(with_filter_blocks(source), expected);
        }
        assert_eq!(
            with_filter_blocks("{% raw %}{{{% endraw %}{% generation %}"),
            format!("{{% raw %}}{{{{{{% endraw %}}{{% {OPENING} %}}")
        );
    }

    #[test]
    fn marks_are_removed_and_become_ranges() {
        let marked = |text: &str| text.replace('<', "\u{FDD0}").replace('>', "\u{FDD1}");
        let found = |text: &str| without_marks(&marked(text));
        assert_eq!(found("ä<bc>d<>"), Some(("äbcd".to_owned(), vec![2..4, 5..5])));
        assert_eq!(found("abc"), Some(("abc".to_owned(), vec![])));
        for unpaired in ["<a", "a>", "<<a>>", "<a><", ">a<"] {
            assert_eq!(found(unpaired), None, "{unpaired}");
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
            "{#generation",
            "{{ 'generation",
            "generation {",
        ] {
            assert!(matches!(with_filter_blocks(source), Cow::Borrowed(text) if text == source));
        }
    }
}
