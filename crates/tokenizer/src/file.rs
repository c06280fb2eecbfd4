//! A tokenizer as a file: Hugging Face's `tokenizer.json` and what goes beside it.

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
    /// Reads a `tokenizer.json`, ours or any other of Hugging Face's.
    ///
    /// Fails with [`Error::Read`] or [`Error::ParseFile`], or with [`Error::ParsePair`] where there is none and one of
    /// the older pair of files lies in its place without the other.
    pub fn load(path: &Path) -> Result<Self> {
        let json = fs::read_to_string(path).map_err(|source| unreadable(path, source))?;
        parsed_apart(|| Self::parse(&json))
            .map_err(|source| Error::ParseFile { path: path.to_owned(), source })
    }

    /// Reads the older pair of files with which GPT-2's tokenizer came, `vocab.json` and `merges.txt`, and what says which
    /// tokens were added to it or are special: `added_tokens.json`, `special_tokens_map.json` and `tokenizer_config.json`.
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
        // A line with the version may come first.
        let merges_text = read(merges)?;
        let lines = merges_text.lines().filter(|line| !line.starts_with("#version") && !line.is_empty());
        let mut pairs = Vec::new();
        for line in lines {
            let no_pair = || damaged(merges, format!("the line {line:?} is not two tokens"));
            pairs.push(line.split_once(' ').ok_or_else(no_pair)?);
        }
        check_merges("", &vocab.keys().map(String::as_str).collect(), pairs.iter().copied())
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

    /// Writes the tokenizer as a `tokenizer.json`, whole or not at all.
    ///
    /// Fails with [`Error::Write`], and then leaves what was at `path` before.
    pub fn save(&self, path: &Path) -> Result<()> {
        let written = atomic::write_file(path, self.to_json().as_bytes());
        written.map_err(|error| Error::Write { path: path.to_owned(), source: error.source })
    }

    /// Reads the text of a `tokenizer.json`; fails with [`Error::Parse`] if it is none.
    pub fn from_json(json: &str) -> Result<Self> {
        Self::parse(json).map_err(Error::Parse)
    }

    /// The text of the `tokenizer.json`, the same each time.
    pub fn to_json(&self) -> String {
        self.pipeline().to_string(true).expect("a tokenizer has only strings as keys, so it is JSON")
    }

    /// The SHA-256 of [`to_json`](Self::to_json) in hexadecimal: equal for tokenizers that are equal
    /// and [limited](Self::limited_to) alike.
    pub fn fingerprint(&self) -> String {
        let mut whole = self.to_json();
        if self.n_beyond() > 0 {
            whole += &self.vocab_size().to_string();
        }
        sha256_hex(whole.as_bytes())
    }

    /// The contents of the `tokenizer_config.json` with which `transformers.AutoTokenizer` opens the folder.
    ///
    /// `model_max_length` is the longest input of the model, in tokens.
    pub fn hugging_face_config(&self, model_max_length: usize) -> Value {
        let mut config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": model_max_length,
            // Otherwise spaces before punctuation are lost in decoding.
            "clean_up_tokenization_spaces": false,
        });
        if self.end_of_text().is_some() {
            config["bos_token"] = json!(END_OF_TEXT);
            config["eos_token"] = json!(END_OF_TEXT);
        }
        if let [begin] = *self.beginning() {
            config["bos_token"] = json!(self.decode(&[begin]));
        }
        config
    }

    fn parse(json: &str) -> tokenizers::Result<Self> {
        Self::parse_value(&serde_json::from_str(json)?)
    }

    /// The tokenizer of a `tokenizer.json` that may be anyone's.
    pub(crate) fn parse_value(file: &Value) -> tokenizers::Result<Self> {
        untrusted::check(file)?;
        without_panic(|| {
            let pipeline = Pipeline::deserialize(file)?;
            check_ids(&pipeline)?;
            Ok(Self::new(pipeline))
        })
    }
}

/// A copy of what `parse` returns on a thread of its own.
///
/// Parsing needs some 40 MB for a while for GPT-2's file, which lie scattered among the 8 MB that stay. An allocator with a heap for
/// each thread frees all of them with the thread, and the copy lies close together.
fn parsed_apart<E: Send>(parse: impl FnOnce() -> Result<Tokenizer, E> + Send) -> Result<Tokenizer, E> {
    let (parsed, to_copy) = mpsc::channel();
    let (copied, is_copied) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let parser = scope.spawn(move || {
            let tokenizer = parse()?;
            let _ = parsed.send(tokenizer.clone());
            let _ = is_copied.recv(); // Whoever drops it last frees it: this thread.
            Ok(())
        });
        let copy = to_copy.recv().map(|tokenizer| tokenizer.deep_copy());
        drop(copied);
        let result = parser.join().unwrap_or_else(|panic| resume_unwind(panic));
        result.map(|()| copy.expect("it was parsed"))
    })
}

/// Why a `tokenizer.json` can't be read: most often because the tokenizer lies in another form, and not all of it.
fn unreadable(path: &Path, source: io::Error) -> Error {
    if source.kind() == io::ErrorKind::NotFound {
        for (file, other) in [("vocab.json", "merges.txt"), ("merges.txt", "vocab.json")] {
            let file = path.with_file_name(file);
            if file.exists() && !path.with_file_name(other).exists() {
                let reason = format!("it is half a tokenizer; put the {other} that belongs to it beside it");
                return Error::ParsePair { path: file, reason };
            }
        }
    }
    Error::Read { path: path.to_owned(), source }
}

/// Refuses an id that two tokens of the model have, of which the library would save one, and an id so far above the
/// number of tokens that a table of all ids would be mostly empty.
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
            Err(format!("token {token:?} has the id {id}, and there are {} tokens", tokens.len()))
        }
        None => Ok(()),
    }
}
