//! A tokenizer as the vocabulary of a GGUF file, with which llama.cpp gives its ids: the way back of `imported.rs`.

use std::collections::{BTreeSet, HashMap, HashSet};

use formats::gguf::{Joins, Pattern, Token, TokenKind, Vocabulary};
use serde_json::{Value, json};

use crate::imported::{cuts, merges_by_score, spells_spaces};
use crate::pipeline::decoder_of_pieces;
use crate::{Error, Result, Tokenizer, TokenizerKind};

impl Tokenizer {
    /// The vocabulary of a GGUF file with which llama.cpp gives the ids of this tokenizer, and what will not be the same
    /// there, a sentence each.
    ///
    /// It is what [`Self::from_gguf`] makes this tokenizer of, but for three things that no `tokenizer.json` has: ids
    /// without a token are [`TokenKind::Unused`] ones called `[PAD7]`, scores are numbered anew from 0 down in their
    /// order, as SentencePiece numbers them, and where a text begins and ends is left to the caller, unless there is a
    /// `<|endoftext|>` or a mark that is put before every text.
    ///
    /// Fails with [`Error::NoVocabulary`] if llama.cpp has nothing that does the same.
    pub fn to_gguf(&self) -> Result<(Vocabulary, Vec<String>)> {
        let (vocabulary, mut differences) = match self.kind() {
            Some(TokenizerKind::Char) => (Vocabulary::from_chars(&self.chars()), Vec::new()),
            Some(TokenizerKind::Byte) if self.n_beyond() == 0 => (Vocabulary::bytes(), Vec::new()),
            Some(TokenizerKind::Byte | TokenizerKind::Gpt2 | TokenizerKind::Bpe { .. }) | None => {
                self.general().map_err(|reason| Error::NoVocabulary { reason })?
            }
        };
        if self.n_beyond() > 0 {
            differences.push(format!(
                "the tokenizer has {} more tokens than the model, which are left out",
                self.n_beyond()
            ));
        }
        Ok((vocabulary, differences))
    }

    /// The tokens of a vocabulary of characters.
    fn chars(&self) -> Vec<char> {
        let ids = (0..).take(self.vocab_size());
        ids.filter_map(|id| str::from_utf8(self.token_bytes(id)?).ok()?.chars().next()).collect()
    }

