//! Reading of a vocabulary from metadata.

use std::collections::HashMap;

use super::bytes::unescaped;
use super::eos::{EOS_KEYS, FIM_KEYS};
use super::{BpeModel, Pattern, Token, TokenKind, Vocabulary};
use crate::gguf::{Array, Error, Gguf, Result, Value};

impl Vocabulary {
    /// Reads the vocabulary of a file, with llama.cpp's defaults for missing keys. EOS tokens come from keys and from
    /// texts that llama.cpp knows, such as `<|im_end|>`.
    ///
    /// RWKV's tokenizer is read if its tokens are single bytes, as [`Self::metadata`] writes them.
    ///
    /// # Errors
    ///
    /// If a key is missing or invalid, or the tokenizer or its pre-tokenizer is not supported.
    pub fn read(file: &Gguf<'_>) -> Result<Self> {
        let keys = Keys { file };
        let mut vocabulary = match file.string(&key("model"))? {
            "gpt2" => keys.merges()?,
            "llama" => keys.scores()?,
            "rwkv" => keys.single_bytes()?,
            other => {
                let reason = format!(
                    "its tokenizer is {other:?}; only gpt2, llama and rwkv (of single bytes) are supported"
                );
                return Err(Error::UnsupportedVocabulary { reason });
            }
        };
        keys.add_eos_by_text(&mut vocabulary)?;
        vocabulary.check_ids()?;
        Ok(vocabulary)
    }

    /// The keys of a file with an id outside its vocabulary, and the ids. As in llama.cpp, such keys count as absent.
    pub fn out_of_range_keys(file: &Gguf<'_>) -> Vec<(String, u32)> {
        let keys = Keys { file };
        let others = ["bos_token_id", "unknown_token_id", "padding_token_id"];
        let names = others.into_iter().chain(EOS_KEYS).chain(FIM_KEYS);
        let out_of_range = |name: &str| {
            let id = keys.value(name)?.as_u64().and_then(|id| u32::try_from(id).ok())?;
            (id != NO_TOKEN && keys.is_out_of_range(id)).then(|| (key(name), id))
        };
        names.filter_map(out_of_range).collect()
    }

    /// Refuses two tokens with the same text.
    fn check_ids(&self) -> Result<()> {
        let mut ids = HashMap::new();
        for (id, token) in self.tokens.iter().enumerate() {
            if let Some(first) = ids.insert(&token.text, id) {
                return unsupported(format!("tokens {first} and {id} are both {:?}", token.text));
            }
        }
        Ok(())
    }
}

/// -1: no token.
const NO_TOKEN: u32 = u32::MAX;

fn key(name: &str) -> String {
    format!("tokenizer.ggml.{name}")
}

fn unsupported<T>(reason: String) -> Result<T> {
    Err(Error::UnsupportedVocabulary { reason })
}

/// The tokenizer keys of a file.
struct Keys<'a> {
    file: &'a Gguf<'a>,
}

