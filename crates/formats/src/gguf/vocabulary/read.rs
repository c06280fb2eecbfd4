//! A vocabulary from the metadata of a file.

use std::collections::HashMap;

use super::bytes::unescaped;
use super::ends::{END_KEYS, KEYS_OF_FILES};
use super::{Joins, Pattern, Token, TokenKind, Vocabulary};
use crate::gguf::{Array, Error, Gguf, Result, Value};

impl Vocabulary {
    /// The vocabulary of a file, with llama.cpp's defaults for what it does not say. Texts end where keys say so, and at
    /// tokens that llama.cpp knows by their text, such as `<|im_end|>`.
    ///
    /// RWKV's tokenizer is read where its tokens are single bytes, as [`Self::metadata`] writes them.
    ///
    /// # Errors
    ///
    /// If a key is missing or not what it should be, the tokenizer is none of [`Joins`], or cuts text by a pattern that
    /// is none of [`Pattern`].
    pub fn read(file: &Gguf<'_>) -> Result<Self> {
        let keys = Keys { file };
        let mut vocabulary = match file.string(&key("model"))? {
            "gpt2" => keys.merges()?,
            "llama" => keys.scores()?,
            "rwkv" => keys.single_bytes()?,
            other => {
                let reason = format!(
                    "its tokenizer is {other:?}; gpt2, llama and rwkv (of single bytes) are supported"
                );
                return Err(Error::UnsupportedVocabulary { reason });
            }
        };
        keys.add_ends_by_text(&mut vocabulary)?;
        vocabulary.check_ids()?;
        Ok(vocabulary)
    }

    /// The keys of a file that name a token beyond its tokens, each with the id; they count as absent, as in llama.cpp.
    pub fn keys_beyond(file: &Gguf<'_>) -> Vec<(String, u32)> {
        let keys = Keys { file };
        let others = ["bos_token_id", "unknown_token_id", "padding_token_id"];
        let names = others.into_iter().chain(END_KEYS).chain(KEYS_OF_FILES);
        let beyond = |name: &str| {
            let id = keys.value(name)?.as_u64().and_then(|id| u32::try_from(id).ok())?;
            (id != NO_TOKEN && keys.is_beyond(id)).then(|| (key(name), id))
        };
        names.filter_map(beyond).collect()
    }

    /// Refuses two tokens of one text.
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

/// -1, which is no token.
const NO_TOKEN: u32 = u32::MAX;

fn key(name: &str) -> String {
    format!("tokenizer.ggml.{name}")
}

fn unsupported<T>(reason: String) -> Result<T> {
    Err(Error::UnsupportedVocabulary { reason })
}

/// What a file says of its tokenizer.
struct Keys<'a> {
    file: &'a Gguf<'a>,
}

