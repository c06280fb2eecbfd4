//! Checks whether an existing prepared folder can be reused.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tokenizer::Tokenizer;

use crate::files::{persist, sha256_of_file, temporary_file};
use crate::meta::{Meta, Part, SourceText};
use crate::prepared::{Options, Outcome, Prepared, TokenizerChoice};
use crate::scan::scan;
use crate::source_file::SourceFile;
use crate::text::Text;
use crate::texts::Texts;
use crate::{Dtype, Error, OnProgress, Phase, Progress, Result, Rules, Source, Tokens};

/// The checksums of shards up to this size are always verified, which takes a fraction of a second.
const ALWAYS_VERIFIED_BYTES: u64 = 1 << 26;

/// The state of a prepared folder.
pub(crate) enum Existing {
    Absent,
    /// The reason why it can't be reused.
    Unusable(String),
    /// Intact shards with the requested tokenizer and split.
    Usable(Box<Prepared>),
}

/// Loads and checks a prepared folder, except whether its text has changed.
pub(crate) fn load(
    folder: &Path,
    tokenizer: &TokenizerChoice,
    options: &Options,
    on_progress: OnProgress<'_>,
) -> Existing {
    if !folder.exists() {
        return Existing::Absent;
    }
    match try_load(folder, tokenizer, options, on_progress) {
        Ok(prepared) => Existing::Usable(Box::new(prepared)),
        Err(reason) => Existing::Unusable(reason),
    }
}

fn try_load(
    folder: &Path,
    choice: &TokenizerChoice,
    options: &Options,
    on_progress: OnProgress<'_>,
) -> Result<Prepared, String> {
    let prepared = Prepared::load(folder, options.verify, on_progress).map_err(|error| match error {
        // Without the advice to delete the folder: it is prepared again automatically.
        Error::Unusable { path, reason } => format!("{} can't be used: {reason}", path.display()),
        error => error.to_string(),
    })?;
    if let TokenizerChoice::Given(given) = choice
        && given.fingerprint() != prepared.meta.tokenizer_fingerprint
    {
        return Err("it was made with another tokenizer".into());
    }
    let has_token = prepared.tokenizer.end_of_text().is_some();
    let documents = prepared.meta.documents.as_ref().filter(|documents| documents.are_tokens);
    let separator = documents.map(|documents| documents.separator.as_str());
    // Without an `<|endoftext|>` token, separators do not affect the tokens.
    if has_token && separator != options.separator.as_deref() {
        return Err("it was made with another document separator".into());
    }
    if options.split() != prepared.meta.split {
        return Err("it was made with another train/validation split".into());
    }
    Ok(prepared)
}

impl Prepared {
    /// Opens an existing prepared folder after checking each file against `meta.json`.
    ///
    /// The checksums of large shards are checked only if `verify` is true. Fails if a file is missing, damaged or
    /// inconsistent with the others; the error names it.
    pub fn load(folder: &Path, verify: bool, on_progress: OnProgress<'_>) -> Result<Self> {
        let meta = Meta::read(folder)?;
        let path = folder.join("tokenizer.json");
        let tokenizer = Tokenizer::load(&path)?;
        if tokenizer.fingerprint() != meta.tokenizer_fingerprint {
            return Err(Error::Unusable {
                path,
                reason: "the shards were made with another tokenizer".into(),
            });
        }
        let facts = (meta.vocab_size, meta.dtype);
        if facts != (tokenizer.vocab_size(), Dtype::for_vocab(tokenizer.vocab_size())) {
            let reason = format!("{} tokens of type {:?} do not match tokenizer.json", facts.0, facts.1);
            return Err(Error::Unusable { path: folder.join("meta.json"), reason });
        }
        let shard = |name: &str, part: &Part| {
            let path = folder.join(name);
            let unusable = |reason: String| Error::Unusable { path: path.clone(), reason };
            let verified = check_shard(&path, &meta, part, verify, on_progress).map_err(unusable)?;
            let tokens = Tokens::open(&path, meta.dtype)?;
            if verified && let Some((position, id)) = tokens.find_outside(meta.vocab_size) {
                let n_tokens = meta.vocab_size;
                return Err(unusable(format!(
                    "id {id} at position {position} is outside the vocabulary of {n_tokens}"
                )));
            }
            Ok(Arc::new(tokens))
        };
        let (train, valid) = (shard("train.bin", &meta.train)?, shard("val.bin", &meta.valid)?);
        Ok(Self { folder: folder.into(), meta, tokenizer, train, valid, outcome: Outcome::Reused })
    }
}

