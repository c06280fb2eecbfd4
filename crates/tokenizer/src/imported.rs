//! Import of a GGUF file's tokenizer, with the ids of llama.cpp.
//!
//! | GGUF | model | normalizer | pre-tokenizer | decoder |
//! |---|---|---|---|---|
//! | merges | BPE | none | the GGUF pattern, ByteLevel | ByteLevel |
//! | scores | BPE with byte fallback, merges ordered by score | Prepend and Replace, space to `▁` | none | Replace, ByteFallback, Fuse, Strip |
//!
//! Control tokens become special added tokens. A BOS token before every text becomes a TemplateProcessing. A tokenizer
//! that Kindling exported gets its [`TokenizerKind`](crate::TokenizerKind) back.

use std::cmp::Reverse;
use std::collections::HashSet;

use formats::gguf::{BpeModel, Pattern, Token, TokenKind, Vocabulary};
use serde::Deserialize;
use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::{AddedToken, Tokenizer as Pipeline};

use crate::pipeline::{char_pipeline, sentencepiece_decoder};
use crate::untrusted::{check_merges, without_panic};
use crate::{Error, Result, Tokenizer};

/// Qwen2's pre-tokenizer: `cl100k_base` with single digits (from Qwen2's `tokenizer.json`).
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Llama 3's pre-tokenizer: `cl100k_base`.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The longest token, in bytes, for which merges are derived from scores. Published vocabularies have up to 48.
const MERGED_BYTES_MAX: usize = 256;

impl Tokenizer {
    /// The tokenizer of a GGUF file, with the ids of llama.cpp.
    ///
    /// With scores, two rare differences remain. If tokens have equal scores, or several pairs make one token,
    /// llama.cpp merges the leftmost pair first, while a `tokenizer.json` orders the pairs. And a character without a
    /// token becomes bytes before any merge.
    ///
    /// Fails with [`Error::Vocabulary`] if a merge names a missing token.
    pub fn from_gguf(vocabulary: &Vocabulary) -> Result<Self> {
        if let Some(chars) = vocabulary.chars().filter(|chars| !chars.is_empty()) {
            return Ok(Self::new(char_pipeline(&chars)));
        }
        if is_bytes(vocabulary) {
            return Ok(Self::byte());
        }
        without_panic(|| Ok(Self::new(pipeline(vocabulary)?))).map_err(Error::Vocabulary)
    }
}

/// Whether the vocabulary is [`Vocabulary::bytes`] with any number of unused tokens at the end.
fn is_bytes(vocabulary: &Vocabulary) -> bool {
    let mut bytes = Vocabulary::bytes();
    let padding = vocabulary.tokens.get(bytes.tokens.len()..);
    if padding.is_none_or(|padding| padding.iter().any(|token| token.kind != TokenKind::Unused)) {
        return false;
    }
    bytes.tokens.extend_from_slice(padding.unwrap_or_default());
    *vocabulary == bytes
}

/// The pipeline of a vocabulary with tokens of several bytes. Its large parts, the tokens and merges, never become JSON.
fn pipeline(vocabulary: &Vocabulary) -> tokenizers::Result<Pipeline> {
    let tokens = trim_unused(&vocabulary.tokens);
    let (normalizer, pre_tokenizer, decoder) = match &vocabulary.bpe {
        BpeModel::Merges { pattern, .. } => (Value::Null, pre_tokenizer(*pattern), byte_level(true)),
        BpeModel::Scores { adds_space, .. } => {
            (space_normalizer(*adds_space), Value::Null, sentencepiece_decoder(*adds_space))
        }
    };
    let mut pipeline = Pipeline::deserialize(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": bos_template(vocabulary),
        "decoder": decoder,
        "model": { "type": "BPE", "vocab": {}, "merges": [] },
    }))?;
    pipeline.with_model(model(tokens, &vocabulary.bpe)?);
    pipeline.add_tokens(added_tokens(tokens))?;
    Ok(pipeline)
}

