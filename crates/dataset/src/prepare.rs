//! Prepares a source as a folder of shards, `ROOT/NAME/TOKENIZER/`:
//!
//! ```text
//! train.bin       training tokens: raw, little-endian, as in nanoGPT
//! val.bin         validation tokens
//! tokenizer.json  the tokenizer, in Hugging Face's format
//! meta.json       counts, checksums and the source of the shards
//! ```
//!
//! The folder is written under a temporary name and renamed once it is complete and flushed to disk. A lock prevents
//! two processes from preparing the same source; the second waits and then reuses the folder of the first.

use ::fs::{
    lock_waiting,
    scratch::{remove_leftovers, replace_folder, temporary_folder},
    sha256_hex,
};
use std::cell::Cell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokenizer::{BpeProgress, Tokenizer, TokenizerKind};

use crate::chunks::{Chunks, end_of_separator};
use crate::documents::{Documents, END_OF_TEXT};
use crate::listing::Copies;
use crate::meta::{FORMAT_VERSION, Meta, SourceText, Split};
use crate::prepared::{Options, Outcome, Prepared, TokenizerChoice};
use crate::reuse::{self, Existing};
use crate::scan::{Scan, scan};
use crate::source_file::{SourceFile, identity};
use crate::text::Text;
use crate::texts::Texts;
use crate::{Dtype, Error, OnProgress, Phase, Progress, Result, Rules, Source, Tokens, shard};

/// Tokenises a source into shards on disk, if needed, and opens them.
///
/// An existing folder is reused if the text, the tokenizer and the split are the same and the shards are intact. The
/// text is read in blocks and may be larger than memory.
///
/// ```
/// use dataset::{Options, Source, TokenizerChoice, prepare};
/// use tokenizer::TokenizerKind;
///
/// # let folder = tempfile::tempdir()?;
/// let options = Options { root: folder.path().into(), ..Options::default() };
/// let source = Source::resolve("shakespeare")?;
/// let prepared = prepare(&source, &TokenizerChoice::Kind(TokenizerKind::Char), &options, &|_| ())?;
/// assert_eq!((prepared.train.len(), prepared.valid.len()), (1_003_854, 111_540));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn prepare(
    source: &Source,
    tokenizer: &TokenizerChoice,
    options: &Options,
    on_progress: OnProgress<'_>,
) -> Result<Prepared> {
    let fraction = options.valid_fraction;
    if options.valid.is_none() && !(fraction > 0.0 && fraction < 1.0) {
        return Err(Error::ValidFraction(fraction));
    }
    check_parts_differ(source, options)?;
    let name = source.folder_name()?;
    let parent = options.root.join(&name);
    let texts = Texts::new(source, options, &parent);

    let _lock = lock_waiting(&options.root, &name);
    remove_leftovers(&parent);

    let mut target = parent.join(variant_name(tokenizer, options)?);
    let mut others = other_folders(&parent, tokenizer, options)?;
    // With older rules, reuse the folder of an older version, but write new shards to a separate folder.
    if options.rules != Rules::NEWEST {
        others.push(target.clone());
        target.as_mut_os_string().push("-older-rules");
    }
    for folder in others {
        if let Existing::Usable(prepared) = reuse::load(&folder, tokenizer, options, on_progress)
            && let Ok(prepared) = reuse::unchanged(*prepared, &texts, source, options, on_progress)?
        {
            return Ok(prepared);
        }
    }
    let reason = match reuse::load(&target, tokenizer, options, on_progress) {
        Existing::Absent => None,
        Existing::Unusable(reason) => {
            tracing::warn!("preparing {} again: {reason}", target.display());
            Some(reason)
        }
        Existing::Usable(prepared) => {
            match reuse::unchanged(*prepared, &texts, source, options, on_progress)? {
                Ok(prepared) => return Ok(prepared),
                Err(reason) => Some(reason),
            }
        }
    };
    let prepared = build(&texts, source, tokenizer, options, &parent, &target, on_progress);
    if prepared.is_err() {
        let _ = fs::remove_dir(&parent); // Succeeds only if it is empty.
    }
    let outcome = reason.map_or(Outcome::Built, |reason| Outcome::Rebuilt { reason });
    Ok(Prepared { outcome, ..prepared? })
}

