//! What the targets share: a bound on memory, and what an error has to say.

use std::alloc::System;
use std::error::Error;
use std::fs;
use std::path::Path;

use cap::Cap;
use formats::weights::{self, Weights};

/// Ends the process, with a trace that says where, when more is asked for than [`within`] allows.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// How much memory a reader may have at once.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    /// Bytes for a file of any size.
    pub fixed: usize,
    /// Bytes for each byte of the file.
    pub per_byte: usize,
}

/// Calls `read`, which may have no more than `bytes` of memory beside what was taken before.
pub fn within<T>(bytes: usize, read: impl FnOnce() -> T) -> T {
    let limit = ALLOCATOR.allocated().saturating_add(bytes);
    ALLOCATOR.set_limit(limit).expect("more than what is taken is allowed");
    let value = read();
    ALLOCATOR.set_limit(usize::MAX).expect("there is no larger limit");
    value
}

/// Writes `bytes` to a file of that name in a folder of its own, and gives its path to `read`.
///
/// # Panics
///
/// If there is an error that names neither the file nor one beside it.
pub fn read_file<T, E: Error>(
    name: &str,
    bytes: &[u8],
    allowance: Allowance,
    read: impl FnOnce(&Path) -> Result<T, E>,
) {
    let folder = tempfile::tempdir().expect("the folder of temporary files is there");
    let path = folder.path().join(name);
    fs::write(&path, bytes).expect("there is room for it");
    let allowed = allowance.fixed + allowance.per_byte * bytes.len();
    // The value is dropped within, so that nothing is counted twice.
    if let Err(error) = within(allowed, || read(&path).map(drop)) {
        assert_names(&error, &folder.path().display().to_string());
    }
}

/// Panics if none of an error and its causes has `name` in it.
pub fn assert_names(error: &dyn Error, name: &str) {
    let mut causes = vec![error.to_string()];
    let mut cause = error;
    while let Some(next) = cause.source() {
        causes.push(next.to_string());
        cause = next;
    }
    assert!(causes.iter().any(|text| text.contains(name)), "{causes:?} does not name {name}");
}

/// Reads the numbers of all tensors.
///
/// # Panics
///
/// If there are more or fewer numbers than a tensor's shape says.
pub fn read_tensors(weights: Weights) -> weights::Result<()> {
    for tensor in weights.into_tensors().values() {
        let n_values: usize = tensor.shape().iter().product();
        assert_eq!(tensor.read()?.len(), n_values, "{tensor:?}");
    }
    Ok(())
}
