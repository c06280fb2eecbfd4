//! Tokens at which a text ends by what they are called.
//!
//! Of a chat model a GGUF file names one end, and often not the one that ends an answer: llama.cpp finds the others by
//! their text, whatever their type, and so does [`Vocabulary::read`]. The texts are those of `special_eog_ids` in its
//! `src/llama-vocab.cpp` (as of 2026), those of `llama_vocab_is_eog`: ends of texts and turns, and what fills and
//! separates files where a model completes code.

use super::{TokenKind, Vocabulary};

/// Ends of texts, turns and messages.
const ENDS: [&str; 20] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
];

/// The keys of ends, the usual one first.
pub(super) const END_KEYS: [&str; 3] = ["eos_token_id", "eot_token_id", "eom_token_id"];

/// What names the marks around files and what fills gaps in them.
pub(super) const KEYS_OF_FILES: [&str; 3] = ["fim_pad_token_id", "fim_rep_token_id", "fim_sep_token_id"];

/// What they are called where no key names them; of several one counts.
const OF_FILES: [&[&str]; 3] = [
    &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"],
    &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"],
    &["<|file_sep|>"],
];

impl Vocabulary {
    /// The tokens at which a text ends because of what they are called, by their ids. `named` gives the token of a key.
    pub(super) fn ends_by_text(&self, named: impl Fn(&str) -> Option<u32>) -> Vec<u32> {
        let ids = || (0_u32..).zip(&self.tokens).filter(|(_, token)| token.kind != TokenKind::Unused);
        let called = |texts: &[&str], text: &str| texts.contains(&text);
        let mut ends: Vec<u32> =
            ids().filter(|(_, token)| called(&ENDS, &token.text)).map(|(id, _)| id).collect();
        for (key, texts) in KEYS_OF_FILES.into_iter().zip(OF_FILES) {
            let first = || ids().find(|(_, token)| called(texts, &token.text)).map(|(id, _)| id);
            ends.extend(named(key).or_else(first));
        }
        ends.sort_unstable();
        ends.dedup();
        ends
    }

    /// Takes out of `ends` what ends a part of an answer, where other tokens end the whole of it.
    pub(super) fn retain_whole_ends(&self, ends: &mut Vec<u32>) {
        let text = |id: u32| self.tokens.get(id as usize).map(|token| token.text.as_str());
        let has = |texts: &[&str]| ends.iter().any(|&id| text(id).is_some_and(|text| texts.contains(&text)));
        let calls = has(&["<|call|>", "<|calls|>"]);
        let parts_end = calls && (has(&["<|return|>"]) || has(&["<|flush|>"]));
        let turns_end = has(&["<|tool_response>"]);
        ends.retain(|&id| match text(id) {
            Some("<|end|>") => !parts_end,
            Some("</s>") => !turns_end,
            _ => true,
        });
    }

    /// The ends that keys of a file have to name: the usual one, and those that nothing finds by their text.
    pub(super) fn ends_by_key(&self) -> Vec<u32> {
        let found = self.ends_by_text(|_| None);
        let is_named = |(place, id): &(usize, &u32)| *place == 0 || !found.contains(id);
        self.ends_of_text.iter().enumerate().filter(is_named).map(|(_, &id)| id).collect()
    }

    /// The tokens at which texts end in a GGUF file because of what they are called, though they are not among
    /// [`Self::ends_of_text`].
    pub fn ends_added(&self) -> Vec<u32> {
        let mut ends = self.ends_by_text(|_| None);
        ends.extend(&self.ends_of_text);
        self.retain_whole_ends(&mut ends);
        ends.retain(|end| !self.ends_of_text.contains(end));
        ends
    }

    /// The tokens of [`Self::ends_of_text`] that a GGUF file has no key for, so that texts go on behind them there.
    pub fn ends_left_out(&self) -> Vec<u32> {
        self.ends_by_key().into_iter().skip(END_KEYS.len()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::Token;

    fn vocabulary(texts: &[&str]) -> Vocabulary {
        let token = |text: &&str| Token { text: (*text).to_owned(), kind: TokenKind::Control };
        Vocabulary::merges(texts.iter().map(token).collect(), Vec::new())
    }

    #[test]
    fn ends_are_found_by_their_text() {
        let mut marks =
            vocabulary(&["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<reponame>", "</s"]);
        // As llama.cpp says of SmolLM2.
        assert_eq!(marks.ends_by_text(|_| None), [0, 2, 4]);
        let elsewhere = |key: &str| (key == "fim_rep_token_id").then_some(3);
        assert_eq!(marks.ends_by_text(elsewhere), [0, 2, 3]);
        marks.tokens[2].kind = TokenKind::Unused;
        marks.tokens[0].kind = TokenKind::Normal;
        assert_eq!(marks.ends_by_text(|_| None), [0, 4]);
    }

    #[test]
    fn what_ends_a_part_is_no_end_where_others_end_the_whole() {
        let whole = |texts: &[&str]| {
            let vocabulary = vocabulary(texts);
            let mut ends = vocabulary.ends_by_text(|_| None);
            vocabulary.retain_whole_ends(&mut ends);
            ends
        };
        assert_eq!(whole(&["<|end|>", "<|return|>"]), [0, 1]);
        assert_eq!(whole(&["<|end|>", "<|return|>", "<|call|>"]), [1, 2]);
        assert_eq!(whole(&["<|flush|>", "<|end|>", "<|calls|>"]), [0, 2]);
        assert_eq!(whole(&["</s>", "<eos>"]), [0, 1]);
        assert_eq!(whole(&["</s>", "<eos>", "<|tool_response>"]), [1, 2]);
    }

    #[test]
    fn an_end_by_its_text_that_is_none_is_told() {
        let mut marks = vocabulary(&["<|endoftext|>", "<|im_start|>", "<|im_end|>"]);
        marks.ends_of_text = vec![0, 2];
        assert_eq!(marks.ends_added(), [0_u32; 0]);
        marks.ends_of_text = vec![0];
        assert_eq!(marks.ends_added(), [2]);
    }

    #[test]
    fn keys_name_what_no_text_does() {
        let mut ended = vocabulary(&["</s>", "<|im_end|>", "a", "b", "c"]);
        ended.ends_of_text = vec![1, 0, 4, 2];
        assert_eq!((ended.ends_by_key(), ended.ends_left_out()), (vec![1, 4, 2], vec![]));
        ended.ends_of_text.push(3);
        assert_eq!(ended.ends_left_out(), [3]);
    }
}
