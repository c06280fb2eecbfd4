//! EOS tokens that are recognised by their text.
//!
//! The GGUF file of a chat model names one EOS token, often not the one that ends an answer. llama.cpp finds the others
//! by their text, whatever their type, and so does [`Vocabulary::read`]. The texts are those of `special_eog_ids` in
//! its `src/llama-vocab.cpp` (as of 2026), which `llama_vocab_is_eog` tests: ends of texts and turns, and the
//! fill-in-the-middle tokens for padding and between files.

use super::{TokenKind, Vocabulary};

/// Texts of tokens that end a text, a turn or a message.
const EOS_TEXTS: [&str; 20] = [
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

/// The keys of EOS tokens, the default one first.
pub(super) const EOS_KEYS: [&str; 3] = ["eos_token_id", "eot_token_id", "eom_token_id"];

/// The keys of fill-in-the-middle tokens that also stop generation.
pub(super) const FIM_KEYS: [&str; 3] = ["fim_pad_token_id", "fim_rep_token_id", "fim_sep_token_id"];

/// Their texts if no key names them. The first token found counts.
const FIM_TEXTS: [&[&str]; 3] = [
    &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"],
    &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"],
    &["<|file_sep|>"],
];

impl Vocabulary {
    /// The ids of EOS tokens by their text, sorted. `named` returns the token of a key.
    pub(super) fn eos_by_text(&self, named: impl Fn(&str) -> Option<u32>) -> Vec<u32> {
        let ids = || (0_u32..).zip(&self.tokens).filter(|(_, token)| token.kind != TokenKind::Unused);
        let is_one_of = |texts: &[&str], text: &str| texts.contains(&text);
        let mut eos: Vec<u32> =
            ids().filter(|(_, token)| is_one_of(&EOS_TEXTS, &token.text)).map(|(id, _)| id).collect();
        for (key, texts) in FIM_KEYS.into_iter().zip(FIM_TEXTS) {
            let first = || ids().find(|(_, token)| is_one_of(texts, &token.text)).map(|(id, _)| id);
            eos.extend(named(key).or_else(first));
        }
        eos.sort_unstable();
        eos.dedup();
        eos
    }

    /// Removes tokens from `eos` that only end a part of an answer, if other tokens end the whole answer.
    pub(super) fn retain_final_eos(&self, eos: &mut Vec<u32>) {
        let text = |id: u32| self.tokens.get(id as usize).map(|token| token.text.as_str());
        let has = |texts: &[&str]| eos.iter().any(|&id| text(id).is_some_and(|text| texts.contains(&text)));
        let calls = has(&["<|call|>", "<|calls|>"]);
        let ends_message = calls && (has(&["<|return|>"]) || has(&["<|flush|>"]));
        let ends_turn = has(&["<|tool_response>"]);
        eos.retain(|&id| match text(id) {
            Some("<|end|>") => !ends_message,
            Some("</s>") => !ends_turn,
            _ => true,
        });
    }

    /// The EOS tokens that need a key: the default one, and those that are not found by their text.
    pub(super) fn eos_by_key(&self) -> Vec<u32> {
        let found = self.eos_by_text(|_| None);
        let needs_key = |(idx, id): &(usize, &u32)| *idx == 0 || !found.contains(id);
        self.eos.iter().enumerate().filter(needs_key).map(|(_, &id)| id).collect()
    }

    /// The tokens outside [`Self::eos`] that llama.cpp treats as EOS because of their text.
    pub fn eos_added_by_text(&self) -> Vec<u32> {
        let mut eos = self.eos_by_text(|_| None);
        eos.extend(&self.eos);
        self.retain_final_eos(&mut eos);
        eos.retain(|id| !self.eos.contains(id));
        eos
    }

    /// The tokens of [`Self::eos`] for which GGUF has no key, so that llama.cpp does not stop at them.
    pub fn eos_left_out(&self) -> Vec<u32> {
        self.eos_by_key().into_iter().skip(EOS_KEYS.len()).collect()
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
    fn eos_tokens_are_found_by_their_text() {
        let mut special =
            vocabulary(&["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<reponame>", "</s"]);
        // As llama.cpp reports for SmolLM2.
        assert_eq!(special.eos_by_text(|_| None), [0, 2, 4]);
        let named = |key: &str| (key == "fim_rep_token_id").then_some(3);
        assert_eq!(special.eos_by_text(named), [0, 2, 3]);
        special.tokens[2].kind = TokenKind::Unused;
        special.tokens[0].kind = TokenKind::Normal;
        assert_eq!(special.eos_by_text(|_| None), [0, 4]);
    }

    #[test]
    fn ends_of_parts_are_removed_if_others_end_the_whole_answer() {
        let final_eos = |texts: &[&str]| {
            let vocabulary = vocabulary(texts);
            let mut eos = vocabulary.eos_by_text(|_| None);
            vocabulary.retain_final_eos(&mut eos);
            eos
        };
        assert_eq!(final_eos(&["<|end|>", "<|return|>"]), [0, 1]);
        assert_eq!(final_eos(&["<|end|>", "<|return|>", "<|call|>"]), [1, 2]);
        assert_eq!(final_eos(&["<|flush|>", "<|end|>", "<|calls|>"]), [0, 2]);
        assert_eq!(final_eos(&["</s>", "<eos>"]), [0, 1]);
        assert_eq!(final_eos(&["</s>", "<eos>", "<|tool_response>"]), [1, 2]);
    }

    #[test]
    fn unwanted_eos_tokens_by_text_are_reported() {
        let mut special = vocabulary(&["<|endoftext|>", "<|im_start|>", "<|im_end|>"]);
        special.eos = vec![0, 2];
        assert_eq!(special.eos_added_by_text(), [0_u32; 0]);
        special.eos = vec![0];
        assert_eq!(special.eos_added_by_text(), [2]);
    }

    #[test]
    fn keys_name_tokens_that_are_not_found_by_text() {
        let mut with_eos = vocabulary(&["</s>", "<|im_end|>", "a", "b", "c"]);
        with_eos.eos = vec![1, 0, 4, 2];
        assert_eq!((with_eos.eos_by_key(), with_eos.eos_left_out()), (vec![1, 4, 2], vec![]));
        with_eos.eos.push(3);
        assert_eq!(with_eos.eos_left_out(), [3]);
    }
}
