//! The BOS token and the EOS tokens of a model.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{Companions, Tokenizer};

/// The tokens that begin and end texts, which no `tokenizer.json` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// The BOS token, which begins a text.
    pub bos: Option<u32>,
    /// The EOS tokens, at which a text ends, the usual one first.
    pub eos: Vec<u32>,
    /// What else the files of the model say of it and its tokens.
    pub companions: Companions,
}

impl SpecialTokens {
    /// Those that a tokenizer has of itself: what it puts before every text, and `<|endoftext|>`, which also begins the next
    /// text where nothing else does.
    pub fn of(tokenizer: &Tokenizer) -> Self {
        let end = tokenizer.end_of_text();
        Self {
            bos: tokenizer.beginning().first().copied().or(end),
            eos: end.into_iter().collect(),
            ..Self::default()
        }
    }

    /// These, and the EOS tokens of others that are not among them; the BOS token of the others where there is none.
    /// Companions stay.
    #[must_use]
    pub fn or(mut self, others: Self) -> Self {
        self.bos = self.bos.or(others.bos);
        for end in others.eos {
            if !self.eos.contains(&end) {
                self.eos.push(end);
            }
        }
        self
    }

    /// Takes out those that a model of `n_tokens` lacks, and returns them. `transformers` writes the ids of GPT-2's whole
    /// vocabulary for every GPT-2 that is not told otherwise.
    pub fn take_beyond(&mut self, n_tokens: usize) -> BTreeSet<u32> {
        let is_beyond = |id: &u32| usize::try_from(*id).map_or(true, |id| id >= n_tokens);
        let mut beyond: BTreeSet<u32> = self.eos.extract_if(.., |id| is_beyond(id)).collect();
        beyond.extend(self.bos.take_if(|id| is_beyond(id)));
        beyond
    }

    /// The usual ones by their text, as a `tokenizer_config.json` has them.
    pub fn name_in(&self, file: &mut Value, tokenizer: &Tokenizer) {
        let named = [("bos_token", self.bos.as_ref()), ("eos_token", self.eos.first())];
        for (key, id) in named {
            if let Some(&id) = id.filter(|&&id| (id as usize) < tokenizer.vocab_size()) {
                file[key] = json!(tokenizer.decode(&[id]));
            }
        }
    }

    /// As Hugging Face's files have them.
    pub fn write_to(&self, file: &mut Value) {
        file["bos_token_id"] = json!(self.bos);
        // None is null, one is a number.
        file["eos_token_id"] = match self.eos[..] {
            [] => Value::Null,
            [end] => json!(end),
            _ => json!(self.eos),
        };
    }

    /// What one of Hugging Face's files says; `None` of what it does not say.
    pub fn read(file: &Value) -> (Option<u32>, Option<Vec<u32>>) {
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let ends = match &file["eos_token_id"] {
            Value::Array(ids) => ids.iter().map(id).collect(),
            one => id(one).map(|id| vec![id]),
        };
        (id(&file["bos_token_id"]), ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(bos: Option<u32>, eos: &[u32]) -> SpecialTokens {
        SpecialTokens { bos, eos: eos.to_vec(), ..SpecialTokens::default() }
    }

    #[test]
    fn special_tokens_are_read_as_they_were_written() {
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
    fn ids_beyond_the_vocabulary_are_taken_out() {
        let taken = |n_tokens: usize| {
            let mut tokens = tokens(Some(1), &[2, 9]);
            let beyond: Vec<u32> = tokens.take_beyond(n_tokens).into_iter().collect();
            (beyond, tokens)
        };
        assert_eq!(taken(10), (vec![], tokens(Some(1), &[2, 9])));
        assert_eq!(taken(9), (vec![9], tokens(Some(1), &[2])));
        assert_eq!(taken(1), (vec![1, 2, 9], SpecialTokens::default()));
    }

    #[test]
    fn the_usual_ones_are_named_by_their_text() {
        let (tokenizer, mut file) = (Tokenizer::byte(), json!({ "eos_token": "?" }));
        tokens(Some(65), &[66, 67]).name_in(&mut file, &tokenizer);
        assert_eq!(
            file,
            json!({ "bos_token": tokenizer.decode(&[65]), "eos_token": tokenizer.decode(&[66]) })
        );
    }

    #[test]
    fn an_eos_token_is_there_once() {
        let (mine, theirs) = (tokens(None, &[2, 0]), tokens(Some(7), &[0, 4]));
        assert_eq!(mine.or(theirs), tokens(Some(7), &[2, 0, 4]));
    }
}
