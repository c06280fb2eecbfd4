//! The text files of a folder.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use crate::files::sha256_of_file;
use crate::not_text::{NotText, Place, Problem};
use crate::sniff::{Contents, Encoding, HEAD_BYTES, sniff};
use crate::source_file::{Identity, SourceFile, identity, read_head};
use crate::text_file::TextFile;
use crate::{Corpus, Error, Result, Rules};

/// Binary files that are named one by one; more are counted.
const MAX_NAMED: usize = 10;

/// How a file or folder is opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opening<'a> {
    /// Left out of a folder: the root of prepared data.
    pub(crate) root: &'a Path,
    /// Left out of a folder too.
    pub(crate) other_part: Option<OtherPart<'a>>,
    pub(crate) rules: Rules,
}

/// The files of the validation text, for the training text, or the other way round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OtherPart<'a> {
    pub(crate) name: &'static str,
    pub(crate) identities: &'a HashSet<Identity>,
    /// Files whose copies are left out too.
    pub(crate) files: &'a [SourceFile],
}

/// What is left out of a folder, to be said once.
#[derive(Debug, Default)]
struct LeftOut {
    binaries: Vec<NotText>,
    /// Folders and pictures.
    outputs: Vec<PathBuf>,
    /// Files that are in the other part of the data.
    other_part: Vec<PathBuf>,
    /// Copies of such files.
    copies: Vec<PathBuf>,
    second_links: Vec<PathBuf>,
    dead_links: Vec<PathBuf>,
    loops: Vec<PathBuf>,
}

/// The text files of a folder, sorted by path. Hidden files and empty ones are left out, and so is, with a warning,
/// whatever is not text.
pub(crate) fn list(folder: &Path, opening: Opening<'_>) -> Result<Vec<TextFile>> {
    let root = opening.root.canonicalize().ok();
    let mut entries =
        WalkDir::new(folder).follow_links(true).sort_by_file_name().into_iter().filter_entry(|entry| {
            !is_hidden(entry.depth(), entry.path()) && Some(entry.path()) != root.as_deref()
        });

    let mut documents = Vec::new();
    let mut left_out = LeftOut::default();
    let mut seen = HashSet::new();
    let mut copies = Copies::of(opening.other_part.map_or(&[], |part| part.files));
    while let Some(entry) = entries.next() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                left_out.add_link(folder, error)?;
                continue;
            }
        };
        if opening.rules.is_v1() {
            documents.extend(open_by_v1(&entry)?);
            continue;
        }
        if entry.file_type().is_dir() && entry.depth() > 0 && is_output(entry.path()) {
            left_out.outputs.push(entry.path().into());
            entries.skip_current_dir();
        }
        if !entry.file_type().is_file() {
            continue;
        }
        let path = entry.path();
        let metadata = fs::metadata(path).map_err(|source| Error::read(path, source))?;
        let identity = identity(path)?;
        if opening.other_part.is_some_and(|part| part.identities.contains(&identity)) {
            left_out.other_part.push(path.into());
        } else if metadata.len() > 0 && !seen.insert(identity) {
            left_out.second_links.push(path.into());
        } else if copies.contain(path, metadata.len())? {
            left_out.copies.push(path.into());
        } else {
            let head = read_head(path)?;
            match sniff(&head, head.len() < HEAD_BYTES, path) {
                Contents::Text(_) if is_picture(&head) => left_out.outputs.push(path.into()),
                Contents::Text(encoding) => {
                    let file = SourceFile::new(path, &metadata);
                    let (place, rules) = (Place::InFolder, opening.rules);
                    let is_empty = metadata.len() == 0;
                    documents.extend((!is_empty).then_some(TextFile { file, encoding, place, rules }));
                }
                contents => left_out.add_binary(path, contents),
            }
        }
    }
    left_out.report(folder, opening.other_part.map_or("", |part| part.name));
    if documents.is_empty() {
        return Err(Error::NoText { folder: folder.into() });
    }
    Ok(documents)
}

/// Whether a link can't be followed: its target is missing, or it leads to itself.
fn leads_nowhere(error: &io::Error) -> bool {
    const TOO_MANY_LINKS: i32 = match () {
        () if cfg!(any(target_os = "linux", target_os = "android")) => 40, // ELOOP
        () if cfg!(windows) => 1921,                                       // ERROR_CANT_RESOLVE_FILENAME
        () => 62,                                                          // ELOOP of macOS and the BSDs
    };
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(TOO_MANY_LINKS)
}

fn is_hidden(depth: usize, path: &Path) -> bool {
    let starts_with_dot = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b".");
    depth > 0 && path.file_name().is_some_and(starts_with_dot)
}

/// A file as the first rules read it.
fn open_by_v1(entry: &DirEntry) -> Result<Option<TextFile>> {
    if !entry.file_type().is_file() || read_head(entry.path())?.contains(&0) {
        return Ok(None);
    }
    let metadata = fs::metadata(entry.path()).map_err(|source| Error::read(entry.path(), source))?;
    let file = SourceFile::new(entry.path(), &metadata);
    let rules = Rules::V1;
    Ok((file.size_bytes > 0).then_some(TextFile {
        file,
        encoding: Encoding::Utf8,
        place: Place::InFolder,
        rules,
    }))
}

/// Whether a folder has what this program writes: a run, a model, or prepared data. None of it is meant as text.
fn is_output(folder: &Path) -> bool {
    is_run(folder) || is_prepared(folder) || is_prepared_corpus(folder) || is_prepared_root(folder)
}

