//! The tokenizer of a GGUF file, as a `tokenizer.json` that gives the ids of llama.cpp.
//!
//! | GGUF | model | normalizer | pre-tokenizer | decoder |
//! |---|---|---|---|---|
//! | merges | BPE | none | the pattern, ByteLevel | ByteLevel |
//! | scores | BPE with byte fallback, its merges by score | Prepend and Replace, space to `▁` | none | Replace, ByteFallback, Fuse, Strip |
//!
//! Marks are special added tokens, and a token that is put before every text is in a TemplateProcessing. What is one of
//! our kinds, as in a file that was exported here, is of that kind again.

use std::cmp::Reverse;
use std::collections::HashSet;

use formats::gguf::{Joins, Pattern, Token, TokenKind, Vocabulary};
use serde_json::{Map, Value, json};

use crate::pipeline::{char_pipeline, decoder_of_pieces};
use crate::{Error, Result, Tokenizer};

/// Qwen2's way of cutting text, `cl100k_base`'s with single digits (`tokenizer.json` of Qwen2).
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Llama 3's way of cutting text, `cl100k_base`'s.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Longest token, in bytes, that scores make of parts. The longest of published vocabularies have 48.
const JOINED_BYTES_MAX: usize = 256;

impl Tokenizer {
    /// The tokenizer of a GGUF file, with the ids that llama.cpp gives.
    ///
    /// Differences are left in two places that texts hardly have: where tokens of scores have equal ones, or one token
    /// can be made of different parts, llama.cpp joins the leftmost first, and a `tokenizer.json` orders pairs; and a
    /// character that is no token becomes bytes before it is joined with another.
    ///
    /// Fails with [`Error::Vocabulary`] if the tokens and merges do not belong together.
    pub fn from_gguf(vocabulary: &Vocabulary) -> Result<Self> {
        if let Some(chars) = vocabulary.chars().filter(|chars| !chars.is_empty()) {
            return Ok(Self::new(char_pipeline(&chars)));
        }
        if is_bytes(vocabulary) {
            return Ok(Self::byte());
        }
        Self::parse_value(&tokenizer_json(vocabulary)).map_err(Error::Vocabulary)
    }
}

/// Whether the vocabulary is [`Vocabulary::bytes`], but for unused tokens that fill an embedding.
fn is_bytes(vocabulary: &Vocabulary) -> bool {
    let mut bytes = Vocabulary::bytes();
    let padding = vocabulary.tokens.get(bytes.tokens.len()..);
    if padding.is_none_or(|padding| padding.iter().any(|token| token.kind != TokenKind::Unused)) {
        return false;
    }
    bytes.tokens.extend_from_slice(padding.unwrap_or_default());
    *vocabulary == bytes
}

fn tokenizer_json(vocabulary: &Vocabulary) -> Value {
    let tokens = used(&vocabulary.tokens);
    let (normalizer, pre_tokenizer, decoder, model) = match &vocabulary.joins {
        Joins::Merges { pattern, merges } => {
            let model = json!({
                "type": "BPE",
                "vocab": ids(tokens),
                "merges": merges,
                "ignore_merges": *pattern == Pattern::Llama3,
            });
            (Value::Null, cuts(*pattern), byte_level(true), model)
        }
        Joins::Scores { scores, adds_space } => {
            let unknown = tokens.iter().find(|token| token.kind == TokenKind::Unknown);
            let model = json!({
                "type": "BPE",
                "unk_token": unknown.map(|token| &token.text),
                "fuse_unk": true,
                "byte_fallback": true,
                "vocab": ids(tokens),
                "merges": merges_by_score(tokens, scores),
            });
            (spells_spaces(*adds_space), Value::Null, decoder_of_pieces(*adds_space), model)
        }
    };
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added(tokens),
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": begin(vocabulary),
        "decoder": decoder,
        "model": model,
    })
}