impl<'a> Keys<'a> {
    fn value(&self, name: &str) -> Option<&'a Value> {
        self.file.value(&key(name))
    }

    /// The value of a key, converted by `as_type`; `None` if the key is missing.
    fn optional<T>(
        &self,
        name: &str,
        expected: &'static str,
        as_type: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let wrong = || Error::Value { key: key(name), expected, found: value.to_string() };
        as_type(value).ok_or_else(wrong).map(Some)
    }

    fn required<T>(
        &self,
        name: &str,
        expected: &'static str,
        as_type: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<T> {
        self.optional(name, expected, as_type)?.ok_or_else(|| Error::MissingKey { key: key(name) })
    }

    fn strings(&self, name: &str) -> Result<&'a [String]> {
        self.required(name, "an array of strings", |value| value.as_array()?.as_strings())
    }

    fn flag(&self, name: &str, default: bool) -> Result<bool> {
        Ok(self.optional(name, "true or false", Value::as_bool)?.unwrap_or(default))
    }

    /// The token id of a key; `None` if it is [`NO_TOKEN`] or out of range.
    fn token_id(&self, name: &str) -> Result<Option<u32>> {
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        Ok(self.optional(name, "a token id", id)?.filter(|&id| !self.is_out_of_range(id)))
    }

    fn is_out_of_range(&self, id: u32) -> bool {
        self.strings("tokens").is_ok_and(|tokens| id as usize >= tokens.len())
    }

    /// The kinds of all tokens; [`TokenKind::Normal`] if the key is missing.
    fn kinds(&self, n_tokens: usize) -> Result<Vec<TokenKind>> {
        let codes = |value: &Value| match value.as_array()? {
            Array::I32(codes) => Some(codes.iter().copied().map(i64::from).collect()),
            Array::U32(codes) => Some(codes.iter().copied().map(i64::from).collect()),
            _ => None,
        };
        let codes: Option<Vec<i64>> = self.optional("token_type", "an array of 32-bit integers", codes)?;
        let Some(codes) = codes else { return Ok(vec![TokenKind::Normal; n_tokens]) };
        if codes.len() != n_tokens {
            return unsupported(format!("it has {} token types for {n_tokens} tokens", codes.len()));
        }
        Ok(codes.into_iter().map(TokenKind::from_code).collect())
    }

    fn tokens(&self) -> Result<Vec<Token>> {
        let texts = self.strings("tokens")?;
        let kinds = self.kinds(texts.len())?;
        Ok(texts.iter().zip(kinds).map(|(text, kind)| Token { text: text.clone(), kind }).collect())
    }

    /// The EOS tokens that keys name.
    fn eos(&self, default: Option<u32>) -> Result<Vec<u32>> {
        let [text_key, turn_keys @ ..] = EOS_KEYS;
        let mut eos: Vec<u32> = self.token_id(text_key)?.or(default).into_iter().collect();
        for turn_key in turn_keys {
            eos.extend(self.token_id(turn_key)?.filter(|id| !eos.contains(id)));
        }
        Ok(eos)
    }

    /// Adds the EOS tokens that no key names.
    fn add_eos_by_text(&self, vocabulary: &mut Vocabulary) -> Result<()> {
        let mut named = HashMap::new();
        for key in FIM_KEYS {
            named.insert(key, self.token_id(key)?);
        }
        let found = vocabulary.eos_by_text(|key| named.get(key).copied().flatten());
        let mut eos = vocabulary.eos.clone();
        eos.extend(found.into_iter().filter(|id| !vocabulary.eos.contains(id)));
        vocabulary.retain_final_eos(&mut eos);
        vocabulary.eos = eos;
        Ok(())
    }

    fn merges(&self) -> Result<Vocabulary> {
        let pattern = self.pattern()?;
        let pair = |merge: &String| {
            // A piece is never empty, but may be a space in files without GPT-2's alphabet.
            let first = merge.chars().next().map_or(0, char::len_utf8);
            let space = first + merge[first..].find(' ')?;
            let (left, right) = (&merge[..space], &merge[space + 1..]);
            (!right.is_empty()).then(|| (left.to_owned(), right.to_owned()))
        };
        let mut merges = Vec::new();
        for merge in self.strings("merges")? {
            let Some(pair) = pair(merge) else {
                return unsupported(format!("the merge {merge:?} is not a pair"));
            };
            merges.push(pair);
        }
        let bos = self.token_id("bos_token_id")?;
        Ok(Vocabulary {
            tokens: self.tokens()?,
            bpe: BpeModel::Merges { pattern, merges },
            bos,
            eos: self.eos(None)?,
            adds_bos: self.flag("add_bos_token", pattern == Pattern::Llama3)? && bos.is_some(),
        })
    }

    /// The pre-tokenizer. Files older than the key were made for GPT-2's, which is right for a GPT-2 only.
    fn pattern(&self) -> Result<Pattern> {
        let found = self.optional("pre", "a string", Value::as_str)?;
        match found {
            Some("gpt-2") => Ok(Pattern::Gpt2),
            Some("smollm" | "starcoder") => Ok(Pattern::Smollm),
            Some("qwen2" | "deepseek-r1-qwen") => Ok(Pattern::Qwen2),
            Some("llama-bpe" | "llama3" | "llama-v3") => Ok(Pattern::Llama3),
            None if self.file.string("general.architecture")? == "gpt2" => Ok(Pattern::Gpt2),
            None => unsupported(format!("the file has no `{}`, so its pre-tokenizer is unknown", key("pre"))),
            Some(other) => unsupported(format!(
                "its pre-tokenizer is {other:?}; only gpt-2, smollm, starcoder, qwen2, deepseek-r1-qwen, llama-bpe, \
                 llama3 and llama-v3 are supported"
            )),
        }
    }

    fn scores(&self) -> Result<Vocabulary> {
        let tokens = self.tokens()?;
        let scores = |value: &'a Value| match value.as_array()? {
            Array::F32(scores) => Some(scores.clone()),
            _ => None,
        };
        let scores = self.required("scores", "an array of f32", scores)?;
        if scores.len() != tokens.len() {
            return unsupported(format!("it has {} scores for {} tokens", scores.len(), tokens.len()));
        }
        let default = |id: u32| (tokens.len() > id as usize).then_some(id);
        let bos = self.token_id("bos_token_id")?.or(default(1));
        Ok(Vocabulary {
            bpe: BpeModel::Scores { scores, adds_space: self.flag("add_space_prefix", true)? },
            bos,
            eos: self.eos(default(2))?,
            adds_bos: self.flag("add_bos_token", true)? && bos.is_some(),
            tokens,
        })
    }

    fn single_bytes(&self) -> Result<Vocabulary> {
        let mut tokens = Vec::new();
        for text in self.strings("tokens")? {
            let Some(byte) = unescaped(text) else {
                return unsupported(format!(
                    "it has an RWKV tokenizer with the token {text:?}; only single bytes are supported"
                ));
            };
            tokens.push(Token::normal(&[byte]));
        }
        Ok(Vocabulary::merges(tokens, Vec::new()))
    }
}
