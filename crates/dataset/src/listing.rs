//! Lists the text files of a folder.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use crate::files::sha256_of_file;
use crate::not_text::{NotText, Origin, Problem};
use crate::sniff::{Contents, Encoding, HEAD_BYTES, sniff};
use crate::source_file::{Identity, SourceFile, identity, read_head};
use crate::text_file::TextFile;
use crate::{Corpus, Error, Result, Rules};

/// Binary files with a warning each; further ones are only counted.
const MAX_NAMED: usize = 10;

/// Options for opening a file or folder.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OpenOptions<'a> {
    /// The root of prepared data, skipped in a folder.
    pub(crate) root: &'a Path,
    /// The files of the other part, skipped in a folder.
    pub(crate) other_part: Option<OtherPart<'a>>,
    pub(crate) rules: Rules,
}

/// The files of the validation text while the training text is opened, and vice versa.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OtherPart<'a> {
    pub(crate) name: &'static str,
    pub(crate) identities: &'a HashSet<Identity>,
    /// Files whose copies are skipped too.
    pub(crate) files: &'a [SourceFile],
}

/// The skipped entries of a folder, reported once by kind.
#[derive(Debug, Default)]
struct Skipped {
    binaries: Vec<NotText>,
    /// Runs, models, prepared data and charts.
    outputs: Vec<PathBuf>,
    /// Files of the other part.
    other_part: Vec<PathBuf>,
    /// Copies of files of the other part.
    copies: Vec<PathBuf>,
    duplicate_links: Vec<PathBuf>,
    broken_links: Vec<PathBuf>,
    loops: Vec<PathBuf>,
}

/// Lists the text files of a folder, sorted by path. Hidden and empty files are skipped silently, others that are not
/// text with a warning.
pub(crate) fn list(folder: &Path, options: OpenOptions<'_>) -> Result<Vec<TextFile>> {
    let root = options.root.canonicalize().ok();
    let mut entries =
        WalkDir::new(folder).follow_links(true).sort_by_file_name().into_iter().filter_entry(|entry| {
            !is_hidden(entry.depth(), entry.path()) && Some(entry.path()) != root.as_deref()
        });

    let mut documents = Vec::new();
    let mut skipped = Skipped::default();
    let mut seen = HashSet::new();
    let mut copies = Copies::of(options.other_part.map_or(&[], |part| part.files));
    while let Some(entry) = entries.next() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                skipped.add_link(folder, error)?;
                continue;
            }
        };
        if options.rules.is_v1() {
            documents.extend(open_by_v1(&entry)?);
            continue;
        }
        if entry.file_type().is_dir() && entry.depth() > 0 && is_output(entry.path()) {
            skipped.outputs.push(entry.path().into());
            entries.skip_current_dir();
        }
        if !entry.file_type().is_file() {
            continue;
        }
        let path = entry.path();
        let metadata = fs::metadata(path).map_err(|source| Error::read(path, source))?;
        let identity = identity(path)?;
        if options.other_part.is_some_and(|part| part.identities.contains(&identity)) {
            skipped.other_part.push(path.into());
        } else if metadata.len() > 0 && !seen.insert(identity) {
            skipped.duplicate_links.push(path.into());
        } else if copies.contain(path, metadata.len())? {
            skipped.copies.push(path.into());
        } else {
            let head = read_head(path)?;
            match sniff(&head, head.len() < HEAD_BYTES, path) {
                Contents::Text(_) if is_chart(&head) => skipped.outputs.push(path.into()),
                Contents::Text(encoding) => {
                    let file = SourceFile::new(path, &metadata);
                    let (origin, rules) = (Origin::InFolder, options.rules);
                    let is_empty = metadata.len() == 0;
                    documents.extend((!is_empty).then_some(TextFile { file, encoding, origin, rules }));
                }
                contents => skipped.add_binary(path, contents),
            }
        }
    }
    skipped.report(folder, options.other_part.map_or("", |part| part.name));
    if documents.is_empty() {
        return Err(Error::NoText { folder: folder.into() });
    }
    Ok(documents)
}

/// Whether a symbolic link can't be followed: its target is missing, or it links to itself.
fn is_broken_link(error: &io::Error) -> bool {
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

/// Opens a file by the rules of [`Rules::V1`].
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
        origin: Origin::InFolder,
        rules,
    }))
}