/// Fails if the training and validation texts are the same. Older rules allow that.
fn check_parts_differ(source: &Source, options: &Options) -> Result<()> {
    let (Source::Path(train), Some(valid), false) = (source, &options.valid, options.rules.is_v1()) else {
        return Ok(());
    };
    if identity(train)? == identity(valid)? {
        return Err(Error::SameText { path: valid.clone() });
    }
    if train.is_file() && valid.is_file() {
        let (original, copy) = ([SourceFile::stat(train)?], SourceFile::stat(valid)?);
        if Copies::of(&original).contain(valid, copy.size_bytes)? {
            return Err(Error::CopiedText { valid: valid.clone(), train: train.clone() });
        }
    }
    Ok(())
}

/// Folders with other names that may hold the same shards.
fn other_folders(parent: &Path, choice: &TokenizerChoice, options: &Options) -> Result<Vec<PathBuf>> {
    // The shards of a tokenizer that was trained on this text are in the folder of its kind.
    let kind = match choice {
        TokenizerChoice::Given(given) => given.kind().map(TokenizerChoice::Kind),
        TokenizerChoice::Kind(_) => None,
    };
    // Versions before separator support used the folder names that shards with separators have now.
    let before = options.separator.is_none() && choice.has_end_of_text();
    let before = before.then(|| Options { separator: Some(END_OF_TEXT.to_owned()), ..options.clone() });
    let ways = [
        kind.as_ref().map(|kind| (kind, options)),
        kind.as_ref().zip(before.as_ref()),
        before.as_ref().map(|before| (choice, before)),
    ];
    let folder = |(choice, options)| Ok(parent.join(variant_name(choice, options)?));
    ways.into_iter().flatten().map(folder).collect()
}

/// The folder name for a tokenizer and options. Combinations that give different shards have different names.
fn variant_name(choice: &TokenizerChoice, options: &Options) -> Result<String> {
    let tokenizer = match choice {
        TokenizerChoice::Kind(kind) => kind.to_string().replace(':', "-"),
        TokenizerChoice::Given(tokenizer) => format!("tokenizer-{}", &tokenizer.fingerprint()[..8]),
    };
    let split = match &options.valid {
        Some(valid) => {
            let valid = valid.canonicalize().map_err(|source| Error::read(valid, source))?;
            format!("-valid-{}", &sha256_hex(valid.as_os_str().as_encoded_bytes())[..8])
        }
        None if options.valid_fraction == Options::default().valid_fraction => String::new(),
        None => format!("-valid-{}", options.valid_fraction),
    };
    let separator = match &options.separator {
        Some(separator) if separator != END_OF_TEXT && choice.has_end_of_text() => {
            format!("-separator-{}", &sha256_hex(separator.as_bytes())[..8])
        }
        None if choice.has_end_of_text() => "-one-document".to_owned(),
        _ => String::new(),
    };
    Ok(tokenizer + &split + &separator)
}

