//! Writing of a vocabulary as metadata.

use std::collections::HashMap;

use super::bytes::escaped;
use super::eos::EOS_KEYS;
use super::{BpeModel, Vocabulary};
use crate::gguf::{Array, Error, Result, Value};

impl Vocabulary {
    /// The keys and values that describe the vocabulary.
    ///
    /// # Errors
    ///
    /// If llama.cpp would refuse or misread it.
    pub fn metadata(&self) -> Result<Vec<(String, Value)>> {
        self.check()?;
        let kinds: Vec<i32> = self.tokens.iter().map(|token| token.kind.code()).collect();
        let tokens: Vec<String> = self.tokens.iter().map(|token| token.text.clone()).collect();
        let mut keys: Vec<(&str, Value)> = match (&self.bpe, self.single_bytes()) {
            (_, Some(bytes)) => {
                let tokens: Vec<String> = bytes.into_iter().map(escaped).collect();
                vec![("model", "rwkv".into()), ("tokens", tokens.into()), ("token_type", kinds.into())]
            }
            (BpeModel::Merges { pattern, merges }, None) => {
                let merges: Vec<String> =
                    merges.iter().map(|(left, right)| format!("{left} {right}")).collect();
                vec![
                    ("model", "gpt2".into()),
                    ("pre", pattern.name().into()),
                    ("tokens", tokens.into()),
                    ("token_type", kinds.into()),
                    // llama.cpp requires the key even if there are no merges.
                    ("merges", merges.into()),
                ]
            }
            (BpeModel::Scores { scores, adds_space }, None) => vec![
                ("model", "llama".into()),
                ("pre", "default".into()),
                ("tokens", tokens.into()),
                ("scores", Value::Array(Array::F32(scores.clone()))),
                ("token_type", kinds.into()),
                ("add_space_prefix", (*adds_space).into()),
            ],
        };
        let eos = EOS_KEYS.into_iter().zip(self.eos_by_key());
        let special = self.bos.into_iter().map(|id| ("bos_token_id", id)).chain(eos);
        keys.extend(special.map(|(key, id)| (key, id.into())));
        keys.push(("add_bos_token", self.adds_bos.into()));
        Ok(keys.into_iter().map(|(key, value)| (format!("tokenizer.ggml.{key}"), value)).collect())
    }

    /// Refuses a vocabulary that llama.cpp would refuse or misread.
    fn check(&self) -> Result<()> {
        let refused = |reason: String| Err(Error::Vocabulary { reason });
        let mut ids = HashMap::new();
        for (id, token) in self.tokens.iter().enumerate() {
            if token.text.is_empty() {
                return refused(format!("token {id} is empty"));
            }
            if let Some(first) = ids.insert(&token.text, id) {
                return refused(format!("tokens {first} and {id} are both {:?}", token.text));
            }
        }
        match &self.bpe {
            BpeModel::Merges { merges, .. } => {
                let wrong = |piece: &String| piece.is_empty() || piece.contains([' ', '\n']);
                if let Some((left, right)) = merges.iter().find(|(left, right)| wrong(left) || wrong(right)) {
                    return refused(format!(
                        "the merge of {left:?} and {right:?} has an empty half or one with a space"
                    ));
                }
            }
            BpeModel::Scores { scores, .. } if scores.len() != self.tokens.len() => {
                return refused(format!("it has {} scores for {} tokens", scores.len(), self.tokens.len()));
            }
            BpeModel::Scores { .. } => {}
        }
        if self.adds_bos && self.bos.is_none() {
            return refused("it adds a BOS token to every text, but has none".to_owned());
        }
        let mut special = self.bos.iter().chain(&self.eos);
        match special.find(|&&id| id as usize >= self.tokens.len()) {
            Some(id) => refused(format!(
                "the BOS or EOS token {id} is out of range; there are {} tokens",
                self.tokens.len()
            )),
            None => Ok(()),
        }
    }
}
