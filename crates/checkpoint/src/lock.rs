//! One process at a time writes to a run.

use std::{
    fs::{self, File, TryLockError},
    io::{ErrorKind, Seek, Write},
    path::Path,
    process, thread,
    time::Duration,
};

use same_file::Handle;

use crate::{Error, Result, RunFolder, error::io};

const LOCK: &str = "run.lock";

/// Holds a run. It lets go when it is dropped, or when the process ends, however it ends.
#[derive(Debug)]
pub struct RunLock {
    file: Handle,
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
        match try_lock(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Locked { path: self.path().to_owned(), holder: read_holder(&path) });
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
        Ok(RunLock { file: Handle::from_file(file).map_err(io("hold", &path))? })
    }

    /// Makes sure that this is still the folder that is held: it may have been moved, and another run have its name.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] if it is not there, or is another.
    pub fn check_held(&self, lock: &RunLock) -> Result<()> {
        match Handle::from_path(self.path().join(LOCK)) {
            Ok(file) if file == lock.file => Ok(()),
            _ => Err(Error::Gone { path: self.path().to_owned() }),
        }
    }

    /// Empties a folder that this process holds.
    pub(crate) fn remove_all_but_lock(&self) -> Result<()> {
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
        let path = self.path().join(LOCK);
        match File::open(&path).ok()?.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(read_holder(&path)),
            _ => None,
        }
    }
}

/// Takes a lock, from one who looks at who has it too, if need be.
fn try_lock(file: &File) -> Result<(), TryLockError> {
    const MOMENT: Duration = Duration::from_millis(20);
    for _ in 0..5 {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => thread::sleep(MOMENT),
            result => return result,
        }
    }
    file.try_lock()
}

/// Who says to hold a lock that is held. Whoever has just taken it gets a moment to say so.
fn read_holder(path: &Path) -> String {
    const MOMENT: Duration = Duration::from_millis(50);
    const MOMENTS: u32 = 20;
    let mut holder = String::new();
    for _ in 0..MOMENTS {
        thread::sleep(MOMENT);
        holder = fs::read_to_string(path).unwrap_or_default();
        if !holder.is_empty() {
            break;
        }
    }
    if holder.is_empty() { "another process".to_owned() } else { holder }
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
            assert!(error.contains(&format!("process {} on", process::id())), "{error}");
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
