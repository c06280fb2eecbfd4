//! From a prompt's text to the ids that a model reads first, and from a token's text to its id.

use tokenizer::Tokenizer;

use crate::{Error, Result};

/// The ids of a prompt, with those that every text starts with. Special tokens in the text are plain characters.
///
/// # Errors
///
/// If the tokenizer lacks a character of the text.
pub fn encode_prompt(tokenizer: &Tokenizer, prompt: &str) -> Result<Vec<u32>> {
    Ok(with_start(tokenizer, tokenizer.encode(prompt)?))
}

/// The ids of a prompt after those that every text starts with. A prompt that starts with them gets no others, and an empty
/// one is [`prompt_start`].
pub fn with_start(tokenizer: &Tokenizer, ids: Vec<u32>) -> Vec<u32> {
    match tokenizer.beginning() {
        _ if ids.is_empty() => prompt_start(tokenizer),
        start if ids.starts_with(start) => ids,
        start => [start, &ids].concat(),
    }
}

/// The ids from which a model generates a text without a prompt: those that the tokenizer puts before every text, the EOS
/// token of the text before it, or a line break.
pub fn prompt_start(tokenizer: &Tokenizer) -> Vec<u32> {
    if !tokenizer.beginning().is_empty() {
        return tokenizer.beginning().to_vec();
    }
    match tokenizer.end_of_text() {
        Some(id) => vec![id],
        None => tokenizer.encode("\n").unwrap_or_else(|_| vec![0]),
    }
}

/// The id of a token given as # and its id, as its text, or as its id alone where no token has that text.
///
/// # Errors
///
/// [`Error::NoToken`].
pub fn token_id(tokenizer: &Tokenizer, token: &str) -> Result<u32> {
    let n_tokens = tokenizer.vocab_size();
    let numbered = |id: &str| id.parse().ok().filter(|&id| usize::try_from(id).is_ok_and(|id| id < n_tokens));
    let by_id = token.strip_prefix('#').and_then(numbered);
    let found = by_id.or_else(|| tokenizer.id_of(token)).or_else(|| numbered(token));
    found.ok_or_else(|| Error::NoToken { token: token.to_owned(), n_tokens })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_without_text_is_a_line_break_or_the_eos_token() {
        let characters = Tokenizer::from_chars("\nab".chars()).unwrap();
        assert_eq!(encode_prompt(&characters, "").unwrap(), characters.encode("\n").unwrap());
        assert_eq!(encode_prompt(&characters, "ab").unwrap(), characters.encode("ab").unwrap());
        assert_eq!(encode_prompt(&Tokenizer::gpt2(), "").unwrap(), [50_256]);
        assert_eq!(prompt_start(&Tokenizer::from_chars("ab".chars()).unwrap()), [0]);
    }

    #[test]
    fn a_token_is_its_text_or_its_id() {
        let tokenizer = Tokenizer::from_chars("b1a".chars()).unwrap();
        assert_eq!(tokenizer.encode("1ab").unwrap(), [0, 1, 2]);
        for (token, id) in [("a", 1), ("1", 0), ("#1", 1), ("2", 2)] {
            assert_eq!(token_id(&tokenizer, token).unwrap(), id, "{token}");
        }
        for wrong in ["x", "#3", "3", ""] {
            let error = token_id(&tokenizer, wrong).unwrap_err();
            assert!(error.is_malformed_request() && error.to_string().ends_with("has 3 tokens"), "{error}");
        }
    }
}
