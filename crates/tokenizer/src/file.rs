//! Tokenizer files: Hugging Face's `tokenizer.json`, `vocab.json` with `merges.txt`, and `tokenizer_config.json`.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use ::fs::{atomic, sha256_hex};
use serde::Deserialize;
use serde_json::{Value, json};
use tokenizers::Tokenizer as Pipeline;
use tokenizers::models::bpe::{BPE, Vocab};

use crate::added;
use crate::pipeline::{END_OF_TEXT, byte_level_pipeline};
use crate::untrusted::{self, check_merges, without_panic};
use crate::{Error, Result, Tokenizer};

impl Tokenizer {
    /// Reads any Hugging Face `tokenizer.json`.
    ///
    /// Fails with [`Error::Read`] or [`Error::ParseFile`], or with [`Error::ParsePair`] if the folder has only one of
    /// `vocab.json` and `merges.txt` instead.
    pub fn load(path: &Path) -> Result<Self> {
        let json = fs::read_to_string(path).map_err(|source| unreadable(path, source))?;
        parse_in_thread(|| Self::parse(&json))
            .map_err(|source| Error::ParseFile { path: path.to_owned(), source })
    }

    /// Reads GPT-2's older pair of files, `vocab.json` and `merges.txt`, and the files beside it that name added and
    /// special tokens: `added_tokens.json`, `special_tokens_map.json` and `tokenizer_config.json`.
    ///
    /// Fails with [`Error::Read`] or [`Error::ParsePair`].
    pub fn load_byte_level(vocabulary: &Path, merges: &Path) -> Result<Self> {
        let read = |path: &Path| {
            fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })
        };
        let damaged = |path: &Path, reason: String| Error::ParsePair { path: path.to_owned(), reason };
        let vocabulary_text = read(vocabulary)?;
        let vocab: Vocab =
            serde_json::from_str(&vocabulary_text).map_err(|error| damaged(vocabulary, error.to_string()))?;
        // The first line may be the version.
        let merges_text = read(merges)?;
        let lines = merges_text.lines().filter(|line| !line.starts_with("#version") && !line.is_empty());
        let mut pairs = Vec::new();
        for line in lines {
            let not_a_pair = || damaged(merges, format!("the line {line:?} is not two tokens"));
            pairs.push(line.split_once(' ').ok_or_else(not_a_pair)?);
        }
        check_merges("", |token| vocab.contains_key(token), pairs.iter().copied())
            .map_err(|reason| damaged(merges, reason))?;
        let pairs = pairs.into_iter().map(|(left, right)| (left.to_owned(), right.to_owned()));
        let model = BPE::builder()
            .vocab_and_merges(vocab, pairs.collect())
            .build()
            .map_err(|error| damaged(merges, error.to_string()))?;
        let mut pipeline = byte_level_pipeline(model);
        let folder = vocabulary.parent().unwrap_or(Path::new(""));
        added::add_tokens(&mut pipeline, folder)
            .map_err(|(file, reason)| damaged(&folder.join(file), reason))?;
        check_ids(&pipeline).map_err(|reason| damaged(vocabulary, reason))?;
        Ok(Self::new(pipeline))
    }

    /// Writes the tokenizer as a `tokenizer.json`, atomically.
    ///
    /// Fails with [`Error::Write`]; a file that was at `path` is then unchanged.
    pub fn save(&self, path: &Path) -> Result<()> {
        let written = atomic::write_file(path, self.to_json().as_bytes());
        written.map_err(|error| Error::Write { path: path.to_owned(), source: error.source })
    }

    /// Parses the text of a `tokenizer.json`; fails with [`Error::Parse`].
    pub fn from_json(json: &str) -> Result<Self> {
        Self::parse(json).map_err(Error::Parse)
    }

    /// The text of the `tokenizer.json`; deterministic.
    pub fn to_json(&self) -> String {
        self.pipeline().to_string(true).expect("a tokenizer has only strings as keys, so it is JSON")
    }

    /// A hexadecimal SHA-256 of [`to_json`](Self::to_json) and the [limit](Self::limited_to) of the vocabulary.
    pub fn fingerprint(&self) -> String {
        let mut whole = self.to_json();
        if self.n_excess_tokens() > 0 {
            whole += &self.vocab_size().to_string();
        }
        sha256_hex(whole.as_bytes())
    }

    /// The contents of a `tokenizer_config.json` for `transformers.AutoTokenizer`.
    ///
    /// `model_max_length` is the longest input of the model, in tokens.
    pub fn hugging_face_config(&self, model_max_length: usize) -> Value {
        let mut config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": model_max_length,
            // With `true`, decoding drops spaces before punctuation.
            "clean_up_tokenization_spaces": false,
        });
        if self.end_of_text().is_some() {
            config["bos_token"] = json!(END_OF_TEXT);
            config["eos_token"] = json!(END_OF_TEXT);
        }
        if let [bos] = *self.prompt_prefix() {
            config["bos_token"] = json!(self.decode(&[bos]));
        }
        config
    }

    fn parse(json: &str) -> tokenizers::Result<Self> {
        Self::parse_value(&serde_json::from_str(json)?)
    }

    /// Parses an untrusted `tokenizer.json`.
    pub(crate) fn parse_value(file: &Value) -> tokenizers::Result<Self> {
        untrusted::check(file)?;
        without_panic(|| {
            let pipeline = Pipeline::deserialize(file)?;
            check_ids(&pipeline)?;
            Ok(Self::new(pipeline))
        })
    }
}

