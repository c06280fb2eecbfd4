//! Atomic writes of files and folders, locks, checksums and memory maps.
//!
//! - [`atomic`]: writes by a single owner, under a temporary name that ends in `.partial`.
//! - [`scratch`]: writes by several processes to the same target, under random temporary names.
//! - [`Lock`]: an exclusive lock that names its holder.
//! - [`Map`]: a memory-mapped file.
//! - [`sha256_hex`], [`sha256_of_file`]: checksums.

pub mod atomic;
mod checksum;
mod error;
mod lock;
mod map;
pub mod scratch;
mod sync;

pub use checksum::{hex, sha256_hex, sha256_of_file};
pub use error::{Error, Result, failed_to};
pub use lock::{Lock, LockError, holder, lock_waiting};
pub use map::Map;