/// The tokens without unused ones at the end, which fill an embedding.
fn used(tokens: &[Token]) -> &[Token] {
    let last = tokens.iter().rposition(|token| token.kind != TokenKind::Unused);
    &tokens[..last.map_or(0, |last| last + 1)]
}

fn ids(tokens: &[Token]) -> Map<String, Value> {
    tokens.iter().enumerate().map(|(id, token)| (token.text.clone(), id.into())).collect()
}

fn added(tokens: &[Token]) -> Vec<Value> {
    let special = |kind| matches!(kind, TokenKind::Control | TokenKind::Unknown);
    tokens
        .iter()
        .enumerate()
        .filter(|(_, token)| special(token.kind) || token.kind == TokenKind::UserDefined)
        .map(|(id, token)| {
            json!({
                "id": id,
                "content": token.text,
                "single_word": false,
                "lstrip": false,
                "rstrip": false,
                "normalized": false,
                "special": special(token.kind),
            })
        })
        .collect()
}

/// Puts the beginning of a text before it, if the vocabulary says so.
fn begin(vocabulary: &Vocabulary) -> Value {
    let id = vocabulary.begin_of_text.filter(|_| vocabulary.adds_begin);
    let Some((id, token)) = id.and_then(|id| Some((id, vocabulary.tokens.get(id as usize)?))) else {
        return Value::Null;
    };
    let text = &token.text;
    let mark = json!({ "SpecialToken": { "id": text, "type_id": 0 } });
    let sequence = |id: &str, type_id: u32| json!({ "Sequence": { "id": id, "type_id": type_id } });
    json!({
        "type": "TemplateProcessing",
        "single": [mark, sequence("A", 0)],
        "pair": [mark, sequence("A", 0), sequence("B", 1)],
        "special_tokens": { text: { "id": text, "ids": [id], "tokens": [text] } },
    })
}

fn byte_level(use_regex: bool) -> Value {
    json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex })
}

/// How text is cut before its bytes are joined.
pub(crate) fn cuts(pattern: Pattern) -> Value {
    let sequence = |first: Value, use_regex: bool| json!({ "type": "Sequence", "pretokenizers": [first, byte_level(use_regex)] });
    let split = |regex: &str| json!({ "type": "Split", "pattern": { "Regex": regex }, "behavior": "Isolated", "invert": false });
    match pattern {
        Pattern::Gpt2 => byte_level(true),
        Pattern::Smollm => sequence(json!({ "type": "Digits", "individual_digits": true }), true),
        Pattern::Qwen2 => sequence(split(QWEN2), false),
        Pattern::Llama3 => sequence(split(LLAMA3), false),
    }
}

pub(crate) fn spells_spaces(adds_space: bool) -> Value {
    let prepend = adds_space.then(|| json!({ "type": "Prepend", "prepend": "▁" }));
    let replace = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" });
    json!({ "type": "Sequence", "normalizers": prepend.into_iter().chain([replace]).collect::<Vec<_>>() })
}

/// Every pair of tokens that makes a token, the one of the largest score first.
pub(crate) fn merges_by_score<'a>(tokens: &'a [Token], scores: &[f32]) -> Vec<(&'a str, &'a str)> {
    let texts: HashSet<&str> = tokens.iter().map(|token| token.text.as_str()).collect();
    let mut by_score: Vec<(usize, &f32)> = scores.iter().enumerate().take(tokens.len()).collect();
    by_score.sort_by(|(_, left), (_, right)| right.total_cmp(left));
    let mut merges = Vec::new();
    for (id, _) in by_score {
        let text = tokens[id].text.as_str();
        if text.len() > JOINED_BYTES_MAX {
            continue;
        }
        let cuts = text.char_indices().skip(1).map(|(place, _)| text.split_at(place));
        let mut parts: Vec<_> =
            cuts.filter(|(left, right)| texts.contains(left) && texts.contains(right)).collect();
        parts.sort_by_key(|(left, _)| Reverse(left.len()));
        merges.extend(parts);
    }
    merges
}
