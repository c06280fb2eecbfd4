//! Lock files, which admit one process at a time.

use std::{
    fs::{self, File, TryLockError},
    io::{ErrorKind, Seek, Write},
    path::Path,
    process, thread,
    time::Duration,
};

use same_file::Handle;

use crate::{Error, failed_to};

/// A held lock file, released on drop or when the process ends for any reason.
#[derive(Debug)]
pub struct Lock {
    file: Handle,
}

/// An error of acquiring a lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds the lock.
    #[error("the lock is held by {holder}")]
    Held {
        /// The process, as recorded in the lock file.
        holder: String,
    },
    /// The lock file can't be created or written.
    #[error(transparent)]
    Io(#[from] Error),
}

impl Lock {
    /// Acquires the lock and records this process in the file.
    ///
    /// On a file system without locks, such as some network shares, logs a warning and does not exclude other
    /// processes.
    ///
    /// # Errors
    ///
    /// If another process holds the lock, or the file can't be created or written.
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        let opened = File::options().create(true).truncate(false).write(true).open(path);
        let mut file = opened.map_err(failed_to("open", path))?;
        match try_lock(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::Held { holder: read_holder(path) }),
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {
                let folder = path.parent().unwrap_or(path);
                tracing::warn!("cannot lock {}: make sure that no other process uses it", folder.display());
            }
            Err(TryLockError::Error(error)) => return Err(failed_to("lock", path)(error).into()),
        }
        let host = gethostname::gethostname();
        let holder = format!("process {} on {}", process::id(), host.display());
        let written =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(holder.as_bytes()));
        written.map_err(failed_to("write", path))?;
        Ok(Self { file: Handle::from_file(file).map_err(failed_to("identify", path))? })
    }

    /// Whether the file at `path` is the held one. It may have been moved or replaced.
    pub fn is_at(&self, path: &Path) -> bool {
        Handle::from_path(path).is_ok_and(|file| file == self.file)
    }
}

/// The process that holds the lock file at `path`, if any.
pub fn holder(path: &Path) -> Option<String> {
    match File::open(path).ok()?.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(read_holder(path)),
        _ => None,
    }
}

/// Acquires the lock `folder/.locks/NAME`, waiting while another process holds it. It is held until the file is
/// dropped.
///
/// `None` if the lock file can't be created: the folder may be read-only but already contain the needed data.
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

/// Tries to lock, with retries because [`holder`] takes a shared lock for a moment.
fn try_lock(file: &File) -> Result<(), TryLockError> {
    const RETRY_INTERVAL: Duration = Duration::from_millis(20);
    for _ in 0..5 {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => thread::sleep(RETRY_INTERVAL),
            result => return result,
        }
    }
    file.try_lock()
}

/// Reads the holder of a held lock from its file. Polls, because a new holder may not have written it yet.
fn read_holder(path: &Path) -> String {
    const POLL_INTERVAL: Duration = Duration::from_millis(50);
    const N_POLLS: u32 = 20;
    let mut holder = String::new();
    for _ in 0..N_POLLS {
        thread::sleep(POLL_INTERVAL);
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
    fn a_second_lock_fails_and_names_the_holder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("it.lock");
        let lock = Lock::acquire(&path).unwrap();
        let LockError::Held { holder: named } = Lock::acquire(&path).unwrap_err() else {
            panic!("another error");
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
    fn lock_waiting_excludes_others_until_it_is_dropped() {
        let root = tempfile::tempdir().unwrap();
        let held = lock_waiting(root.path(), "name").unwrap();
        let other = File::open(root.path().join(".locks/name")).unwrap();
        assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
        drop(held);
        other.try_lock().unwrap();
    }
}
