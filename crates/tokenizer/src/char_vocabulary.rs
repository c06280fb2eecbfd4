//! Character vocabulary: ids are looked up in a table by code point.

use crate::{Error, Result};

/// Marks a code point without an id.
const ABSENT: u32 = u32::MAX;

/// The ids of a set of characters.
#[derive(Debug, Clone)]
pub(crate) struct CharVocabulary {
    /// The id of each code point, up to the largest one in the vocabulary.
    ids: Vec<u32>,
}

impl CharVocabulary {
    /// The id of a character is its index in `chars`.
    pub(crate) fn new(chars: &[char]) -> Self {
        let n_code_points = chars.iter().max().map_or(0, |&last| last as usize + 1);
        let mut ids = vec![ABSENT; n_code_points];
        for (id, &character) in (0..).zip(chars) {
            ids[character as usize] = id;
        }
        Self { ids }
    }

    pub(crate) fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::with_capacity(text.len());
        for (offset, character) in text.char_indices() {
            match self.ids.get(character as usize) {
                Some(&id) if id != ABSENT => ids.push(id),
                _ => return Err(unknown_character(text, offset, character)),
            }
        }
        Ok(ids)
    }
}

fn unknown_character(text: &str, offset: usize, character: char) -> Error {
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Error::UnknownCharacter {
        character,
        offset,
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_index_in_the_vocabulary() {
        let vocabulary = CharVocabulary::new(&['\n', 'a', 'é', '🙂']);
        assert_eq!(vocabulary.encode("🙂aé\na").unwrap(), [3, 1, 2, 0, 1]);
        assert!(vocabulary.encode("").unwrap().is_empty());
    }

    #[test]
    fn an_unknown_character_is_reported_with_its_position() {
        let vocabulary = CharVocabulary::new(&['\n', 'a', 'é']);
        // Below the largest known code point, between known ones, and far above.
        for unknown in ['b', 'ê', '🙂'] {
            let text = format!("aé\né{unknown}a");
            let Err(Error::UnknownCharacter { character, offset, line, column }) = vocabulary.encode(&text)
            else {
                panic!("{unknown} was encoded");
            };
            assert_eq!((character, offset, line, column), (unknown, 6, 2, 2));
        }
    }
}
