//! A tokenizer as a file: Hugging Face's `tokenizer.json` and what goes beside it.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use atomic_write_file::AtomicWriteFile;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::layout::END_OF_TEXT;
use crate::{Error, Result, Tokenizer};

impl Tokenizer {
    /// Reads a `tokenizer.json`, ours or any other of Hugging Face's.
    ///
    /// Fails with [`Error::Read`] or [`Error::ParseFile`].
    pub fn load(path: &Path) -> Result<Self> {
        let json =
            fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::parse(&json).map_err(|source| Error::ParseFile { path: path.to_owned(), source })
    }

    /// Writes the tokenizer as a `tokenizer.json`, whole or not at all.
    ///
    /// Fails with [`Error::Write`], and then leaves what was at `path` before.
    pub fn save(&self, path: &Path) -> Result<()> {
        let write = || -> io::Result<()> {
            let mut file = AtomicWriteFile::open(path)?;
            file.write_all(self.to_json().as_bytes())?;
            file.commit()
        };
        write().map_err(|source| Error::Write { path: path.to_owned(), source })
    }

    /// Reads the text of a `tokenizer.json`; fails with [`Error::Parse`] if it is none.
    pub fn from_json(json: &str) -> Result<Self> {
        Self::parse(json).map_err(Error::Parse)
    }

    /// The text of the `tokenizer.json`, the same each time.
    pub fn to_json(&self) -> String {
        self.pipeline().to_string(true).expect("a tokenizer has only strings as keys, so it is JSON")
    }

    /// The SHA-256 of [`to_json`](Self::to_json) in hexadecimal: equal for tokenizers that are equal.
    pub fn fingerprint(&self) -> String {
        Sha256::digest(self.to_json()).iter().map(|byte| format!("{byte:02x}")).collect()
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
        config
    }

    fn parse(json: &str) -> tokenizers::Result<Self> {
        Ok(Self::new(json.parse()?))
    }
}
