//! Texts that can be read only once: standard input, pipes, devices.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::files::{persist, temporary_file};
use crate::not_text::{Place, Problem};
use crate::scan::hex;
use crate::sniff::{Contents, HEAD_BYTES, sniff};
use crate::text::{decode, not_text};
use crate::{Error, OnProgress, Phase, Progress, Result};

/// Bytes copied at once.
const BLOCK_BYTES: usize = 1 << 20;

/// Whether a path can be read only once: `-`, which is standard input, or what is neither a file nor a folder.
///
/// What a shell calls `/dev/stdin` or `/dev/fd/63` may be a file that has no path any more.
pub fn is_stream(path: &Path) -> bool {
    path == Path::new("-")
        || fs::metadata(path)
            .is_ok_and(|metadata| !metadata.is_dir() && (!metadata.is_file() || path.canonicalize().is_err()))
}

/// Copies a stream to a file under `root`, named by its checksum, and gives the path of that: the same text has the
/// same path.
///
/// # Errors
///
/// If the stream can't be read, does not begin as text does, or can't be written.
pub fn keep_stream(stream: &Path, root: &Path, on_progress: OnProgress<'_>) -> Result<PathBuf> {
    let failed = |source| Error::Read { path: stream.into(), source };
    let mut reader = open(stream)?;
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    let mut read = |block: &mut Vec<u8>| {
        block.clear();
        (&mut reader).take(BLOCK_BYTES as u64).read_to_end(block).map_err(failed)
    };
    read(&mut block)?;
    let head = &block[..block.len().min(HEAD_BYTES)];
    if let Contents::Binary(format) = sniff(head, block.len() <= HEAD_BYTES, stream) {
        return Err(not_text(stream, Place::Stream, Problem::Format(format)));
    }

    let unnamed = root.join("piped");
    let mut file = temporary_file(&unnamed, 0)?;
    let mut hasher = Sha256::new();
    let mut done = 0;
    while !block.is_empty() {
        hasher.update(&block);
        file.write_all(&block).map_err(|source| Error::write(&unnamed, done, source))?;
        done += block.len() as u64;
        on_progress(Progress { phase: Phase::Read, done, total: None });
        read(&mut block)?;
    }
    if done == 0 {
        return Err(Error::Empty { text: crate::not_text::name(stream) });
    }
    let path = root.join(format!("piped-{}.txt", &hex(&hasher.finalize())[..16]));
    if !path.exists() {
        persist(file, &path, done)?;
    }
    Ok(path)
}

/// The text of a file, a pipe or standard input (`-`), decoded as texts to train on are: UTF-8 or UTF-16, without a
/// byte order mark.
///
/// # Errors
///
/// If it can't be read, or is not text.
pub fn read_text(path: &Path) -> Result<String> {
    let place = if is_stream(path) { Place::Stream } else { Place::Alone };
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes).map_err(|source| Error::read(path, source))?;
    decode(bytes, path, place)
}

fn open(path: &Path) -> Result<Box<dyn Read>> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    Ok(Box::new(File::open(path).map_err(|source| Error::read(path, source))?))
}