/// Runs `parse` on its own thread and returns a copy of the result.
///
/// Parsing GPT-2's file takes some 40 MB of temporary allocations, scattered among the 8 MB that stay. An allocator
/// with one heap per thread frees them with the thread, and the copy is compact.
fn parse_in_thread<E: Send>(parse: impl FnOnce() -> Result<Tokenizer, E> + Send) -> Result<Tokenizer, E> {
    let (parsed, to_copy) = mpsc::channel();
    let (copied, is_copied) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let parser = scope.spawn(move || {
            let tokenizer = parse()?;
            let _ = parsed.send(tokenizer.clone());
            let _ = is_copied.recv(); // The last owner frees the tokenizer, and that has to be this thread.
            Ok(())
        });
        let copy = to_copy.recv().map(|tokenizer| tokenizer.deep_copy());
        drop(copied);
        let result = parser.join().unwrap_or_else(|panic| resume_unwind(panic));
        result.map(|()| copy.expect("it was parsed"))
    })
}

/// The error for an unreadable `tokenizer.json`; if half of the older pair of files is there, it names the missing
/// half.
fn unreadable(path: &Path, source: io::Error) -> Error {
    if source.kind() == io::ErrorKind::NotFound {
        for (file, other) in [("vocab.json", "merges.txt"), ("merges.txt", "vocab.json")] {
            let file = path.with_file_name(file);
            if file.exists() && !path.with_file_name(other).exists() {
                let reason = format!("its {other} is missing; put it into the same folder");
                return Error::ParsePair { path: file, reason };
            }
        }
    }
    Error::Read { path: path.to_owned(), source }
}

/// Refuses two tokens with the same id, since the library would save only one. Also refuses ids so far above the number
/// of tokens that a table of all ids would be mostly empty.
fn check_ids(pipeline: &Pipeline) -> Result<(), String> {
    let mut by_id = HashMap::new();
    for (token, id) in pipeline.get_vocab(false) {
        if let Some(other) = by_id.insert(id, token.clone()) {
            let (first, second) = if token < other { (token, other) } else { (other, token) };
            return Err(format!("tokens {first:?} and {second:?} both have the id {id}"));
        }
    }
    const SPARE: usize = 1 << 16;
    let tokens = pipeline.get_vocab(true);
    let limit = 2 * tokens.len() + SPARE;
    match tokens.iter().find(|(_, id)| usize::try_from(**id).is_ok_and(|id| id >= limit)) {
        Some((token, id)) => {
            Err(format!("token {token:?} has the id {id}, but there are only {} tokens", tokens.len()))
        }
        None => Ok(()),
    }
}