    fn general(&self) -> Result<(Vocabulary, Vec<String>), String> {
        let file: Value = serde_json::from_str(&self.to_json()).expect("a tokenizer is JSON");
        let mut merges = self.merges();
        if self.n_beyond() > 0 {
            let is_usable = |id: &Value| id.as_u64().is_some_and(|id| id < self.vocab_size() as u64);
            merges.retain(|(left, right)| is_usable(&file["model"]["vocab"][format!("{left}{right}")]));
        }
        let file = File { file: &file, merges };
        let tokens = file.tokens(self.vocab_size())?;
        let (joins, mut differences) = file.joins(&tokens)?;
        differences.extend(file.differences_of_spaces());
        let end_of_text = self.end_of_text();
        let begin = match *self.beginning() {
            [] => None,
            [begin] => Some(begin),
            _ => return Err("it puts more than one token before every text".to_owned()),
        };
        let vocabulary = Vocabulary {
            tokens,
            joins,
            begin_of_text: begin.or(end_of_text),
            ends_of_text: end_of_text.into_iter().collect(),
            adds_begin: begin.is_some(),
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

    /// What joins pieces of text, and what llama.cpp will do otherwise.
    fn joins(&self, tokens: &[Token]) -> Result<(Joins, Vec<String>), String> {
        self.refuse_what_is_no_plain_bpe()?;
        if self.file["decoder"]["type"] == "ByteLevel" {
            return self.byte_level(tokens);
        }
        for adds_space in [true, false] {
            if self.file["decoder"] == decoder_of_pieces(adds_space) {
                return Ok((self.scores(tokens, adds_space)?, Vec::new()));
            }
        }
        Err(format!(
            "its decoder is {}; a byte-level BPE has \"ByteLevel\", and SentencePiece's has \"Replace\", \"ByteFallback\", \
             \"Fuse\" and \"Strip\"",
            types(&self.file["decoder"])
        ))
    }

    fn refuse_what_is_no_plain_bpe(&self) -> Result<(), String> {
        let model = self.model();
        if model["type"] != "BPE" {
            return Err(format!("its model is {}, and no BPE", types(model)));
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

    fn byte_level(&self, tokens: &[Token]) -> Result<(Joins, Vec<String>), String> {
        let (file, model) = (self.file, self.model());
        let pattern =
            Pattern::ALL.into_iter().find(|&pattern| is_same(&file["pre_tokenizer"], &cuts(pattern)));
        let Some(pattern) = pattern else {
            return Err(format!(
                "it cuts text in another way ({}) than those of GPT-2, SmolLM, Qwen2 and Llama 3",
                types(&file["pre_tokenizer"])
            ));
        };
        let ignores_merges = model["ignore_merges"] == true;
        if ignores_merges != (pattern == Pattern::Llama3) {
            return Err(format!(
                "it cuts text as {} and has `ignore_merges` = {ignores_merges}",
                pattern.name()
            ));
        }
        if model["byte_fallback"] == true {
            return Err("its BPE of bytes has `byte_fallback` = true".to_owned());
        }
        let known: HashSet<&str> = tokens.iter().map(|token| token.text.as_str()).collect();
        let knows_every_byte = (0..=u8::MAX).all(|byte| known.contains(Token::normal(&[byte]).text.as_str()));
        if !model["unk_token"].is_null() && !knows_every_byte {
            return Err(format!("it has no tokens for some bytes and {} in their place", model["unk_token"]));
        }
        let differences = match file["normalizer"]["type"].as_str() {
            None => Vec::new(),
            Some("NFC") => vec![
                "this tokenizer composes characters and their accents (NFC) and llama.cpp takes them as they are: where a \
                 text has them apart, its tokens are others"
                    .to_owned(),
            ],
            Some(_) => return Err(format!("it changes text ({}) first", types(&file["normalizer"]))),
        };
        Ok((Joins::Merges { pattern, merges: self.merges.clone() }, differences))
    }

    fn scores(&self, tokens: &[Token], adds_space: bool) -> Result<Joins, String> {
        let (file, model) = (self.file, self.model());
        if !self.is_metaspace(tokens, adds_space) {
            if file["normalizer"] != spells_spaces(adds_space) {
                return Err(format!(
                    "it changes text ({}) otherwise than SentencePiece",
                    types(&file["normalizer"])
                ));
            }
            if !file["pre_tokenizer"].is_null() {
                return Err(format!(
                    "it cuts text ({}), which SentencePiece does not",
                    types(&file["pre_tokenizer"])
                ));
            }
        }
        if model["byte_fallback"] != true || model["ignore_merges"] == true {
            return Err("its BPE of pieces does not fall back to bytes, or ignores merges".to_owned());
        }
        let scores = self.numbered(tokens);
        let by_score = merges_by_score(tokens, &scores);
        let merges = self.merges.iter().map(|(left, right)| (left.as_str(), right.as_str()));
        if by_result(by_score.into_iter()) != by_result(merges) {
            return Err("its merges are not those that a score for each token makes".to_owned());
        }
        Ok(Joins::Scores { scores, adds_space })
    }

    /// A score for each token: 0, -1, -2, ... for those that merges make, in their order, then for the other pieces of
    /// text. Marks that no piece comes before have 0, as SentencePiece gives them.
    fn numbered(&self, tokens: &[Token]) -> Vec<f32> {
        let ids: HashMap<&str, usize> =
            tokens.iter().enumerate().map(|(id, token)| (token.text.as_str(), id)).collect();
        let results = self.merges.iter().map(|(left, right)| format!("{left}{right}"));
        let made = results.filter_map(|result| ids.get(result.as_str()).copied());
        let is_piece = |id: &usize| tokens[*id].kind == TokenKind::Normal;
        let mut scores = vec![0.0; tokens.len()];
        let mut numbered = HashSet::new();
        let mut next = 0.0;
        for id in made.chain((0..tokens.len()).filter(is_piece)) {
            let is_mark_before_all = numbered.is_empty() && !is_piece(&id);
            if !is_mark_before_all && numbered.insert(id) {
                scores[id] = next;
                next -= 1.0;
            }
        }
        scores
    }

    /// Whether spaces are spelled by the pre-tokenizer that `transformers` has in place of SentencePiece's normalizer.
    fn is_metaspace(&self, tokens: &[Token], adds_space: bool) -> bool {
        let cuts = &self.file["pre_tokenizer"];
        let is_it =
            cuts["type"] == "Metaspace" && cuts["replacement"] == "▁" && self.file["normalizer"].is_null();
        let adds = match cuts["prepend_scheme"].as_str() {
            Some("always" | "first") => true,
            Some("never") => false,
            _ => return false,
        };
        // Text that is cut before each ▁ can't become a token with one inside.
        let crosses =
            |token: &Token| token.kind == TokenKind::Normal && token.text.chars().skip(1).any(|c| c == '▁');
        is_it && adds == adds_space && (cuts["split"] == false || !tokens.iter().any(crosses))
    }

    /// What is done otherwise beside special tokens and spaces.
    fn differences_of_spaces(&self) -> Vec<String> {
        let mut differences = Vec::new();
        let scheme = self.file["pre_tokenizer"]["prepend_scheme"].as_str();
        if matches!(scheme, Some("always" | "first")) {
            differences.push(
                "llama.cpp puts a space before a text that begins with one, and this tokenizer does not"
                    .to_owned(),
            );
        }
        if scheme == Some("first") {
            differences.push(
                "llama.cpp puts a space before the text after a special token, and this tokenizer does not"
                    .to_owned(),
            );
        }
        let added = self.file["added_tokens"].as_array().into_iter().flatten();
        let takes_spaces =
            |token: &&Value| token["special"] == true && (token["lstrip"] == true || token["rstrip"] == true);
        let taking: Vec<String> =
            added.filter(takes_spaces).map(|token| token["content"].to_string()).collect();
        if !taking.is_empty() {
            differences.push(format!(
                "llama.cpp keeps the spaces beside {}, which this tokenizer takes away",
                taking.join(", ")
            ));
        }
        differences
    }

    /// The tokens by their ids, with [`TokenKind::Unused`] ones where there are none.
    fn tokens(&self, n_tokens: usize) -> Result<Vec<Token>, String> {
        let unused = |id| Token { text: format!("[PAD{id}]"), kind: TokenKind::Unused };
        let mut tokens: Vec<Token> = (0..n_tokens).map(unused).collect();
        let falls_back = self.model()["byte_fallback"] == true;
        let mut put = |id: &Value, text: &str, kind: TokenKind| {
            let place = id.as_u64().and_then(|id| tokens.get_mut(usize::try_from(id).ok()?));
            if let Some(place) = place {
                *place = Token { text: text.to_owned(), kind };
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

    /// What an added token is for.
    fn kind(&self, token: &Value) -> Result<TokenKind, String> {
        if self.model()["unk_token"] == token["content"] && self.model()["byte_fallback"] == true {
            return Ok(TokenKind::Unknown);
        }
        if token["special"] == true {
            return Ok(TokenKind::Control);
        }
        // What is found in any text is found there as it stands.
        let mut asks = ["single_word", "lstrip", "rstrip"].into_iter().filter(|&key| token[key] == true);
        if let Some(key) = asks.next() {
            return Err(format!("its token {} has `{key}` = true", token["content"]));
        }
        if token["normalized"] == true && self.file["decoder"]["type"] != "ByteLevel" {
            return Err(format!(
                "its token {} is found in changed text (`normalized` = true)",
                token["content"]
            ));
        }
        Ok(TokenKind::UserDefined)
    }
}

/// Whether two pre-tokenizers cut text alike.
fn is_same(found: &Value, expected: &Value) -> bool {
    /// Without what only says which characters a token came from.
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

/// The tokens that merges make, in their order, each with the parts that it may be made of.
fn by_result<'a>(
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

/// What a part of a `tokenizer.json` calls itself, and the parts of a sequence themselves.
fn types(part: &Value) -> String {
    let parts = ["normalizers", "pretokenizers", "decoders"].into_iter().find_map(|key| part[key].as_array());
    match parts {
        Some(parts) => parts.iter().map(types).collect::<Vec<_>>().join(", "),
        None if part.is_null() => "none".to_owned(),
        None => part.get("type").unwrap_or(&json!("unknown")).to_string(),
    }
}
