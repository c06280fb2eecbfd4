//! Export of a tokenizer to the vocabulary of a GGUF file, with the same ids in llama.cpp; the inverse of
//! `imported.rs`.

use std::collections::{BTreeSet, HashMap, HashSet};

use formats::gguf::{BpeModel, Pattern, Token, TokenKind, Vocabulary};
use serde_json::{Value, json};

use crate::imported::{merges_by_score, pre_tokenizer, space_normalizer};
use crate::pipeline::sentencepiece_decoder;
use crate::{Error, Result, Tokenizer, TokenizerKind};

impl Tokenizer {
    /// The GGUF vocabulary with which llama.cpp produces the ids of this tokenizer, and a note for each difference.
    ///
    /// [`Self::from_gguf`] reads it back, except for three things that a `tokenizer.json` does not have. Ids without a
    /// token become [`TokenKind::Unused`] tokens such as `[PAD7]`. Scores are renumbered as in SentencePiece:
    /// 0, -1, -2 and so on. BOS and EOS tokens are left to the caller, except `<|endoftext|>` and a
    /// [prompt prefix](Self::prompt_prefix).
    ///
    /// Fails with [`Error::GgufUnsupported`] if llama.cpp has no equivalent tokenizer.
    pub fn to_gguf(&self) -> Result<(Vocabulary, Vec<String>)> {
        let (vocabulary, mut differences) = match self.kind() {
            Some(TokenizerKind::Char) => (Vocabulary::from_chars(&self.chars()), Vec::new()),
            Some(TokenizerKind::Byte) if self.n_excess_tokens() == 0 => (Vocabulary::bytes(), Vec::new()),
            Some(TokenizerKind::Byte | TokenizerKind::Gpt2 | TokenizerKind::Bpe { .. }) | None => {
                self.general_vocabulary().map_err(|reason| Error::GgufUnsupported { reason })?
            }
        };
        if self.n_excess_tokens() > 0 {
            differences.push(format!(
                "left out {} tokens of the tokenizer with ids beyond the model's vocabulary",
                self.n_excess_tokens()
            ));
        }
        Ok((vocabulary, differences))
    }

    /// The characters of a `char` vocabulary, in the order of their ids.
    fn chars(&self) -> Vec<char> {
        let ids = (0..).take(self.vocab_size());
        ids.filter_map(|id| str::from_utf8(self.token_bytes(id)?).ok()?.chars().next()).collect()
    }

    fn general_vocabulary(&self) -> Result<(Vocabulary, Vec<String>), String> {
        let file: Value = serde_json::from_str(&self.to_json()).expect("a tokenizer is JSON");
        let mut merges = self.merges();
        if self.n_excess_tokens() > 0 {
            let is_usable = |id: &Value| id.as_u64().is_some_and(|id| id < self.vocab_size() as u64);
            merges.retain(|(left, right)| is_usable(&file["model"]["vocab"][format!("{left}{right}")]));
        }
        let file = File { file: &file, merges };
        let tokens = file.tokens(self.vocab_size())?;
        let (bpe, mut differences) = file.bpe(&tokens)?;
        differences.extend(file.space_differences());
        let end_of_text = self.end_of_text();
        let prefix = match *self.prompt_prefix() {
            [] => None,
            [token] => Some(token),
            _ => return Err("it puts more than one special token before every text".to_owned()),
        };
        let vocabulary = Vocabulary {
            tokens,
            bpe,
            bos: prefix.or(end_of_text),
            eos: end_of_text.into_iter().collect(),
            adds_bos: prefix.is_some(),
        };
        Ok((vocabulary, differences))
    }
}

/// A `tokenizer.json`.
struct File<'a> {
    file: &'a Value,
    merges: Vec<(String, String)>,
}

