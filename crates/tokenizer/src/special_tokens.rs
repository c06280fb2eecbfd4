//! The BOS token and the EOS tokens of a model.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::{Companions, Tokenizer};

/// The keys of special tokens in `tokenizer_config.json`.
const NAMES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// The BOS and EOS tokens of a model, which a `tokenizer.json` does not have, and its companion data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    pub bos: Option<u32>,
    /// The EOS tokens, the default one first. Generation stops at any of them.
    pub eos: Vec<u32>,
    pub companions: Companions,
}

impl SpecialTokens {
    /// The special tokens that follow from a tokenizer: BOS is its [prompt prefix](Tokenizer::prompt_prefix), EOS
    /// `<|endoftext|>`. Without a prefix, `<|endoftext|>` is BOS too.
    pub fn of(tokenizer: &Tokenizer) -> Self {
        let end_of_text = tokenizer.end_of_text();
        Self {
            bos: tokenizer.prompt_prefix().first().copied().or(end_of_text),
            eos: end_of_text.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Adds the EOS tokens of `others`, and their BOS token if `self` has none. Companions stay.
    #[must_use]
    pub fn or(mut self, others: Self) -> Self {
        self.bos = self.bos.or(others.bos);
        for id in others.eos {
            if !self.eos.contains(&id) {
                self.eos.push(id);
            }
        }
        self
    }

    /// Removes ids outside a vocabulary of `n_tokens`, and returns them. `transformers` writes 50256, GPT-2's default,
    /// into every `config.json` of a GPT-2 that sets no other id.
    pub fn remove_out_of_range(&mut self, n_tokens: usize) -> BTreeSet<u32> {
        let is_out_of_range = |id: &u32| usize::try_from(*id).map_or(true, |id| id >= n_tokens);
        let mut removed: BTreeSet<u32> = self.eos.extract_if(.., |id| is_out_of_range(id)).collect();
        removed.extend(self.bos.take_if(|id| is_out_of_range(id)));
        removed
    }

    /// Writes `bos_token` and `eos_token` into a `tokenizer_config.json`: the texts of BOS and of the default EOS
    /// token.
    pub fn write_texts_to(&self, file: &mut Value, tokenizer: &Tokenizer) {
        let named = [("bos_token", self.bos.as_ref()), ("eos_token", self.eos.first())];
        for (key, id) in named {
            if let Some(&id) = id.filter(|&&id| (id as usize) < tokenizer.vocab_size()) {
                file[key] = json!(tokenizer.decode(&[id]));
            }
        }
    }

    /// The texts of all special tokens by their keys in `tokenizer_config.json`, for a chat template.
    pub fn texts(&self, tokenizer: &Tokenizer) -> BTreeMap<String, String> {
        let mut file = json!({});
        self.write_texts_to(&mut file, tokenizer);
        let text = |name: &str| self.companions.token(name).or(file[name].as_str()).map(str::to_owned);
        NAMES.into_iter().filter_map(|name| Some((name.to_owned(), text(name)?))).collect()
    }

    /// Writes `bos_token_id` and `eos_token_id` into a Hugging Face `config.json` or `generation_config.json`.
    pub fn write_to(&self, file: &mut Value) {
        file["bos_token_id"] = json!(self.bos);
        file["eos_token_id"] = match self.eos[..] {
            [] => Value::Null,
            [id] => json!(id),
            _ => json!(self.eos),
        };
    }

    /// Reads the BOS and EOS ids of a Hugging Face file; `None` for missing or invalid keys.
    pub fn read(file: &Value) -> (Option<u32>, Option<Vec<u32>>) {
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let eos = match &file["eos_token_id"] {
            Value::Array(ids) => ids.iter().map(id).collect(),
            one => id(one).map(|id| vec![id]),
        };
        (id(&file["bos_token_id"]), eos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(bos: Option<u32>, eos: &[u32]) -> SpecialTokens {
        SpecialTokens { bos, eos: eos.to_vec(), ..SpecialTokens::default() }
    }

    #[test]
    fn special_tokens_survive_the_round_trip() {
        for (bos, eos) in [(Some(1), &[2][..]), (None, &[5, 3]), (Some(0), &[])] {
            let mut file = json!({ "model_type": "llama" });
            tokens(bos, eos).write_to(&mut file);
            assert_eq!(SpecialTokens::read(&file), (bos, Some(eos.to_vec()).filter(|eos| !eos.is_empty())));
        }
        assert_eq!(
            SpecialTokens::read(&json!({ "bos_token_id": -1, "eos_token_id": [1, "x"] })),
            (None, None)
        );
    }

    #[test]
    fn ids_out_of_range_are_removed() {
        let removed = |n_tokens: usize| {
            let mut tokens = tokens(Some(1), &[2, 9]);
            let ids: Vec<u32> = tokens.remove_out_of_range(n_tokens).into_iter().collect();
            (ids, tokens)
        };
        assert_eq!(removed(10), (vec![], tokens(Some(1), &[2, 9])));
        assert_eq!(removed(9), (vec![9], tokens(Some(1), &[2])));
        assert_eq!(removed(1), (vec![1, 2, 9], SpecialTokens::default()));
    }

    #[test]
    fn the_default_tokens_are_written_as_text() {
        let (tokenizer, mut file) = (Tokenizer::byte(), json!({ "eos_token": "?" }));
        tokens(Some(65), &[66, 67]).write_texts_to(&mut file, &tokenizer);
        assert_eq!(
            file,
            json!({ "bos_token": tokenizer.decode(&[65]), "eos_token": tokenizer.decode(&[66]) })
        );
    }

    #[test]
    fn texts_of_the_model_folder_take_precedence() {
        let folder = tempfile::tempdir().unwrap();
        let config =
            json!({ "eos_token": "</turn>", "pad_token": { "content": "<pad>" }, "padding_side": "left" });
        std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        let companions = Companions::read(folder.path(), &json!({})).unwrap();
        let tokens = SpecialTokens { companions, ..tokens(Some(65), &[66, 67]) };
        let texts: Vec<(String, String)> = tokens.texts(&Tokenizer::byte()).into_iter().collect();
        let expected = [("bos_token", "A"), ("eos_token", "</turn>"), ("pad_token", "<pad>")];
        assert_eq!(texts, expected.map(|(name, text)| (name.to_owned(), text.to_owned())));
    }

    #[test]
    fn merged_eos_tokens_have_no_duplicates() {
        let (mine, theirs) = (tokens(None, &[2, 0]), tokens(Some(7), &[0, 4]));
        assert_eq!(mine.or(theirs), tokens(Some(7), &[2, 0, 4]));
    }
}
