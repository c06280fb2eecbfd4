//! The position of each token in a text.
//!
//! Most tokenizers only join the bytes of tokens. Others add a space at the start, strip spaces beside special tokens,
//! or normalise letters. So tokens are matched from both ends of the text between two special tokens. Tokens that match
//! from neither end share the text that is left.

use std::{iter, ops::Range};

use tokenizer::Tokenizer;

/// The byte range of each token in `text`. Ranges are in order, and those of tokens that can't be told apart are equal. A
/// token that is only an added space has an empty range.
pub(crate) fn token_ranges(tokenizer: &Tokenizer, ids: &[u32], text: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::with_capacity(ids.len());
    // The tokens since the last special one, which ends at `position`.
    let (mut plain, mut position) = (Vec::new(), 0);
    for &id in ids {
        let token = tokenizer.token_bytes(id).unwrap_or_default();
        let special = if tokenizer.is_special(id) { find(token, text, position) } else { None };
        // The token of an unknown word is special too, but its text is not there.
        let Some(special) = special else {
            plain.push(token);
            continue;
        };
        add_plain_ranges(&plain, text.as_bytes(), position..special.start, &mut ranges);
        plain.clear();
        position = special.end;
        ranges.push(special);
    }
    add_plain_ranges(&plain, text.as_bytes(), position..text.len(), &mut ranges);
    ranges
}

/// The first range of a token in a text from a position on.
fn find(token: &[u8], text: &str, position: usize) -> Option<Range<usize>> {
    let token = str::from_utf8(token).ok().filter(|token| !token.is_empty())?;
    let start = position + text[position..].find(token)?;
    Some(start..start + token.len())
}

/// Adds the ranges of tokens that are not special, in a range of the text.
fn add_plain_ranges(tokens: &[&[u8]], text: &[u8], range: Range<usize>, ranges: &mut Vec<Range<usize>>) {
    let n_bytes: usize = tokens.iter().map(|token| token.len()).sum();
    let has_added_space = n_bytes == range.len() + 1;
    let Range { mut start, mut end } = range;
    let mut n_matched = 0;
    for (idx, token) in tokens.iter().enumerate() {
        let token = match token.strip_prefix(b" ") {
            Some(rest) if idx == 0 && has_added_space => rest,
            _ => token,
        };
        let Some(found) = first(token, text, start..end) else { break };
        start = found.end;
        ranges.push(found);
        n_matched += 1;
    }
    let unmatched = &tokens[n_matched..];
    let mut from_end = Vec::new();
    for token in unmatched.iter().rev() {
        let rest = &text[start..end];
        if token.is_empty() || !rest.ends_with(token) {
            break;
        }
        from_end.push(end - token.len()..end);
        end -= token.len();
    }
    ranges.extend(iter::repeat_n(start..end, unmatched.len() - from_end.len()));
    ranges.extend(from_end.into_iter().rev());
}

