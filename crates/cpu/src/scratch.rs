//! Thread-local buffers, reused from task to task.

use std::{cell::Cell, thread::LocalKey};

/// A thread-local buffer.
pub(crate) type Scratch<T> = LocalKey<Cell<Option<Box<T>>>>;

/// Calls `task` with this thread's buffer.
pub(crate) fn with_scratch<T: Default>(scratch: &'static Scratch<T>, task: impl FnOnce(&mut T)) {
    let mut buffer = scratch.take().unwrap_or_default();
    task(&mut buffer);
    scratch.set(Some(buffer));
}