impl<'a> Keys<'a> {
    fn value(&self, name: &str) -> Option<&'a Value> {
        self.file.value(&key(name))
    }

    /// What `as_type` makes of a value, if there is one.
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
        self.required(name, "an array of texts", |value| value.as_array()?.as_strings())
    }

    fn flag(&self, name: &str, default: bool) -> Result<bool> {
        Ok(self.optional(name, "true or false", Value::as_bool)?.unwrap_or(default))
    }

    /// A token by its id, which is none if it is [`NO_TOKEN`] or beyond the tokens.
    fn mark(&self, name: &str) -> Result<Option<u32>> {
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        Ok(self.optional(name, "the id of a token", id)?.filter(|&id| !self.is_beyond(id)))
    }

    fn is_beyond(&self, id: u32) -> bool {
        self.strings("tokens").is_ok_and(|tokens| id as usize >= tokens.len())
    }

    /// The kinds of `n_tokens`; all are pieces of text if the file does not say.
    fn kinds(&self, n_tokens: usize) -> Result<Vec<TokenKind>> {
        let codes = |value: &Value| match value.as_array()? {
            Array::I32(codes) => Some(codes.iter().copied().map(i64::from).collect()),
            Array::U32(codes) => Some(codes.iter().copied().map(i64::from).collect()),
            _ => None,
        };
        let codes: Option<Vec<i64>> = self.optional("token_type", "an array of 32-bit integers", codes)?;
        let Some(codes) = codes else { return Ok(vec![TokenKind::Normal; n_tokens]) };
        if codes.len() != n_tokens {
            return unsupported(format!("there are {} kinds of {n_tokens} tokens", codes.len()));
        }
        Ok(codes.into_iter().map(TokenKind::from_code).collect())
    }

    fn tokens(&self) -> Result<Vec<Token>> {
        let texts = self.strings("tokens")?;
        let kinds = self.kinds(texts.len())?;
        Ok(texts.iter().zip(kinds).map(|(text, kind)| Token { text: text.clone(), kind }).collect())
    }

    fn ends(&self, default: Option<u32>) -> Result<Vec<u32>> {
        let [of_a_text, of_turns @ ..] = END_KEYS;
        let mut ends: Vec<u32> = self.mark(of_a_text)?.or(default).into_iter().collect();
        for of_a_turn in of_turns {
            ends.extend(self.mark(of_a_turn)?.filter(|id| !ends.contains(id)));
        }
        Ok(ends)
    }

    /// Adds the ends that no key names.
    fn add_ends_by_text(&self, vocabulary: &mut Vocabulary) -> Result<()> {
        let mut named = HashMap::new();
        for key in KEYS_OF_FILES {
            named.insert(key, self.mark(key)?);
        }
        let found = vocabulary.ends_by_text(|key| named.get(key).copied().flatten());
        let mut ends = vocabulary.ends_of_text.clone();
        ends.extend(found.into_iter().filter(|id| !vocabulary.ends_of_text.contains(id)));
        vocabulary.retain_whole_ends(&mut ends);
        vocabulary.ends_of_text = ends;
        Ok(())
    }

    fn merges(&self) -> Result<Vocabulary> {
        let pattern = self.pattern()?;
        let pair = |merge: &String| {
            // A piece may be a space in files that do not spell bytes, but not an empty one.
            let first = merge.chars().next().map_or(0, char::len_utf8);
            let space = first + merge[first..].find(' ')?;
            let (left, right) = (&merge[..space], &merge[space + 1..]);
            (!right.is_empty()).then(|| (left.to_owned(), right.to_owned()))
        };
        let mut merges = Vec::new();
        for merge in self.strings("merges")? {
            let Some(pair) = pair(merge) else {
                return unsupported(format!("the merge {merge:?} is not two pieces"));
            };
            merges.push(pair);
        }
        let begin_of_text = self.mark("bos_token_id")?;
        Ok(Vocabulary {
            tokens: self.tokens()?,
            joins: Joins::Merges { pattern, merges },
            begin_of_text,
            ends_of_text: self.ends(None)?,
            adds_begin: self.flag("add_bos_token", pattern == Pattern::Llama3)? && begin_of_text.is_some(),
        })
    }

    /// How text is cut. Files that are older than the key were made for GPT-2's way, which is right for a GPT-2 alone.
    fn pattern(&self) -> Result<Pattern> {
        let found = self.optional("pre", "a text", Value::as_str)?;
        match found {
            Some("gpt-2") => Ok(Pattern::Gpt2),
            Some("smollm" | "starcoder") => Ok(Pattern::Smollm),
            Some("qwen2" | "deepseek-r1-qwen") => Ok(Pattern::Qwen2),
            Some("llama-bpe" | "llama3" | "llama-v3") => Ok(Pattern::Llama3),
            None if self.file.string("general.architecture")? == "gpt2" => Ok(Pattern::Gpt2),
            None => unsupported(format!("the file has no `{}`, so how text is cut is unknown", key("pre"))),
            Some(other) => unsupported(format!(
                "it cuts text as {other:?}; gpt-2, smollm, starcoder, qwen2, deepseek-r1-qwen, llama-bpe, llama3 and \
                 llama-v3 are supported"
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
            return unsupported(format!("there are {} scores of {} tokens", scores.len(), tokens.len()));
        }
        let default = |id: u32| (tokens.len() > id as usize).then_some(id);
        let begin_of_text = self.mark("bos_token_id")?.or(default(1));
        Ok(Vocabulary {
            joins: Joins::Scores { scores, adds_space: self.flag("add_space_prefix", true)? },
            begin_of_text,
            ends_of_text: self.ends(default(2))?,
            adds_begin: self.flag("add_bos_token", true)? && begin_of_text.is_some(),
            tokens,
        })
    }

    fn single_bytes(&self) -> Result<Vocabulary> {
        let mut tokens = Vec::new();
        for text in self.strings("tokens")? {
            let Some(byte) = unescaped(text) else {
                return unsupported(format!("it has the tokenizer of RWKV, and {text:?} is no single byte"));
            };
            tokens.push(Token::normal(&[byte]));
        }
        Ok(Vocabulary::merges(tokens, Vec::new()))
    }
}
