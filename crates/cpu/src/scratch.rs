//! Memory of a core that is kept from task to task.

use std::{cell::Cell, thread::LocalKey};

/// The place where each core keeps its memory.
pub(crate) type Scratch<T> = LocalKey<Cell<Option<Box<T>>>>;

/// Calls `task` with the memory of this core.
pub(crate) fn with_scratch<T: Default>(scratch: &'static Scratch<T>, task: impl FnOnce(&mut T)) {
    let mut memory = scratch.take().unwrap_or_default();
    task(&mut memory);
    scratch.set(Some(memory));
}
