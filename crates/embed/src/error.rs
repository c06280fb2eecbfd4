use std::io;
use std::path::PathBuf;

/// An error while reading a file of a registry package.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("cannot write a temporary manifest to query cargo for {package} {version}")]
    Scratch { package: String, version: String, source: io::Error },

    #[error("cannot run `{}` to download {package} {version}; install cargo or set CARGO to its path", .cargo.display())]
    NoCargo { cargo: PathBuf, package: String, version: String, source: io::Error },

    #[error(
        "cargo cannot provide {package} {version}; if this machine is offline, run `cargo fetch` once with a \
         connection. Cargo said:\n{message}"
    )]
    Unavailable { package: String, version: String, message: String },

    #[error("`cargo metadata` does not list {package} {version}; check that cargo is at least 1.95")]
    Metadata { package: String, version: String },

    #[error("cannot read {}; if the package's folder was modified, delete it and build again", .path.display())]
    Read { path: PathBuf, source: io::Error },

    #[error(
        "{name} has SHA-256 {actual}, expected {expected}; if the package's folder was modified, delete it and \
         build again"
    )]
    Checksum { name: String, expected: String, actual: String },
}
