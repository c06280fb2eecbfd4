//! Encoding of prompts and single tokens.

use tokenizer::Tokenizer;

use crate::{Error, Result};

/// The ids of a prompt, with the tokenizer's prompt prefix (BOS token). Special tokens in the text are encoded as plain
/// text.
///
/// # Errors
///
/// If the tokenizer lacks a character of the text.
pub fn encode_prompt(tokenizer: &Tokenizer, prompt: &str) -> Result<Vec<u32>> {
    Ok(with_prompt_prefix(tokenizer, tokenizer.encode(prompt)?))
}

/// Adds the tokenizer's prompt prefix to the ids of a prompt, unless they start with it. An empty prompt becomes
/// [`default_prompt`].
pub fn with_prompt_prefix(tokenizer: &Tokenizer, ids: Vec<u32>) -> Vec<u32> {
    match tokenizer.prompt_prefix() {
        _ if ids.is_empty() => default_prompt(tokenizer),
        prefix if ids.starts_with(prefix) => ids,
        prefix => [prefix, &ids].concat(),
    }
}

/// The ids that replace an empty prompt: the prompt prefix, else the EOS token (the end of a previous text), else a
/// line break.
pub fn default_prompt(tokenizer: &Tokenizer) -> Vec<u32> {
    if !tokenizer.prompt_prefix().is_empty() {
        return tokenizer.prompt_prefix().to_vec();
    }
    match tokenizer.end_of_text() {
        Some(id) => vec![id],
        None => tokenizer.encode("\n").unwrap_or_else(|_| vec![0]),
    }
}

/// Parses a token given as `#ID`, as its text, or as `ID` if no token has that text.
///
/// # Errors
///
/// [`Error::NoToken`] if the tokenizer has no such token.
pub fn token_id(tokenizer: &Tokenizer, token: &str) -> Result<u32> {
    let n_tokens = tokenizer.vocab_size();
    let parse_id = |id: &str| id.parse().ok().filter(|&id| usize::try_from(id).is_ok_and(|id| id < n_tokens));
    let by_id = token.strip_prefix('#').and_then(parse_id);
    let found = by_id.or_else(|| tokenizer.id_of(token)).or_else(|| parse_id(token));
    found.ok_or_else(|| Error::NoToken { token: token.to_owned(), n_tokens })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_prompt_is_a_line_break_or_the_eos_token() {
        let characters = Tokenizer::from_chars("\nab".chars()).unwrap();
        assert_eq!(encode_prompt(&characters, "").unwrap(), characters.encode("\n").unwrap());
        assert_eq!(encode_prompt(&characters, "ab").unwrap(), characters.encode("ab").unwrap());
        assert_eq!(encode_prompt(&Tokenizer::gpt2(), "").unwrap(), [50_256]);
        assert_eq!(default_prompt(&Tokenizer::from_chars("ab".chars()).unwrap()), [0]);
    }

    #[test]
    fn a_token_is_given_by_text_or_id() {
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
