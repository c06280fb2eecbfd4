//! Streams, which can be read only once: standard input, pipes and devices.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use ::fs::{hex, scratch::remove_leftovers};
use sha2::{Digest, Sha256};

use crate::files::{persist, temporary_file};
use crate::not_text::{Origin, Problem};
use crate::sniff::{Contents, HEAD_BYTES, sniff};
use crate::text::decode;
use crate::text_file::not_text;
use crate::{Error, OnProgress, Phase, Progress, Result};

/// Bytes read at a time.
const BLOCK_BYTES: usize = 1 << 20;

/// Whether a path is a stream: `-` (standard input), or neither a file nor a folder.
///
/// A file counts as a stream if its path can't be resolved: `/dev/stdin` or `/dev/fd/63` may be a deleted file.
pub fn is_stream(path: &Path) -> bool {
    path == Path::new("-")
        || fs::metadata(path)
            .is_ok_and(|metadata| !metadata.is_dir() && (!metadata.is_file() || path.canonicalize().is_err()))
}

/// Copies a stream to a file under `root` and returns its path. The file is named by its checksum, so the same text
/// has the same path.
///
/// # Errors
///
/// If the stream can't be read, its first bytes are not text, or the file can't be written.
pub fn save_stream(stream: &Path, root: &Path, on_progress: OnProgress<'_>) -> Result<PathBuf> {
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
        return Err(not_text(stream, Origin::Stream, Problem::Format(format)));
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

/// Removes the temporary files of interrupted copies, unless another process is copying. The returned shared lock
/// protects this process's temporary file.
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

/// Reads a file, a pipe or standard input (`-`) as training reads its text: UTF-8 or UTF-16, without a byte order mark.
///
/// # Errors
///
/// If the path can't be read, or is not text.
pub fn read_text(path: &Path) -> Result<String> {
    let origin = if is_stream(path) { Origin::Stream } else { Origin::SingleFile };
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes).map_err(|source| Error::read(path, source))?;
    decode(bytes, path, origin)
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

    /// A `/dev/fd` path from which `bytes` can be read once, while the returned reader exists.
    fn pipe(bytes: &[u8]) -> (PathBuf, io::PipeReader) {
        use std::os::fd::AsRawFd;
        let (reader, mut writer) = io::pipe().expect("a pipe can be created");
        writer.write_all(bytes).expect("the bytes fit in the pipe");
        (PathBuf::from(format!("/dev/fd/{}", reader.as_raw_fd())), reader)
    }

    #[test]
    fn each_stream_is_saved_once_and_leftovers_are_removed() {
        let root = tempfile::tempdir().unwrap();
        let save = |bytes: &[u8]| {
            let (path, _pipe) = pipe(bytes);
            assert!(is_stream(&path));
            save_stream(&path, root.path(), &|_| ())
        };
        let one = save(b"one").unwrap();
        assert_eq!(fs::read(&one).unwrap(), b"one");
        fs::write(root.path().join(".tmp-left"), "half").unwrap();
        assert_eq!(save(b"one").unwrap(), one);
        assert_ne!(save(b"two").unwrap(), one);
        assert!(matches!(save(b""), Err(Error::Empty { .. })));
        assert!(matches!(save(&[0; 99]), Err(Error::NotText(_))));
        let mut names: Vec<_> =
            fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        assert_eq!(names.len(), 3, "{names:?}");
    }

    #[test]
    fn files_and_folders_are_not_streams() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(!is_stream(file.path()) && !is_stream(file.path().parent().unwrap()));
        assert!(!is_stream(Path::new("no such file")));
        assert!(is_stream(Path::new("-")) && is_stream(Path::new("/dev/null")));
    }
}