impl File<'_> {
    fn model(&self) -> &Value {
        &self.file["model"]
    }

    /// The BPE, and the differences in llama.cpp.
    fn bpe(&self, tokens: &[Token]) -> Result<(BpeModel, Vec<String>), String> {
        self.check_plain_bpe()?;
        if self.file["decoder"]["type"] == "ByteLevel" {
            return self.byte_level(tokens);
        }
        for adds_space in [true, false] {
            if self.file["decoder"] == sentencepiece_decoder(adds_space) {
                return Ok((self.scores(tokens, adds_space)?, Vec::new()));
            }
        }
        Err(format!(
            "its decoder is {}; only \"ByteLevel\" (byte-level BPE) and \"Replace\", \"ByteFallback\", \"Fuse\", \
             \"Strip\" (SentencePiece) are supported",
            types(&self.file["decoder"])
        ))
    }

    fn check_plain_bpe(&self) -> Result<(), String> {
        let model = self.model();
        if model["type"] != "BPE" {
            return Err(format!("its model is {}, not a BPE", types(model)));
        }
        let is_unset = |value: &Value| value.is_null() || value == "";
        match ["dropout", "continuing_subword_prefix", "end_of_word_suffix"]
            .into_iter()
            .find(|&key| !is_unset(&model[key]))
        {
            Some(key) => Err(format!("its BPE has `{key}` = {}", model[key])),
            None => Ok(()),
        }
    }

    fn byte_level(&self, tokens: &[Token]) -> Result<(BpeModel, Vec<String>), String> {
        let (file, model) = (self.file, self.model());
        let pattern = Pattern::ALL
            .into_iter()
            .find(|&pattern| is_same(&file["pre_tokenizer"], &pre_tokenizer(pattern)));
        let Some(pattern) = pattern else {
            return Err(format!(
                "its pre-tokenizer is {}; only those of GPT-2, SmolLM, Qwen2 and Llama 3 are supported",
                types(&file["pre_tokenizer"])
            ));
        };
        let ignores_merges = model["ignore_merges"] == true;
        if ignores_merges != (pattern == Pattern::Llama3) {
            return Err(format!(
                "its pre-tokenizer is {} with `ignore_merges` = {ignores_merges}",
                pattern.name()
            ));
        }
        if model["byte_fallback"] == true {
            return Err("its byte-level BPE has `byte_fallback` = true".to_owned());
        }
        let known: HashSet<&str> = tokens.iter().map(|token| token.text.as_str()).collect();
        let knows_every_byte = (0..=u8::MAX).all(|byte| known.contains(Token::normal(&[byte]).text.as_str()));
        if !model["unk_token"].is_null() && !knows_every_byte {
            return Err(format!("it encodes some bytes as {}", model["unk_token"]));
        }
        let differences = match file["normalizer"]["type"].as_str() {
            None => Vec::new(),
            Some("NFC") => vec![
                "this tokenizer composes characters with their accents (NFC) and llama.cpp does not: texts with \
                 decomposed characters get other tokens"
                    .to_owned(),
            ],
            Some(_) => return Err(format!("its normalizer is {}; only NFC is supported", types(&file["normalizer"]))),
        };
        Ok((BpeModel::Merges { pattern, merges: self.merges.clone() }, differences))
    }

    fn scores(&self, tokens: &[Token], adds_space: bool) -> Result<BpeModel, String> {
        let (file, model) = (self.file, self.model());
        if !self.is_metaspace(tokens, adds_space) {
            if file["normalizer"] != space_normalizer(adds_space) {
                return Err(format!(
                    "its normalizer ({}) is not SentencePiece's",
                    types(&file["normalizer"])
                ));
            }
            if !file["pre_tokenizer"].is_null() {
                return Err(format!(
                    "its pre-tokenizer is {}; SentencePiece has none",
                    types(&file["pre_tokenizer"])
                ));
            }
        }
        if model["byte_fallback"] != true || model["ignore_merges"] == true {
            return Err(
                "its SentencePiece BPE has `byte_fallback` = false or `ignore_merges` = true".to_owned()
            );
        }
        let scores = self.renumbered_scores(tokens);
        let by_score = merges_by_score(tokens, &scores);
        let merges = self.merges.iter().map(|(left, right)| (left.as_str(), right.as_str()));
        if pairs_by_result(by_score.into_iter()) != pairs_by_result(merges) {
            return Err("its merges do not follow from a score for each token".to_owned());
        }
        Ok(BpeModel::Scores { scores, adds_space })
    }

    /// A score for each token: 0, -1, -2, ... for results of merges, in their order, then for the other normal tokens.
    /// Special tokens before the first of them have 0, as in SentencePiece.
    fn renumbered_scores(&self, tokens: &[Token]) -> Vec<f32> {
        let ids: HashMap<&str, usize> =
            tokens.iter().enumerate().map(|(id, token)| (token.text.as_str(), id)).collect();
        let results = self.merges.iter().map(|(left, right)| format!("{left}{right}"));
        let made = results.filter_map(|result| ids.get(result.as_str()).copied());
        let is_piece = |id: &usize| tokens[*id].kind == TokenKind::Normal;
        let mut scores = vec![0.0; tokens.len()];
        let mut numbered = HashSet::new();
        let mut next = 0.0;
        for id in made.chain((0..tokens.len()).filter(is_piece)) {
            let is_leading_special = numbered.is_empty() && !is_piece(&id);
            if !is_leading_special && numbered.insert(id) {
                scores[id] = next;
                next -= 1.0;
            }
        }
        scores
    }

    /// Whether the pre-tokenizer is `Metaspace`, which `transformers` has in place of SentencePiece's normalizer.
    fn is_metaspace(&self, tokens: &[Token], adds_space: bool) -> bool {
        let pre = &self.file["pre_tokenizer"];
        let is_metaspace =
            pre["type"] == "Metaspace" && pre["replacement"] == "▁" && self.file["normalizer"].is_null();
        let adds = match pre["prepend_scheme"].as_str() {
            Some("always" | "first") => true,
            Some("never") => false,
            _ => return false,
        };
        // Split before each ▁, a text never has a token with ▁ inside.
        let crosses =
            |token: &Token| token.kind == TokenKind::Normal && token.text.chars().skip(1).any(|c| c == '▁');
        is_metaspace && adds == adds_space && (pre["split"] == false || !tokens.iter().any(crosses))
    }

    /// Differences in the handling of spaces.
    fn space_differences(&self) -> Vec<String> {
        let mut differences = Vec::new();
        let scheme = self.file["pre_tokenizer"]["prepend_scheme"].as_str();
        if matches!(scheme, Some("always" | "first")) {
            differences.push(
                "llama.cpp adds a space before a text that starts with a space; this tokenizer does not"
                    .to_owned(),
            );
        }
        if scheme == Some("first") {
            differences
                .push("llama.cpp adds a space after a special token; this tokenizer does not".to_owned());
        }
        let added = self.file["added_tokens"].as_array().into_iter().flatten();
        let strips_spaces =
            |token: &&Value| token["special"] == true && (token["lstrip"] == true || token["rstrip"] == true);
        let stripping: Vec<String> =
            added.filter(strips_spaces).map(|token| token["content"].to_string()).collect();
        if !stripping.is_empty() {
            differences.push(format!(
                "llama.cpp keeps the spaces around {}; this tokenizer strips them",
                stripping.join(", ")
            ));
        }
        differences
    }

    /// The tokens by id; ids without a token are [`TokenKind::Unused`].
    fn tokens(&self, n_tokens: usize) -> Result<Vec<Token>, String> {
        let unused = |id| Token { text: format!("[PAD{id}]"), kind: TokenKind::Unused };
        let mut tokens: Vec<Token> = (0..n_tokens).map(unused).collect();
        let falls_back = self.model()["byte_fallback"] == true;
        let mut put = |id: &Value, text: &str, kind: TokenKind| {
            let token = id.as_u64().and_then(|id| tokens.get_mut(usize::try_from(id).ok()?));
            if let Some(token) = token {
                *token = Token { text: text.to_owned(), kind };
            }
        };
        for (text, id) in self.model()["vocab"].as_object().into_iter().flatten() {
            let is_byte = falls_back && text.len() == 6 && text.starts_with("<0x") && text.ends_with('>');
            put(id, text, if is_byte { TokenKind::Byte } else { TokenKind::Normal });
        }
        for token in self.file["added_tokens"].as_array().into_iter().flatten() {
            let text = token["content"].as_str().unwrap_or_default();
            put(&token["id"], text, self.kind(token)?);
        }
        Ok(tokens)
    }

    /// The kind of an added token.
    fn kind(&self, token: &Value) -> Result<TokenKind, String> {
        if self.model()["unk_token"] == token["content"] && self.model()["byte_fallback"] == true {
            return Ok(TokenKind::Unknown);
        }
        if token["special"] == true {
            return Ok(TokenKind::Control);
        }
        // llama.cpp matches user-defined tokens exactly.
        let mut flags = ["single_word", "lstrip", "rstrip"].into_iter().filter(|&key| token[key] == true);
        if let Some(key) = flags.next() {
            return Err(format!("its token {} has `{key}` = true", token["content"]));
        }
        if token["normalized"] == true && self.file["decoder"]["type"] != "ByteLevel" {
            return Err(format!(
                "its token {} is matched in normalized text (`normalized` = true)",
                token["content"]
            ));
        }
        Ok(TokenKind::UserDefined)
    }
}

