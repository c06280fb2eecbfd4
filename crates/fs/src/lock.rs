//! One process at a time.

use std::{
    fs::{self, File, TryLockError},
    io::{ErrorKind, Seek, Write},
    path::Path,
    process, thread,
    time::Duration,
};

use same_file::Handle;

use crate::{Error, failed_to};

/// A lock file that this process holds, until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    file: Handle,
}

/// Why a lock can't be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{holder} holds it")]
    Held {
        /// Who says to hold it.
        holder: String,
    },
    /// The lock file can't be made or written.
    #[error(transparent)]
    Io(#[from] Error),
}

impl Lock {
    /// Takes the lock and writes into the file who has it.
    ///
    /// Where the file system knows no locks, as some network shares, nobody is kept out and a warning says so.
    ///
    /// # Errors
    ///
    /// If another process holds it, or the file can't be made or written.
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        let opened = File::options().create(true).truncate(false).write(true).open(path);
        let mut file = opened.map_err(failed_to("open", path))?;
        match try_lock(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::Held { holder: read_holder(path) }),
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {
                let folder = path.parent().unwrap_or(path);
                tracing::warn!("{} can't be locked: let no other process use it meanwhile", folder.display());
            }
            Err(TryLockError::Error(error)) => return Err(failed_to("lock", path)(error).into()),
        }
        let host = gethostname::gethostname();
        let holder = format!("process {} on {}", process::id(), host.display());
        let written =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(holder.as_bytes()));
        written.map_err(failed_to("write", path))?;
        Ok(Self { file: Handle::from_file(file).map_err(failed_to("hold", path))? })
    }

    /// Whether the file at a path is the one that is held: it may have been moved, and another have its name.
    pub fn is_at(&self, path: &Path) -> bool {
        Handle::from_path(path).is_ok_and(|file| file == self.file)
    }
}

/// Who holds the lock file at a path at this moment, if anybody does.
pub fn holder(path: &Path) -> Option<String> {
    match File::open(path).ok()?.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(read_holder(path)),
        _ => None,
    }
}

/// Takes the lock `folder/.locks/NAME`, and waits for another process that has it. It is held until the file is dropped.
///
/// `None` where there can be no lock: the folder may be read-only, and hold what is wanted all the same.
pub fn lock_waiting(folder: &Path, name: &str) -> Option<File> {
    let folder = folder.join(".locks");
    fs::create_dir_all(&folder).ok()?;
    let file = File::create(folder.join(name)).ok()?;
    if let Err(TryLockError::WouldBlock) = file.try_lock() {
        tracing::info!("another process is preparing {name}; waiting for it");
    }
    file.lock().ok()?;
    Some(file)
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
    fn only_one_holds_a_lock_and_the_other_learns_who() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("it.lock");
        let lock = Lock::acquire(&path).unwrap();
        let LockError::Held { holder: named } = Lock::acquire(&path).unwrap_err() else {
            panic!("it is held");
        };
        if cfg!(unix) {
            assert!(named.contains(&format!("process {} on", process::id())), "{named}");
        }
        assert!(lock.is_at(&path) && holder(&path).is_some());
        drop(lock);
        assert_eq!(holder(&path), None);
        Lock::acquire(&path).unwrap();
    }

    #[test]
    fn a_lock_that_is_waited_for_keeps_others_out_until_it_is_dropped() {
        let root = tempfile::tempdir().unwrap();
        let held = lock_waiting(root.path(), "name").unwrap();
        let other = File::open(root.path().join(".locks/name")).unwrap();
        assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
        drop(held);
        other.try_lock().unwrap();
    }
}
