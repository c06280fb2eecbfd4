//! GPT-2's pre-tokenization: the pieces that merges never cross.

use std::sync::LazyLock;

use regex::Regex;

/// GPT-2's pattern (`encoder.py`) without its `\s+(?!\S)`: a regular expression that runs in linear time has
/// no look-ahead, so [`pieces`] does that part. Anchored, as every character is in some piece.
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
/// Before white space if there is any after something else, as for the other tokenizers; otherwise after a letter or a digit that
/// something else follows, as no piece goes on there. `|` does not count: `<|endoftext|>` stays whole.
///
/// `None` if there is no such place, as in one word of any length.
pub fn last_border(text: &str) -> Option<usize> {
    let after_word = || {
        let found = WORD_END.find_iter(text).last()?;
        Some(found.start() + found.as_str().chars().next()?.len_utf8())
    };
    last_space(text).or_else(after_word)
}

/// The last place before white space which follows something else.
///
/// No piece holds both, and what comes before a piece never changes it.
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
        assert_eq!(last_space("é\u{3000}x，y"), Some(2));
        assert_eq!(last_space("x，y"), None);
    }

    #[test]
    fn without_white_space_a_border_is_after_the_last_word_that_ends() {
        assert_eq!(last_border("你好，世界"), Some("你好".len()));
        assert_eq!(last_border("ab12!?34"), Some(4));
        assert_eq!(last_border("don't"), Some(3));
        assert_eq!(last_border("a<|endoftext|>b"), Some(1));
        assert_eq!(last_border("，，ab"), None);
        // An accent that is a character of its own is no letter.
        assert_eq!(last_border("e\u{301}e"), Some(1));
    }
}