fn build(
    texts: &Texts<'_>,
    source: &Source,
    choice: &TokenizerChoice,
    options: &Options,
    parent: &Path,
    target: &Path,
    on_progress: OnProgress<'_>,
) -> Result<Prepared> {
    let (text, valid) = (texts.train(on_progress)?, texts.valid()?);
    let separator = options.separator.as_deref();
    let removes_separators = separator.is_some() && choice.has_end_of_text();
    let scan = |text: &Text| {
        let scanned = scan(text, separator.or(Some(END_OF_TEXT)), on_progress)?;
        let has_document = scanned.documents.as_ref().is_none_or(|documents| documents.n_documents > 0);
        // If separators become tokens, a text of only separators is empty.
        if has_document || !removes_separators {
            Ok(scanned)
        } else {
            Err(Error::Empty { text: text.name.clone() })
        }
    };
    let scanned = scan(text)?;
    let valid_scanned = valid.map(scan).transpose()?;

    let n_train = match valid {
        Some(_) => scanned.n_characters,
        None => n_train(scanned.n_characters, options.valid_fraction),
    };
    let n_train = match (separator, choice.has_end_of_text()) {
        (Some(separator), true) => end_of_separator(text, n_train, separator)?,
        _ => n_train,
    };
    let tokenizer = match choice {
        TokenizerChoice::Given(tokenizer) => tokenizer.clone(),
        TokenizerChoice::Kind(TokenizerKind::Byte) => Tokenizer::byte(),
        TokenizerChoice::Kind(TokenizerKind::Gpt2) => Tokenizer::gpt2(),
        TokenizerChoice::Kind(TokenizerKind::Char) => {
            let alphabets = [Some(&scanned), valid_scanned.as_ref()];
            Tokenizer::from_chars(alphabets.into_iter().flatten().flat_map(|scan| scan.alphabet.clone()))?
        }
        TokenizerChoice::Kind(TokenizerKind::Bpe { vocab_size }) => {
            train_bpe(text, n_train, separator, *vocab_size, on_progress)?
        }
    };

    let total = scanned.size_bytes + valid_scanned.as_ref().map_or(0, |scan| scan.size_bytes);
    let dtype = Dtype::for_vocab(tokenizer.vocab_size());
    let needed_bytes = total * dtype.size_bytes() as u64; // At most one token per byte of text.
    let failed = |source| Error::write(target, needed_bytes, source);
    let folder = temporary_folder(parent).map_err(failed)?;
    tokenizer.save(&folder.path().join("tokenizer.json")).map_err(|error| match error {
        tokenizer::Error::Write { source, .. } => failed(source),
        error => error.into(),
    })?;

    let done = Cell::new(0);
    let on_bytes = |n_bytes| {
        done.update(|done| done + n_bytes);
        on_progress(Progress { phase: Phase::Encode, done: done.get(), total: Some(total) });
    };
    let write = |name, text, characters| {
        shard::write(&folder.path().join(name), text, characters, &tokenizer, separator, &on_bytes, &failed)
    };
    let train = write("train.bin", text, 0..n_train)?;
    let valid_part = match valid {
        Some(valid) => write("val.bin", valid, 0..u64::MAX)?,
        None => write("val.bin", text, n_train..u64::MAX)?,
    };
    for text in [Some(text), valid].into_iter().flatten() {
        text.check_unchanged()?;
    }

    let are_tokens = separator.is_some() && tokenizer.end_of_text().is_some();
    let documents = scanned.documents.clone().map(|documents| Documents { are_tokens, ..documents });
    let has_json_lines = scanned.has_json_lines;
    let valid_source = valid.zip(valid_scanned);
    let meta = Meta {
        format_version: FORMAT_VERSION,
        tokenizer: tokenizer.kind().map_or_else(|| "custom".into(), |kind| kind.to_string()),
        tokenizer_fingerprint: tokenizer.fingerprint(),
        vocab_size: tokenizer.vocab_size(),
        dtype,
        split: options.split(),
        rules: options.rules,
        train,
        valid: valid_part,
        source: source_text(source.description(), text, scanned),
        valid_source: valid_source.map(|(valid, scanned)| source_text(valid.name.clone(), valid, scanned)),
        documents,
        has_json_lines,
    };
    write_synced(&folder.path().join("meta.json"), &meta.to_json()).map_err(failed)?;
    replace_folder(folder, target).map_err(failed)?;
    Prepared::open(target, meta, tokenizer)
}

impl Options {
    pub(crate) fn split(&self) -> Split {
        match &self.valid {
            None => Split::Fraction(self.valid_fraction),
            Some(path) => Split::File(path.canonicalize().unwrap_or_else(|_| path.clone())),
        }
    }
}

