//! One process at a time writes to a run.

use std::{fs, io::ErrorKind, path::Path};

use ::fs::{Lock, LockError, atomic};

use crate::{Error, Result, RunFolder, error::io};

const LOCK: &str = "run.lock";

/// Holds a run. It lets go when it is dropped, or when the process ends, however it ends.
#[derive(Debug)]
pub struct RunLock(Lock);

impl RunFolder {
    /// Makes a new run's folder that appears as a whole, filled by a function, and holds it for this process.
    ///
    /// # Errors
    ///
    /// As [`RunFolder::create_with`], and if another process is making it.
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
        // Whoever holds it is making it; what nobody holds was left by a process that was cut off.
        let lock = partial.lock().map_err(|error| match error {
            Error::Locked { holder, .. } => Error::Locked { path: path.to_owned(), holder },
            error => error,
        })?;
        let made = partial.remove_all_but_lock().and_then(|()| {
            if path.exists() {
                return Err(Error::Exists { path: path.to_owned() });
            }
            fill(&partial)?;
            Ok(atomic::rename_folder(partial.path(), path)?)
        });
        if let Err(error) = made {
            let _ = atomic::remove_if_present(partial.path()); // The first error is the one to tell.
            return Err(error);
        }
        Ok((Self::at(path.to_owned()), lock))
    }

    /// Holds the run for this process, and leaves a word on who does.
    ///
    /// Where the file system knows no locks, as some network shares, the run is held by nobody and a warning says so.
    ///
    /// # Errors
    ///
    /// If another process holds it, or the folder can't be written.
    pub fn lock(&self) -> Result<RunLock> {
        Lock::acquire(&self.path().join(LOCK)).map(RunLock).map_err(|error| match error {
            LockError::Held { holder } => Error::Locked { path: self.path().to_owned(), holder },
            LockError::Io(error) => error.into(),
        })
    }

    /// Makes sure that this is still the folder that is held: it may have been moved, and another run have its name.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] if it is not there, or is another.
    pub fn check_held(&self, lock: &RunLock) -> Result<()> {
        if lock.0.is_at(&self.path().join(LOCK)) {
            Ok(())
        } else {
            Err(Error::Gone { path: self.path().to_owned() })
        }
    }

    /// Empties a folder that this process holds.
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

    /// Who trains the run at this moment, if anybody does.
    pub fn holder(&self) -> Option<String> {
        ::fs::holder(&self.path().join(LOCK))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_made_by_one_process_and_held_from_the_start() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("run");
        // Left by a process that was killed while it made one.
        fs::create_dir_all(parent.path().join("run.partial/checkpoints")).unwrap();
        let (run, lock) = RunFolder::create_run(&path, |run| {
            assert!(!run.path().join("checkpoints").exists(), "it begins with an empty folder");
            let second = RunFolder::create_run(&path, |_| panic!("one is making it"));
            assert!(matches!(second, Err(Error::Locked { .. })), "{second:?}");
            run.save_recipe("")
        })
        .unwrap();
        assert!(run.recipe_path().exists() && run.holder().is_some());
        drop(lock);
        assert!(matches!(RunFolder::create_run(&path, |_| Ok(())), Err(Error::Exists { .. })));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn only_one_holds_a_run_and_the_other_learns_who() {
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
    fn a_run_that_takes_the_place_of_one_held_is_another() {
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
