//! Helpers of the targets: a memory limit, and checks of error messages.

use std::alloc::System;
use std::error::Error;
use std::fs;
use std::path::Path;

use cap::Cap;
use formats::weights::{self, Weights};

/// Aborts with a stack trace if an allocation exceeds the limit of [`within`].
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// The memory limit of a reader.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    /// Bytes for a file of any size.
    pub fixed: usize,
    /// Bytes for each byte of the file.
    pub per_byte: usize,
}

/// Calls `read` with a limit of `bytes` of memory in addition to existing allocations.
pub fn within<T>(bytes: usize, read: impl FnOnce() -> T) -> T {
    let limit = ALLOCATOR.allocated().saturating_add(bytes);
    ALLOCATOR.set_limit(limit).expect("the limit exceeds the allocated memory");
    let value = read();
    ALLOCATOR.set_limit(usize::MAX).expect("the limit is the largest possible");
    value
}

/// Writes `bytes` to a file with this name in a temporary folder, and passes its path to `read`.
///
/// # Panics
///
/// If an error names neither the file nor another one in its folder.
pub fn read_file<T, E: Error>(
    name: &str,
    bytes: &[u8],
    allowance: Allowance,
    read: impl FnOnce(&Path) -> Result<T, E>,
) {
    let folder = tempfile::tempdir().expect("the temporary folder exists");
    let path = folder.path().join(name);
    fs::write(&path, bytes).expect("the disk has space");
    let allowed = allowance.fixed + allowance.per_byte * bytes.len();
    // The value is dropped within the limit, so that it does not raise the next one.
    if let Err(error) = within(allowed, || read(&path).map(drop)) {
        assert_names(&error, &folder.path().display().to_string());
    }
}

/// Checks that an error or one of its causes contains `name`.
///
/// # Panics
///
/// If none does.
pub fn assert_names(error: &dyn Error, name: &str) {
    let mut causes = vec![error.to_string()];
    let mut cause = error;
    while let Some(next) = cause.source() {
        causes.push(next.to_string());
        cause = next;
    }
    assert!(causes.iter().any(|text| text.contains(name)), "{causes:?} does not name {name}");
}

/// Reads the values of all tensors.
///
/// # Panics
///
/// If the number of values differs from a tensor's shape.
pub fn read_tensors(weights: Weights) -> weights::Result<()> {
    for tensor in weights.into_tensors().values() {
        let n_values: usize = tensor.shape().iter().product();
        assert_eq!(tensor.read()?.len(), n_values, "{tensor:?}");
    }
    Ok(())
}