/// Whether two pre-tokenizers split text the same way.
fn is_same(found: &Value, expected: &Value) -> bool {
    /// Without `trim_offsets`, which does not affect ids.
    fn plain(part: &Value) -> Value {
        match part {
            Value::Array(parts) => parts.iter().map(plain).collect(),
            Value::Object(parts) => {
                let matters = |(key, _): &(&String, &Value)| *key != "trim_offsets";
                parts.iter().filter(matters).map(|(key, part)| (key.clone(), plain(part))).collect()
            }
            part => part.clone(),
        }
    }
    plain(found) == plain(expected)
}

/// The results of merges in their order, each with the pairs that make it.
fn pairs_by_result<'a>(
    merges: impl Iterator<Item = (&'a str, &'a str)>,
) -> Vec<(String, BTreeSet<(&'a str, &'a str)>)> {
    let mut results: Vec<(String, BTreeSet<_>)> = Vec::new();
    for (left, right) in merges {
        let result = format!("{left}{right}");
        match results.last_mut().filter(|(last, _)| *last == result) {
            Some((_, parts)) => parts.insert((left, right)),
            None => {
                results.push((result, BTreeSet::from([(left, right)])));
                true
            }
        };
    }
    results
}

/// The `type` of a part of a `tokenizer.json`; for a sequence, the types of its parts.
fn types(part: &Value) -> String {
    let parts = ["normalizers", "pretokenizers", "decoders"].into_iter().find_map(|key| part[key].as_array());
    match parts {
        Some(parts) => parts.iter().map(types).collect::<Vec<_>>().join(", "),
        None if part.is_null() => "none".to_owned(),
        None => part.get("type").unwrap_or(&json!("unknown")).to_string(),
    }
}
