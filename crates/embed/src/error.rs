use std::io;
use std::path::PathBuf;

/// Why a file of a registry package could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The scratch manifest that names the package could not be written.
    #[error("cannot write a scratch manifest to ask cargo for {package} {version}")]
    Scratch {
        /// Name of the package.
        package: String,
        /// Its exact version.
        version: String,
        /// What the file system said.
        source: io::Error,
    },

    /// There is no cargo to ask.
    #[error("cannot start `{}`, which downloads {package} {version}; install cargo or set CARGO to its path", .cargo.display())]
    NoCargo {
        /// The command that was tried.
        cargo: PathBuf,
        /// Name of the package.
        package: String,
        /// Its exact version.
        version: String,
        /// What the operating system said.
        source: io::Error,
    },

    /// Cargo could neither find the package on this machine nor download it.
    #[error(
        "cargo cannot provide {package} {version}; if this machine is offline, run `cargo fetch` once with a \
         connection. Cargo said:\n{message}"
    )]
    Unavailable {
        /// Name of the package.
        package: String,
        /// Its exact version.
        version: String,
        /// What cargo printed.
        message: String,
    },

    /// What `cargo metadata` printed does not list the package.
    #[error("`cargo metadata` does not say where {package} {version} lies; is this cargo at least 1.95?")]
    Metadata {
        /// Name of the package.
        package: String,
        /// Its exact version.
        version: String,
    },

    /// The package is there, and the file is not.
    #[error("cannot read {}; if the package's folder was altered, delete it and build again", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },

    /// The bytes are not those that were expected.
    #[error(
        "{what} has the sha256 {actual} and not {expected}; if the package's folder was altered, delete it and \
         build again"
    )]
    Checksum {
        /// What was checked.
        what: String,
        /// The checksum wanted, in hexadecimal.
        expected: String,
        /// The checksum found, in hexadecimal.
        actual: String,
    },
}
