//! GPT-2's pre-tokenization: the pieces that merges never cross.

use std::sync::LazyLock;

use regex::Regex;

/// GPT-2's pattern (`encoder.py`) without its `\s+(?!\S)`: a regular expression that runs in linear time has
/// no look-ahead, so [`pieces`] does that part. Anchored, as every character is in some piece.
static PIECE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^(?:'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+)")
        .expect("the pattern is a valid regular expression")
});

/// Cuts `text` into words with the space before each, numbers, punctuation and white space.
pub(crate) fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let found = PIECE.find(rest)?;
        let end = match found.as_str().char_indices().next_back() {
            // White space before a word leaves its last character to that word.
            Some((last, character)) if last > 0 && character.is_whitespace() && found.end() < rest.len() => {
                last
            }
            _ => found.end(),
        };
        let (piece, later) = rest.split_at(end);
        rest = later;
        Some(piece)
    })
}

/// The last place where `text` can be cut so that both parts have the pieces that the whole has there.
///
/// That is before white space which follows something else: no piece holds both, and what comes before a
/// piece never changes it.
pub(crate) fn last_border(text: &str) -> Option<usize> {
    let mut characters = text.char_indices().rev();
    let mut later = characters.next()?;
    for earlier in characters {
        if later.1.is_whitespace() && !earlier.1.is_whitespace() {
            return Some(later.0);
        }
        later = earlier;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_those_of_gpt2() {
        let check = |text: &str, expected: &[&str]| {
            assert_eq!(pieces(text).collect::<Vec<_>>(), expected, "{text:?}");
        };
        check("", &[]);
        check("Hello, world!", &["Hello", ",", " world", "!"]);
        check("I'll don't 'til", &["I", "'ll", " don", "'t", " '", "til"]);
        check("a  b   \n\n c", &["a", " ", " b", "   \n\n", " c"]);
        check("a\n\tb\t", &["a", "\n", "\t", "b", "\t"]);
        check("x 123y  ", &["x", " 123", "y", "  "]);
        check("你好 ¿é٣", &["你好", " ¿", "é", "٣"]);
    }

    #[test]
    fn a_border_is_before_the_last_white_space_after_something() {
        assert_eq!(last_border("one two  three"), Some(7));
        assert_eq!(last_border("one two  "), Some(7));
        assert_eq!(last_border("one"), None);
        assert_eq!(last_border("  one"), None);
        assert_eq!(last_border("  "), None);
        assert_eq!(last_border("é\u{3000}x"), Some(2));
    }
}
