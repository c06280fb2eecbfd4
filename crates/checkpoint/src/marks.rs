//! Where texts begin and end.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokenizer::Tokenizer;

use crate::Companions;

/// The tokens that mark where a text begins and ends, which no `tokenizer.json` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// The token that begins a text.
    pub begin: Option<u32>,
    /// The tokens at which a text ends, the usual one first.
    pub ends: Vec<u32>,
    /// What else is said of the model and its tokens.
    pub companions: Companions,
}

impl Marks {
    /// Those that a tokenizer has of itself: what it puts before every text, and `<|endoftext|>`, which also begins the next
    /// text where nothing else does.
    pub fn of(tokenizer: &Tokenizer) -> Self {
        let end = tokenizer.end_of_text();
        Self {
            begin: tokenizer.beginning().first().copied().or(end),
            ends: end.into_iter().collect(),
            ..Self::default()
        }
    }

    /// These, and the ends of others that are not among them; the beginning of the others where there is none. What else is
    /// said stays.
    #[must_use]
    pub fn or(mut self, others: Self) -> Self {
        self.begin = self.begin.or(others.begin);
        for end in others.ends {
            if !self.ends.contains(&end) {
                self.ends.push(end);
            }
        }
        self
    }

    /// Takes out those that a model of `n_tokens` lacks, and returns them. `transformers` writes the ids of GPT-2's whole
    /// vocabulary for every GPT-2 that is not told otherwise.
    pub(crate) fn take_beyond(&mut self, n_tokens: usize) -> BTreeSet<u32> {
        let is_beyond = |id: &u32| usize::try_from(*id).map_or(true, |id| id >= n_tokens);
        let mut beyond: BTreeSet<u32> = self.ends.extract_if(.., |id| is_beyond(id)).collect();
        beyond.extend(self.begin.take_if(|id| is_beyond(id)));
        beyond
    }

    /// The usual ones by their text, as a `tokenizer_config.json` has them.
    pub(crate) fn name_in(&self, file: &mut Value, tokenizer: &Tokenizer) {
        let named = [("bos_token", self.begin.as_ref()), ("eos_token", self.ends.first())];
        for (key, id) in named {
            if let Some(&id) = id.filter(|&&id| (id as usize) < tokenizer.vocab_size()) {
                file[key] = json!(tokenizer.decode(&[id]));
            }
        }
    }

    /// As Hugging Face's files have them.
    pub(crate) fn write_to(&self, file: &mut Value) {
        file["bos_token_id"] = json!(self.begin);
        // None is null, one is a number.
        file["eos_token_id"] = match self.ends[..] {
            [] => Value::Null,
            [end] => json!(end),
            _ => json!(self.ends),
        };
    }

    /// What one of Hugging Face's files says; `None` of what it does not say.
    pub(crate) fn read(file: &Value) -> (Option<u32>, Option<Vec<u32>>) {
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

    #[test]
    fn marks_are_read_as_they_were_written() {
        for (begin, ends) in [(Some(1), vec![2]), (None, vec![5, 3]), (Some(0), vec![])] {
            let mut file = json!({ "model_type": "llama" });
            let marks = Marks { begin, ends: ends.clone(), ..Marks::default() };
            marks.write_to(&mut file);
            assert_eq!(Marks::read(&file), (begin, Some(ends).filter(|ends| !ends.is_empty())));
        }
        assert_eq!(Marks::read(&json!({ "bos_token_id": -1, "eos_token_id": [1, "x"] })), (None, None));
    }

    #[test]
    fn marks_beyond_the_vocabulary_are_none() {
        let marks = Marks { begin: Some(1), ends: vec![2, 9], ..Marks::default() };
        let taken = |n_tokens: usize| {
            let mut marks = marks.clone();
            let beyond: Vec<u32> = marks.take_beyond(n_tokens).into_iter().collect();
            (beyond, marks)
        };
        assert_eq!(taken(10), (vec![], marks.clone()));
        assert_eq!(taken(9), (vec![9], Marks { begin: Some(1), ends: vec![2], ..Marks::default() }));
        assert_eq!(taken(1), (vec![1, 2, 9], Marks::default()));
    }

    #[test]
    fn the_usual_marks_are_named_by_their_text() {
        let (tokenizer, mut file) = (Tokenizer::byte(), json!({ "eos_token": "?" }));
        Marks { begin: Some(65), ends: vec![66, 67], ..Marks::default() }.name_in(&mut file, &tokenizer);
        assert_eq!(
            file,
            json!({ "bos_token": tokenizer.decode(&[65]), "eos_token": tokenizer.decode(&[66]) })
        );
    }

    #[test]
    fn an_end_is_there_once() {
        let [mine, theirs] = [(None, vec![2, 0]), (Some(7), vec![0, 4])].map(|(begin, ends)| Marks {
            begin,
            ends,
            ..Marks::default()
        });
        assert_eq!(mine.or(theirs), Marks { begin: Some(7), ends: vec![2, 0, 4], ..Marks::default() });
    }
}
