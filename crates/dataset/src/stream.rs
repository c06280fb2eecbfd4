//! Texts that can be read only once: standard input, pipes, devices.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use ::fs::{hex, scratch::remove_leftovers};
use sha2::{Digest, Sha256};

use crate::files::{persist, temporary_file};
use crate::not_text::{Place, Problem};
use crate::sniff::{Contents, HEAD_BYTES, sniff};
use crate::text::decode;
use crate::text_file::not_text;
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
    let _shared = remove_leftovers_of_streams(root);
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

/// Removes what interrupted copies left, unless one is being made. As long as the lock lives, others leave ours alone.
fn remove_leftovers_of_streams(root: &Path) -> Option<File> {
    let folder = root.join(".locks");
    fs::create_dir_all(&folder).ok()?;
    let lock = File::create(folder.join("piped")).ok()?;
    if lock.try_lock().is_ok() {
        remove_leftovers(root);
        lock.unlock().ok()?;
    }
    lock.lock_shared().ok()?;
    Some(lock)
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

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// A path of `/dev/fd` through which these bytes can be read once, as long as the pipe lives.
    fn pipe(bytes: &[u8]) -> (PathBuf, io::PipeReader) {
        use std::os::fd::AsRawFd;
        let (reader, mut writer) = io::pipe().expect("a pipe can be made");
        writer.write_all(bytes).expect("there is room in a pipe");
        (PathBuf::from(format!("/dev/fd/{}", reader.as_raw_fd())), reader)
    }

    #[test]
    fn a_stream_becomes_a_file_of_its_own_and_leftovers_go() {
        let root = tempfile::tempdir().unwrap();
        let keep = |bytes: &[u8]| {
            let (path, _pipe) = pipe(bytes);
            assert!(is_stream(&path));
            keep_stream(&path, root.path(), &|_| ())
        };
        let one = keep(b"one").unwrap();
        assert_eq!(fs::read(&one).unwrap(), b"one");
        fs::write(root.path().join(".tmp-left"), "half").unwrap();
        assert_eq!(keep(b"one").unwrap(), one);
        assert_ne!(keep(b"two").unwrap(), one);
        assert!(matches!(keep(b""), Err(Error::Empty { .. })));
        assert!(matches!(keep(&[0; 99]), Err(Error::NotText(_))));
        let mut names: Vec<_> =
            fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        assert_eq!(names.len(), 3, "{names:?}");
    }

    #[test]
    fn files_and_folders_are_no_streams() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(!is_stream(file.path()) && !is_stream(file.path().parent().unwrap()));
        assert!(!is_stream(Path::new("no such file")));
        assert!(is_stream(Path::new("-")) && is_stream(Path::new("/dev/null")));
    }
}