/// Whether a folder is Kindling output, which is not training text: a run, a model, or prepared data.
fn is_output(folder: &Path) -> bool {
    is_run(folder) || is_prepared(folder) || is_prepared_corpus(folder) || is_prepared_root(folder)
}

/// Whether a file is an SVG chart, which begins with a comment of the `chart` crate.
fn is_chart(head: &[u8]) -> bool {
    let mut tags = head.splitn(2, |&byte| byte == b'>');
    let (root, content) = (tags.next().unwrap_or_default(), tags.next().unwrap_or_default());
    root.starts_with(b"<svg ") && content.starts_with(b"<!-- Drawn by Kindling -->")
}

/// Whether a folder is a run, or a model in Hugging Face layout.
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

/// Whether a folder has the shards of one tokenizer.
fn is_prepared(folder: &Path) -> bool {
    ["meta.json", "train.bin", "val.bin"].iter().all(|name| folder.join(name).is_file())
}

/// Whether a folder has the shards made from one text.
fn is_prepared_corpus(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let has_checksum = name.rsplit_once('-').is_some_and(|(_, checksum)| {
        checksum.len() == 8 && checksum.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    });
    (has_checksum || Corpus::find(&name).is_some()) && folders(folder).any(|folder| is_prepared(&folder))
}

/// Whether a folder is a root of prepared data (`--data-dir`).
fn is_prepared_root(folder: &Path) -> bool {
    folder.join(".locks").is_dir() && folders(folder).any(|folder| is_prepared_corpus(&folder))
}

fn folders(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir())
}

/// Finds copies of some files by their checksums.
pub(crate) struct Copies<'a> {
    files: &'a [SourceFile],
    /// Checksums of the files, by size; computed when a candidate of that size is found.
    checksums: HashMap<u64, HashSet<String>>,
}

impl<'a> Copies<'a> {
    pub(crate) fn of(files: &'a [SourceFile]) -> Self {
        Self { files, checksums: HashMap::new() }
    }

    /// Whether a file is a copy. It is read only if one of the files has its size.
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

impl Skipped {
    /// Skips broken and circular links; returns any other error.
    fn add_link(&mut self, folder: &Path, error: walkdir::Error) -> Result<()> {
        let path = error.path().unwrap_or(folder).to_owned();
        if error.loop_ancestor().is_some() {
            self.loops.push(path);
            return Ok(());
        }
        let source = error.into_io_error().unwrap_or_else(|| io::Error::other("cannot list it"));
        if is_broken_link(&source) && path.is_symlink() {
            // Editors lock a file with a hidden broken link.
            if !is_hidden(1, &path) {
                self.broken_links.push(path);
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
            origin: Origin::InFolder,
            problem: Problem::Format(format),
        });
    }

    /// Logs a warning for each kind.
    fn report(&self, folder: &Path, other_part: &str) {
        for file in self.binaries.iter().take(MAX_NAMED) {
            tracing::warn!("skipped: {file}");
        }
        if let Some(n_more) = self.binaries.len().checked_sub(MAX_NAMED).filter(|&n_more| n_more > 0) {
            tracing::warn!("skipped {n_more} more binary files in {}", folder.display());
        }
        let (one_part, many_parts) =
            (format!("file of the {other_part} text"), format!("files of the {other_part} text"));
        let (one_copy, many_copies) = (format!("copy of a {one_part}"), format!("copies of {many_parts}"));
        for (paths, one, many) in [
            (
                &self.outputs,
                "Kindling output (a run, a model, prepared data or a chart)",
                "Kindling outputs (runs, models, prepared data or charts)",
            ),
            (&self.other_part, one_part.as_str(), many_parts.as_str()),
            (&self.copies, one_copy.as_str(), many_copies.as_str()),
            (
                &self.duplicate_links,
                "duplicate link to a file that was already read",
                "duplicate links to files that were already read",
            ),
            (&self.broken_links, "broken link", "broken links"),
            (&self.loops, "link to one of its own parent folders", "links to their own parent folders"),
        ] {
            match paths.as_slice() {
                [] => (),
                [path] => tracing::warn!("skipped 1 {one}: {}", path.display()),
                [path, ..] => {
                    tracing::warn!("skipped {} {many}, the first: {}", paths.len(), path.display())
                }
            }
        }
    }
}