/// Whether an SVG file begins with the comment that the `chart` crate writes.
fn is_picture(head: &[u8]) -> bool {
    let mut tags = head.splitn(2, |&byte| byte == b'>');
    let (root, content) = (tags.next().unwrap_or_default(), tags.next().unwrap_or_default());
    root.starts_with(b"<svg ") && content.starts_with(b"<!-- Drawn by Kindling -->")
}

/// A run, or a model in Hugging Face's layout.
fn is_run(folder: &Path) -> bool {
    const WEIGHTS: [&str; 4] = [
        "model.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
    ];
    let has = |name: &str| folder.join(name).exists();
    has("config.json") && (has("recipe.toml") || WEIGHTS.into_iter().any(has))
        || has("recipe.toml") && has("checkpoints")
}

/// The shards of one tokenizer.
fn is_prepared(folder: &Path) -> bool {
    ["meta.json", "train.bin", "val.bin"].iter().all(|name| folder.join(name).is_file())
}

/// The shards that were made from one text.
fn is_prepared_corpus(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let has_checksum = name.rsplit_once('-').is_some_and(|(_, checksum)| {
        checksum.len() == 8 && checksum.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    });
    (has_checksum || Corpus::find(&name).is_some()) && folders(folder).any(|folder| is_prepared(&folder))
}

/// A folder that `--data-dir` has named.
fn is_prepared_root(folder: &Path) -> bool {
    folder.join(".locks").is_dir() && folders(folder).any(|folder| is_prepared_corpus(&folder))
}

fn folders(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir())
}

/// Tells whether a file is a copy of one of these.
pub(crate) struct Copies<'a> {
    files: &'a [SourceFile],
    /// The checksums of those of a size, once a file of that size was found.
    checksums: HashMap<u64, HashSet<String>>,
}

impl<'a> Copies<'a> {
    pub(crate) fn of(files: &'a [SourceFile]) -> Self {
        Self { files, checksums: HashMap::new() }
    }

    /// Reads only files of the size of one of them.
    pub(crate) fn contain(&mut self, path: &Path, size_bytes: u64) -> Result<bool> {
        let checksum = |path: &Path| sha256_of_file(path, |_| ());
        let mut originals = self.files.iter().filter(|file| file.size_bytes == size_bytes).peekable();
        if size_bytes == 0 || originals.peek().is_none() {
            return Ok(false);
        }
        let checksums = match self.checksums.entry(size_bytes) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                new.insert(originals.map(|file| checksum(&file.path)).collect::<Result<_>>()?)
            }
        };
        Ok(checksums.contains(&checksum(path)?))
    }
}

impl LeftOut {
    /// Leaves out a link that leads nowhere or back; another error stays one.
    fn add_link(&mut self, folder: &Path, error: walkdir::Error) -> Result<()> {
        let path = error.path().unwrap_or(folder).to_owned();
        if error.loop_ancestor().is_some() {
            self.loops.push(path);
            return Ok(());
        }
        let source = error.into_io_error().unwrap_or_else(|| io::Error::other("it can't be listed"));
        if leads_nowhere(&source) && path.is_symlink() {
            // Editors lock a file by a hidden link to nothing.
            if !is_hidden(1, &path) {
                self.dead_links.push(path);
            }
            return Ok(());
        }
        Err(Error::read(&path, source))
    }

    fn add_binary(&mut self, path: &Path, contents: Contents) {
        let format = match contents {
            Contents::Binary(format) => format,
            Contents::Text(_) | Contents::TextWithZeros => crate::sniff::Format::Unknown,
        };
        self.binaries.push(NotText {
            path: path.into(),
            place: Place::InFolder,
            problem: Problem::Format(format),
        });
    }

    /// A line for each kind.
    fn report(&self, folder: &Path, other_part: &str) {
        for file in self.binaries.iter().take(MAX_NAMED) {
            tracing::warn!("left out: {file}");
        }
        if let Some(n_more) = self.binaries.len().checked_sub(MAX_NAMED).filter(|&n_more| n_more > 0) {
            tracing::warn!("left out: {n_more} more binary files of {}", folder.display());
        }
        let (one_part, many_parts) =
            (format!("file of the {other_part} text"), format!("files of the {other_part} text"));
        let (one_copy, many_copies) = (format!("copy of a {one_part}"), format!("copies of {many_parts}"));
        for (paths, one, many) in [
            (
                &self.outputs,
                "output of Kindling (a run, a model, prepared data or a picture)",
                "outputs of Kindling (runs, models, prepared data or pictures)",
            ),
            (&self.other_part, one_part.as_str(), many_parts.as_str()),
            (&self.copies, one_copy.as_str(), many_copies.as_str()),
            (
                &self.second_links,
                "second link to a file that is read already",
                "second links to files that are read already",
            ),
            (&self.dead_links, "link to a file that is missing", "links to files that are missing"),
            (
                &self.loops,
                "link that leads back to a folder it is in",
                "links that lead back to folders they are in",
            ),
        ] {
            match paths.as_slice() {
                [] => (),
                [path] => tracing::warn!("left out: 1 {one}, {}", path.display()),
                [path, ..] => {
                    tracing::warn!("left out: {} {many}, the first {}", paths.len(), path.display())
                }
            }
        }
    }
}
