//! A data file out of a registry package, for build scripts.
//!
//! Some well-known data is published inside packages of the registry that this project uses anyway: GPT-2's
//! merges, tiny Shakespeare. Cargo downloads such a package, verifies it against `Cargo.lock`, keeps it for
//! offline builds and honours mirrors and proxies, so the data need not be committed and no HTTP client, TLS
//! or archive library is needed.
//!
//! A crate that uses this names the package at an exact version in its own `Cargo.toml`, as a
//! dev-dependency or under `[target.'cfg(any())'.dependencies]` (a condition that never holds, so the package is
//! locked and never compiled). Its build script then writes the file to `OUT_DIR`:
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