fn model(tokens: &[Token], bpe: &BpeModel) -> tokenizers::Result<BPE> {
    let vocab: Vocab = tokens.iter().map(|token| token.text.clone()).zip(0..).collect();
    match bpe {
        BpeModel::Merges { pattern, merges } => {
            check_merges("", |token| vocab.contains_key(token), merges.iter().map(pair))?;
            let ignores_merges = *pattern == Pattern::Llama3;
            BPE::builder().vocab_and_merges(vocab, merges.clone()).ignore_merges(ignores_merges).build()
        }
        BpeModel::Scores { scores, .. } => {
            let merges = merges_by_score(tokens, scores).into_iter();
            let merges = merges.map(|(left, right)| (left.to_owned(), right.to_owned())).collect();
            let builder = BPE::builder().vocab_and_merges(vocab, merges).byte_fallback(true).fuse_unk(true);
            match tokens.iter().find(|token| token.kind == TokenKind::Unknown) {
                Some(unknown) => builder.unk_token(unknown.text.clone()).build(),
                None => builder.build(),
            }
        }
    }
}

fn pair((left, right): &(String, String)) -> (&str, &str) {
    (left, right)
}

/// The tokens without the unused ones at the end, which only pad the embedding.
fn trim_unused(tokens: &[Token]) -> &[Token] {
    let last = tokens.iter().rposition(|token| token.kind != TokenKind::Unused);
    &tokens[..last.map_or(0, |last| last + 1)]
}

fn added_tokens(tokens: &[Token]) -> Vec<AddedToken> {
    let is_special = |kind| matches!(kind, TokenKind::Control | TokenKind::Unknown);
    let added = tokens.iter().filter(|token| is_special(token.kind) || token.kind == TokenKind::UserDefined);
    added
        .map(|token| AddedToken::from(token.text.clone(), is_special(token.kind)).normalized(false))
        .collect()
}

/// A post-processor that puts the BOS token before every text, if the vocabulary asks for it.
fn bos_template(vocabulary: &Vocabulary) -> Value {
    let id = vocabulary.bos.filter(|_| vocabulary.adds_bos);
    let Some((id, token)) = id.and_then(|id| Some((id, vocabulary.tokens.get(id as usize)?))) else {
        return Value::Null;
    };
    let text = &token.text;
    let bos = json!({ "SpecialToken": { "id": text, "type_id": 0 } });
    let sequence = |id: &str, type_id: u32| json!({ "Sequence": { "id": id, "type_id": type_id } });
    json!({
        "type": "TemplateProcessing",
        "single": [bos, sequence("A", 0)],
        "pair": [bos, sequence("A", 0), sequence("B", 1)],
        "special_tokens": { text: { "id": text, "ids": [id], "tokens": [text] } },
    })
}

fn byte_level(use_regex: bool) -> Value {
    json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex })
}

/// The pre-tokenizer of a GGUF pattern.
pub(crate) fn pre_tokenizer(pattern: Pattern) -> Value {
    let sequence = |first: Value, use_regex: bool| json!({ "type": "Sequence", "pretokenizers": [first, byte_level(use_regex)] });
    let split = |regex: &str| json!({ "type": "Split", "pattern": { "Regex": regex }, "behavior": "Isolated", "invert": false });
    match pattern {
        Pattern::Gpt2 => byte_level(true),
        Pattern::Smollm => sequence(json!({ "type": "Digits", "individual_digits": true }), true),
        Pattern::Qwen2 => sequence(split(QWEN2), false),
        Pattern::Llama3 => sequence(split(LLAMA3), false),
    }
}

/// SentencePiece's normalizer, which spells a space as `▁`.
pub(crate) fn space_normalizer(adds_space: bool) -> Value {
    let prepend = adds_space.then(|| json!({ "type": "Prepend", "prepend": "▁" }));
    let replace = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" });
    json!({ "type": "Sequence", "normalizers": prepend.into_iter().chain([replace]).collect::<Vec<_>>() })
}

/// Every pair of tokens that makes a token, by descending score of the result.
pub(crate) fn merges_by_score<'a>(tokens: &'a [Token], scores: &[f32]) -> Vec<(&'a str, &'a str)> {
    let texts: HashSet<&str> = tokens.iter().map(|token| token.text.as_str()).collect();
    let mut by_score: Vec<(usize, &f32)> = scores.iter().enumerate().take(tokens.len()).collect();
    by_score.sort_by(|(_, left), (_, right)| right.total_cmp(left));
    let mut merges = Vec::new();
    for (id, _) in by_score {
        let text = tokens[id].text.as_str();
        if text.len() > MERGED_BYTES_MAX {
            continue;
        }
        let splits = text.char_indices().skip(1).map(|(idx, _)| text.split_at(idx));
        let mut pairs: Vec<_> =
            splits.filter(|(left, right)| texts.contains(left) && texts.contains(right)).collect();
        pairs.sort_by_key(|(left, _)| Reverse(left.len()));
        merges.extend(pairs);
    }
    merges
}