impl Prepared {
    /// Maps the shards of a complete folder.
    pub(crate) fn open(folder: &Path, meta: Meta, tokenizer: Tokenizer) -> Result<Self> {
        let open = |name| Tokens::open(&folder.join(name), meta.dtype).map(Arc::new);
        let (train, valid) = (open("train.bin")?, open("val.bin")?);
        Ok(Self { folder: folder.into(), meta, tokenizer, train, valid, outcome: Outcome::Reused })
    }
}

/// The number of training characters, split as in nanoGPT: ⌊n · 0.9⌋ for a fraction of 0.1.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "at most n_characters, and positive"
)]
fn n_train(n_characters: u64, valid_fraction: f64) -> u64 {
    (n_characters as f64 * (1.0 - valid_fraction)).floor() as u64
}

/// Trains a BPE on the training part alone, so that the validation part stays unseen.
fn train_bpe(
    text: &Text,
    n_train: u64,
    separator: Option<&str>,
    vocab_size: usize,
    on_progress: OnProgress<'_>,
) -> Result<Tokenizer> {
    // The trainer accepts only I/O errors, so the original error is stored here.
    let failed = Cell::new(None);
    let size_bytes = text.size_bytes();
    let boundary = |text: &str| {
        let before_space = text.rfind(char::is_whitespace).filter(|&end| end > 0);
        before_space.or_else(|| tokenizer::last_boundary(text))
    };
    let chunks = Chunks::new(text, 0..n_train, boundary).separated_by(separator).map(|chunk| {
        chunk.map(|chunk| chunk.text).map_err(|error| {
            failed.set(Some(error));
            io::Error::other("cannot read the text")
        })
    });
    let trained = Tokenizer::train_bpe(chunks, vocab_size, &mut |progress| {
        let (phase, done, total) = match progress {
            BpeProgress::Counting { bytes } => (Phase::CountWords, bytes, size_bytes),
            BpeProgress::Merging { n_merges, n_wanted } => {
                (Phase::LearnMerges, n_merges as u64, n_wanted as u64)
            }
            _ => return,
        };
        on_progress(Progress { phase, done, total: Some(total) });
    });
    match failed.take() {
        Some(error) => Err(error),
        None => Ok(trained?),
    }
}

fn source_text(description: String, text: &Text, scan: Scan) -> SourceText {
    SourceText {
        description,
        size_bytes: scan.size_bytes,
        n_characters: scan.n_characters,
        n_distinct_characters: scan.alphabet.len() as u64,
        sha256: scan.sha256,
        files: text.files(),
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::File::create_new(path)?;
    io::Write::write_all(&mut file, bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_split_equals_nanogpts() {
        assert_eq!(n_train(1_115_394, 0.1), 1_003_854);
        for n in 1..2000 {
            assert!(n_train(n, 0.1) < n);
            assert_eq!(n_train(n, 0.1), n * 9 / 10, "{n}");
        }
    }

    #[test]
    fn each_combination_of_options_has_its_own_name() {
        let name = |kind: &str, options: Options| {
            variant_name(&TokenizerChoice::Kind(kind.parse().unwrap()), &options).unwrap()
        };
        assert_eq!(name("char", Options::default()), "char");
        assert_eq!(name("bpe:4096", Options::default()), "bpe-4096");
        assert_eq!(name("gpt2", Options { valid_fraction: 0.05, ..Options::default() }), "gpt2-valid-0.05");

        let file = tempfile::NamedTempFile::new().unwrap();
        let with_file = Options { valid: Some(file.path().into()), ..Options::default() };
        assert!(name("gpt2", with_file).starts_with("gpt2-valid-"));
        let given = TokenizerChoice::Given(Tokenizer::byte());
        assert!(variant_name(&given, &Options::default()).unwrap().starts_with("tokenizer-"));
    }
}
