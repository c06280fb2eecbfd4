//! One process at a time writes to a run.

use std::{
    fs::{self, File, TryLockError},
    io::{ErrorKind, Seek, Write},
    process,
};

use crate::{Error, Result, RunFolder, error::io};

const LOCK: &str = "run.lock";

/// Holds a run. It lets go when it is dropped, or when the process ends, however it ends.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl RunFolder {
    /// Holds the run for this process, and leaves a word on who does.
    ///
    /// Where the file system knows no locks, as some network shares, the run is held by nobody and a warning says so.
    ///
    /// # Errors
    ///
    /// If another process holds it, or the folder can't be written.
    pub fn lock(&self) -> Result<RunLock> {
        let path = self.path().join(LOCK);
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(&path).unwrap_or_default();
                let holder = if holder.is_empty() { "another process".to_owned() } else { holder };
                return Err(Error::Locked { path: self.path().to_owned(), holder });
            }
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {
                tracing::warn!(
                    "{} can't be locked: let no other process train it meanwhile",
                    self.path().display()
                );
            }
            Err(TryLockError::Error(error)) => return Err(io("lock", &path)(error)),
        }
        let host = gethostname::gethostname();
        let holder = format!("process {} on {}", process::id(), host.display());
        let written =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(holder.as_bytes()));
        written.map_err(io("write", &path))?;
        Ok(RunLock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_holds_a_run_and_the_other_learns_who() {
        let parent = tempfile::tempdir().unwrap();
        let run = RunFolder::create(&parent.path().join("run")).unwrap();
        let lock = run.lock().unwrap();
        let error = run.lock().unwrap_err().to_string();
        assert!(error.contains("run is in use"), "{error}");
        if cfg!(unix) {
            assert!(error.contains(&format!("process {} on", process::id())), "{error}");
        }
        drop(lock);
        run.lock().unwrap();
    }
}
