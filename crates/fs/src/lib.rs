//! Files and folders that appear whole or not at all, locks, checksums and memory maps.
//!
//! - [`atomic`]: for the one owner of a folder, under a temporary name that ends in `.partial`.
//! - [`scratch`]: for several processes that may prepare the same thing, under a random temporary name.
//! - [`Lock`]: one process at a time, and who it is.
//! - [`Map`]: a file as bytes in memory.
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
