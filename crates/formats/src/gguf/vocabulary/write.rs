//! A vocabulary as metadata.

use std::collections::HashMap;

use super::bytes::escaped;
use super::ends::END_KEYS;
use super::{Joins, Vocabulary};
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
        let mut keys: Vec<(&str, Value)> = match (&self.joins, self.single_bytes()) {
            (_, Some(bytes)) => {
                let tokens: Vec<String> = bytes.into_iter().map(escaped).collect();
                vec![("model", "rwkv".into()), ("tokens", tokens.into()), ("token_type", kinds.into())]
            }
            (Joins::Merges { pattern, merges }, None) => {
                let merges: Vec<String> =
                    merges.iter().map(|(left, right)| format!("{left} {right}")).collect();
                vec![
                    ("model", "gpt2".into()),
                    ("pre", pattern.name().into()),
                    ("tokens", tokens.into()),
                    ("token_type", kinds.into()),
                    // llama.cpp asks for them even where there are none.
                    ("merges", merges.into()),
                ]
            }
            (Joins::Scores { scores, adds_space }, None) => vec![
                ("model", "llama".into()),
                ("pre", "default".into()),
                ("tokens", tokens.into()),
                ("scores", Value::Array(Array::F32(scores.clone()))),
                ("token_type", kinds.into()),
                ("add_space_prefix", (*adds_space).into()),
            ],
        };
        let ends = END_KEYS.into_iter().zip(self.ends_by_key());
        let marks = self.begin_of_text.into_iter().map(|id| ("bos_token_id", id)).chain(ends);
        keys.extend(marks.map(|(key, id)| (key, id.into())));
        keys.push(("add_bos_token", self.adds_begin.into()));
        Ok(keys.into_iter().map(|(key, value)| (format!("tokenizer.ggml.{key}"), value)).collect())
    }

    /// Refuses what llama.cpp refuses or would misread.
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
        match &self.joins {
            Joins::Merges { merges, .. } => {
                let wrong = |piece: &String| piece.is_empty() || piece.contains([' ', '\n']);
                if let Some((left, right)) = merges.iter().find(|(left, right)| wrong(left) || wrong(right)) {
                    return refused(format!(
                        "the merge of {left:?} and {right:?} has a piece that is empty or has a space"
                    ));
                }
            }
            Joins::Scores { scores, .. } if scores.len() != self.tokens.len() => {
                return refused(format!("there are {} scores of {} tokens", scores.len(), self.tokens.len()));
            }
            Joins::Scores { .. } => {}
        }
        if self.adds_begin && self.begin_of_text.is_none() {
            return refused("it puts a beginning of text before every text, and has none".to_owned());
        }
        let mut marks = self.begin_of_text.iter().chain(&self.ends_of_text);
        match marks.find(|&&id| id as usize >= self.tokens.len()) {
            Some(id) => refused(format!("the mark {id} is none of the {} tokens", self.tokens.len())),
            None => Ok(()),
        }
    }
}