/// Checks the size and, where required, the checksum of a shard. Returns whether the checksum was verified.
fn check_shard(
    path: &Path,
    meta: &Meta,
    part: &Part,
    verify: bool,
    on_progress: OnProgress<'_>,
) -> Result<bool, String> {
    let size_bytes = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if Some(size_bytes) != part.n_tokens.checked_mul(meta.dtype.size_bytes() as u64) {
        return Err(format!("it has {size_bytes} bytes, not {} {:?} tokens", part.n_tokens, meta.dtype));
    }
    if size_bytes > ALWAYS_VERIFIED_BYTES && !verify {
        return Ok(false);
    }
    let mut done = 0;
    let sha256 = sha256_of_file(path, |n_bytes| {
        done += n_bytes;
        on_progress(Progress { phase: Phase::Verify, done, total: Some(size_bytes) });
    });
    if sha256.map_err(|error| error.to_string())? != part.sha256 {
        return Err("its checksum is wrong".into());
    }
    Ok(true)
}

/// Returns the folder if its text is unchanged, or the reason why it can't be reused.
pub(crate) fn unchanged(
    mut prepared: Prepared,
    texts: &Texts<'_>,
    source: &Source,
    options: &Options,
    on_progress: OnProgress<'_>,
) -> Result<Result<Prepared, String>> {
    let before = prepared.meta.clone();
    // Under other rules, the same files may give another text.
    let same_rules = before.rules == options.rules;
    let same_text = match source.sha256() {
        Some(sha256) => before.source.sha256 == sha256,
        None => is_same(texts.train(on_progress)?, &mut prepared.meta.source, same_rules, on_progress)?,
    };
    if !same_text {
        return Ok(Err("the text has changed".into()));
    }
    if let (Some(valid), Some(valid_source)) = (texts.valid()?, &mut prepared.meta.valid_source)
        && !is_same(valid, valid_source, same_rules, on_progress)?
    {
        return Ok(Err("the validation text has changed".into()));
    }
    if options.rules == Rules::NEWEST {
        prepared.meta.rules = Rules::NEWEST;
    }
    if prepared.meta != before {
        save(&prepared);
    }
    Ok(Ok(prepared))
}

/// Whether a text equals the prepared one. Files with the same size and time count as unchanged. Others are read; if
/// they are unchanged, their new times are recorded in `before`.
fn is_same(
    text: &Text,
    before: &mut SourceText,
    same_rules: bool,
    on_progress: OnProgress<'_>,
) -> Result<bool> {
    let files = text.files();
    if same_rules && files == before.files {
        return Ok(true);
    }
    let paths = |files: &[SourceFile]| files.iter().map(|file| file.path.clone()).collect::<Vec<_>>();
    if paths(&files) != paths(&before.files) || scan(text, None, on_progress)?.sha256 != before.sha256 {
        return Ok(false);
    }
    before.files = files;
    Ok(true)
}

/// Saves new file times, so that the text need not be read again. A failure is only logged.
fn save(prepared: &Prepared) {
    let path = prepared.folder.join("meta.json");
    let json = prepared.meta.to_json();
    let saved = temporary_file(&path, json.len() as u64).and_then(|mut file| {
        std::io::Write::write_all(&mut file, &json)
            .map_err(|source| Error::write(&path, json.len() as u64, source))?;
        persist(file, &path, json.len() as u64)
    });
    if let Err(error) = saved {
        tracing::debug!("cannot save the times of unchanged files: {error}");
    }
}