/// The range of a token at the start of a text, which may lack the space before it or have spaces that it lacks.
fn first(token: &[u8], text: &[u8], range: Range<usize>) -> Option<Range<usize>> {
    let rest = &text[range.clone()];
    let at = |start: usize, token: &[u8]| range.start + start..range.start + start + token.len();
    if rest.starts_with(token) {
        return Some(at(0, token));
    }
    if let Some(token) = token.strip_prefix(b" ")
        && rest.starts_with(token)
    {
        return Some(at(0, token));
    }
    let n_spaces = rest.len() - rest.trim_ascii_start().len();
    (n_spaces > 0 && !token.is_empty() && rest[n_spaces..].starts_with(token)).then(|| at(n_spaces, token))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    const PARTS: [&str; 24] = [
        "<|im_start|>",
        "<|im_end|>",
        "<|eot_id|>",
        "<start_of_turn>",
        "<end_of_turn>",
        "</s>",
        "<think>",
        "user\n",
        "assistant\n",
        "\n\n",
        " ",
        "  ",
        "three",
        " two",
        "one, ",
        "e\u{301}",
        "é",
        "ﬁ",
        "你好",
        "🙂",
        "a",
        "\t",
        "?!",
        "<|end",
    ];

    fn plain(tokens: &[&str], text: &str) -> Vec<Range<usize>> {
        let tokens: Vec<&[u8]> = tokens.iter().map(|token| token.as_bytes()).collect();
        let mut ranges = Vec::new();
        add_plain_ranges(&tokens, text.as_bytes(), 0..text.len(), &mut ranges);
        ranges
    }

    #[test]
    fn tokens_that_join_to_the_text_have_their_bytes() {
        assert_eq!(plain(&["a", " bc", "\n"], "a bc\n"), [0..1, 1..4, 4..5]);
        assert!(plain(&[], "").is_empty());
    }

    #[test]
    fn a_space_at_the_start_may_be_added_or_stripped() {
        assert_eq!(plain(&[" a", " b"], "a b"), [0..1, 1..3]);
        assert_eq!(plain(&[" ", "a"], "a"), [0..0, 0..1]);
        assert_eq!(plain(&["  ", " "], "  "), [0..1, 1..2]);
        assert_eq!(plain(&["a", "b"], "  ab"), [2..3, 3..4]);
    }

    #[test]
    fn changed_text_is_shared_between_tokens_that_match_from_both_sides() {
        assert_eq!(plain(&["x", "é", "!", "y"], "xe\u{301}!y"), [0..1, 1..4, 4..5, 5..6]);
        assert_eq!(plain(&["x", "É", "Ö", "y"], "xéöy"), [0..1, 1..5, 1..5, 5..6]);
        assert_eq!(plain(&["<unk>", "a"], "?a"), [0..1, 1..2]);
    }

    #[test]
    fn special_tokens_anchor_the_text_between_them() {
        let tokenizer = Tokenizer::gpt2();
        let text = "one<|endoftext|>two three<|endoftext|>";
        let ids = tokenizer.encode_special(text).unwrap();
        let ranges = token_ranges(&tokenizer, &ids, text);
        assert_eq!(ranges.iter().map(|range| &text[range.clone()]).collect::<String>(), text);
        assert_eq!(ranges.len(), ids.len());
        assert_eq!(ranges[1], 3..16);
    }

    #[test]
    fn an_unknown_word_has_the_text_that_is_left() {
        let file = r#"{"version": "1.0", "pre_tokenizer": {"type": "WhitespaceSplit"},
            "added_tokens": [{"id": 0, "content": "<unk>", "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true}, {"id": 3, "content": "<end>", "single_word": false,
                "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
            "model": {"type": "WordLevel", "vocab": {"<unk>": 0, "a": 1, "b": 2, "<end>": 3}, "unk_token": "<unk>"}}"#;
        let tokenizer = Tokenizer::from_json(file).unwrap();
        let text = "a ? b<end> b";
        let ids = tokenizer.encode_special(text).unwrap();
        assert_eq!(ids, [1, 0, 2, 3, 2]);
        assert_eq!(token_ranges(&tokenizer, &ids, text), [0..1, 1..4, 4..5, 5..10, 11..12]);
    }

    proptest! {
        /// The `tokenizers` library tracks offsets through normalisation; those of a part of a character have all of it.
        #[test]
        fn ranges_are_within_the_offsets_of_the_library(
            parts in vec(select(&PARTS[..]), 0..12),
            name in select(&["chatml", "llama3", "qwen3", "gemma", "zephyr"][..]),
        ) {
            let path = format!("{}/tests/fixtures/masks/{name}.json", env!("CARGO_MANIFEST_DIR"));
            let library = tokenizers::Tokenizer::from_file(&path).unwrap();
            let tokenizer = Tokenizer::load(Path::new(&path)).unwrap();
            let text = parts.concat();
            let expected = library.encode(text.as_str(), false).unwrap();
            let ids = tokenizer.encode_special(&text).unwrap();
            prop_assert_eq!(&ids[..], expected.get_ids());
            let ranges = token_ranges(&tokenizer, &ids, &text);
            for (idx, (range, &(start, end))) in ranges.iter().zip(expected.get_offsets()).enumerate() {
                let is_within = start <= range.start && range.end <= end;
                // The library's offsets lack accents that NFC joins with their letter.
                let is_whole = name == "qwen3" && range.start <= start && end <= range.end;
                prop_assert!(is_within || is_whole, "{} of {:?}: {:?}, not {}..{}", idx, &text, range, start, end);
            }
            if ["chatml", "llama3"].contains(&name) {
                let joined = ranges.iter().map(|range| &text.as_bytes()[range.clone()]).collect::<Vec<_>>().concat();
                prop_assert_eq!(joined, text.as_bytes());
            }
        }
    }
}
