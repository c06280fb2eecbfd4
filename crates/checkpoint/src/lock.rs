//! The lock that lets only one process write to a run.

use std::{fs, io::ErrorKind, path::Path};

use ::fs::{Lock, LockError, atomic};

use crate::{Error, Result, RunFolder, error::io};

const LOCK: &str = "run.lock";

/// The lock of a run, released on drop or when the process ends for any reason.
#[derive(Debug)]
pub struct RunLock(Lock);

impl RunFolder {
    /// Creates the folder of a new run atomically, with contents written by `fill`, and locks it for this process.
    ///
    /// # Errors
    ///
    /// As [`RunFolder::create_with`], and if another process is creating the same folder.
    pub fn create_run(path: &Path, fill: impl FnOnce(&Self) -> Result<()>) -> Result<(Self, RunLock)> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(io("create", parent))?;
        }
        let partial = Self::at(atomic::temporary(path, atomic::PARTIAL));
        match fs::create_dir(partial.path()) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(io("create", partial.path())(error));
            }
            _ => {}
        }
        // If the lock is held, another process is creating the run. If not, the contents are from an interrupted
        // process.
        let lock = partial.lock().map_err(|error| match error {
            Error::Locked { holder, .. } => Error::Locked { path: path.to_owned(), holder },
            error => error,
        })?;
        let created = partial.remove_all_but_lock().and_then(|()| {
            if path.exists() {
                return Err(Error::Exists { path: path.to_owned() });
            }
            fill(&partial)?;
            Ok(atomic::rename_folder(partial.path(), path)?)
        });
        if let Err(error) = created {
            let _ = atomic::remove_if_present(partial.path()); // The first error is returned.
            return Err(error);
        }
        Ok((Self::at(path.to_owned()), lock))
    }

    /// Locks the run for this process and records the process in the lock file.
    ///
    /// On a file system without locks, such as some network shares, logs a warning and does not lock.
    ///
    /// # Errors
    ///
    /// If another process holds the lock, or the lock file can't be written.
    pub fn lock(&self) -> Result<RunLock> {
        Lock::acquire(&self.path().join(LOCK)).map(RunLock).map_err(|error| match error {
            LockError::Held { holder } => Error::Locked { path: self.path().to_owned(), holder },
            LockError::Io(error) => error.into(),
        })
    }

    /// Checks that the path still leads to the locked folder, which may have been moved or replaced by another run.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] if the folder is missing or another one.
    pub fn check_held(&self, lock: &RunLock) -> Result<()> {
        if lock.0.is_at(&self.path().join(LOCK)) {
            Ok(())
        } else {
            Err(Error::Gone { path: self.path().to_owned() })
        }
    }

    /// Removes everything in the folder except the lock file.
    fn remove_all_but_lock(&self) -> Result<()> {
        for entry in fs::read_dir(self.path()).map_err(io("list", self.path()))? {
            let path = entry.map_err(io("list", self.path()))?.path();
            if path.ends_with(LOCK) {
                continue;
            }
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(io("remove", &path))?;
        }
        Ok(())
    }

    /// The process that is training the run, if any.
    pub fn holder(&self) -> Option<String> {
        ::fs::holder(&self.path().join(LOCK))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_created_by_one_process_and_locked_from_the_start() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("run");
        // Left by a process that was killed while creating the run.
        fs::create_dir_all(parent.path().join("run.partial/checkpoints")).unwrap();
        let (run, lock) = RunFolder::create_run(&path, |run| {
            assert!(!run.path().join("checkpoints").exists(), "the folder is empty");
            let second = RunFolder::create_run(&path, |_| panic!("the folder is locked"));
            assert!(matches!(second, Err(Error::Locked { .. })), "{second:?}");
            run.save_recipe("")
        })
        .unwrap();
        assert!(run.recipe_path().exists() && run.holder().is_some());
        drop(lock);
        assert!(matches!(RunFolder::create_run(&path, |_| Ok(())), Err(Error::Exists { .. })));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1, "no temporary folder remains");
    }

    #[test]
    fn a_second_lock_fails_and_names_the_holder() {
        let parent = tempfile::tempdir().unwrap();
        let run = RunFolder::create(&parent.path().join("run")).unwrap();
        let lock = run.lock().unwrap();
        let error = run.lock().unwrap_err().to_string();
        assert!(error.contains("run is in use"), "{error}");
        if cfg!(unix) {
            assert!(error.contains(&format!("process {} on", std::process::id())), "{error}");
        }
        assert!(run.holder().is_some());
        drop(lock);
        assert_eq!(run.holder(), None);
        run.lock().unwrap();
    }

    #[test]
    fn a_run_that_replaces_a_locked_one_is_detected() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("run");
        let (run, lock) = RunFolder::create_run(&path, |_| Ok(())).unwrap();
        run.check_held(&lock).unwrap();
        let moved = parent.path().join("moved");
        fs::rename(&path, &moved).unwrap();
        assert!(matches!(run.check_held(&lock), Err(Error::Gone { .. })));
        let (_, other) = RunFolder::create_run(&path, |_| Ok(())).unwrap();
        assert!(matches!(run.check_held(&lock), Err(Error::Gone { .. })));
        run.check_held(&other).unwrap();
        fs::remove_dir_all(&path).unwrap();
        fs::rename(&moved, &path).unwrap();
        run.check_held(&lock).unwrap();
    }
}
