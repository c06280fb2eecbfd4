//! GPT-2's pre-tokenization: merges never cross the boundaries of pieces.

use std::sync::LazyLock;

use regex::Regex;

/// GPT-2's pattern (`encoder.py`) without its `\s+(?!\S)`: the linear-time `regex` crate has no look-ahead, so
/// [`pieces`] does that part. Anchored, since every character is in some piece.
static PIECE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^(?:'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+)")
        .expect("the pattern is a valid regular expression")
});

/// The last character of a piece of letters or digits, and the first of the next piece.
static WORD_END: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\p{L}[^\s\p{L}|]|\p{N}[^\s\p{N}|]").expect("the pattern is a valid regular expression")
});

/// Cuts `text` into words with the space before each, numbers, punctuation and white space.
pub(crate) fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let found = PIECE.find(rest)?;
        let end = match found.as_str().char_indices().next_back() {
            // The last white space before a word belongs to the word.
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

/// The last byte position where cutting `text` does not change its pieces.
///
/// It is before white space that follows another character. Without white space it is the end of a run of letters or
/// digits, where a piece always ends. A `|` after the run does not count, so that `<|endoftext|>` stays whole.
///
/// `None` if there is no such position, for example in a single word.
pub fn last_boundary(text: &str) -> Option<usize> {
    let after_word = || {
        let found = WORD_END.find_iter(text).last()?;
        Some(found.start() + found.as_str().chars().next()?.len_utf8())
    };
    last_space(text).or_else(after_word)
}

/// The last byte position before white space that follows another character.
///
/// No piece contains both, and the text before a piece never changes it.
pub(crate) fn last_space(text: &str) -> Option<usize> {
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
    fn pieces_match_gpt2() {
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
    fn a_boundary_is_before_the_last_inner_white_space() {
        assert_eq!(last_boundary("one two  three"), Some(7));
        assert_eq!(last_boundary("one two  "), Some(7));
        assert_eq!(last_boundary("one"), None);
        assert_eq!(last_boundary("  one"), None);
        assert_eq!(last_boundary("  "), None);
        assert_eq!(last_boundary("é\u{3000}x"), Some(2));
        assert_eq!(last_space("é\u{3000}x，y"), Some(2));
        assert_eq!(last_space("x，y"), None);
    }

    #[test]
    fn without_white_space_a_boundary_is_after_the_last_complete_word() {
        assert_eq!(last_boundary("你好，世界"), Some("你好".len()));
        assert_eq!(last_boundary("ab12!?34"), Some(4));
        assert_eq!(last_boundary("don't"), Some(3));
        assert_eq!(last_boundary("a<|endoftext|>b"), Some(1));
        assert_eq!(last_boundary("，，ab"), None);
        // A combining accent is not a letter.
        assert_eq!(last_boundary("e\u{301}e"), Some(1));
    }
}
