//! Locates and reads the files of a registry package.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::Error;

/// The bytes of one file of a registry package, downloaded by cargo if it is not on this machine yet.
///
/// `path_in_package` is relative to the package's root and uses `/` as its separator.
///
/// # Errors
///
/// As [`package_dir`], or [`Error::Read`].
pub fn package_file(package: &str, version: &str, path_in_package: &str) -> Result<Vec<u8>, Error> {
    let path = package_dir(package, version)?.join(path_in_package);
    fs::read(&path).map_err(|source| Error::Read { path, source })
}

/// The folder of a registry package as published, downloaded by cargo if it is not on this machine yet.
///
/// In a build script, cargo sets `CARGO` and `CARGO_MANIFEST_DIR`; elsewhere this runs the `cargo` on the `PATH` in the
/// current directory. It runs `cargo metadata` on a temporary manifest with this one dependency, because on the calling
/// workspace that command would download the packages of every platform. The workspace's `Cargo.lock` is copied beside
/// the manifest, so versions and checksums are the locked ones. The network is used only if the package is not on this
/// machine.
///
/// # Errors
///
/// If cargo cannot be run or cannot provide the package.
pub fn package_dir(package: &str, version: &str) -> Result<PathBuf, Error> {
    let home = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from);
    let scratch = scratch_manifest(package, version, lock_file(&home).as_deref()).map_err(|source| {
        Error::Scratch { package: package.to_owned(), version: version.to_owned(), source }
    })?;

    let cargo = PathBuf::from(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    let metadata = |arguments: &[&str]| -> Result<Output, Error> {
        Command::new(&cargo)
            .current_dir(&home) // Applies the project's `.cargo/config.toml`.
            .args(["metadata", "--format-version", "1", "--color", "never", "--manifest-path"])
            .arg(scratch.path().join("Cargo.toml"))
            .args(arguments)
            .output()
            .map_err(|source| Error::NoCargo {
                cargo: cargo.clone(),
                package: package.to_owned(),
                version: version.to_owned(),
                source,
            })
    };
    let mut output = metadata(&["--offline"])?;
    if !output.status.success() {
        output = metadata(&[])?;
    }
    if !output.status.success() {
        return Err(Error::Unavailable {
            package: package.to_owned(),
            version: version.to_owned(),
            message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    find_package(&output.stdout, package, version)
        .ok_or_else(|| Error::Metadata { package: package.to_owned(), version: version.to_owned() })
}

/// The nearest `Cargo.lock` in `folder` or above it.
fn lock_file(folder: &Path) -> Option<PathBuf> {
    let folder = folder.canonicalize().ok()?;
    folder.ancestors().map(|ancestor| ancestor.join("Cargo.lock")).find(|lock| lock.is_file())
}

/// A temporary package with one dependency, outside any other workspace.
fn scratch_manifest(package: &str, version: &str, lock: Option<&Path>) -> io::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let manifest = format!(
        "[package]\nname = \"scratch\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [lib]\npath = \"lib.rs\"\n\n\
         [dependencies]\n\"{package}\" = {{ version = \"={version}\", default-features = false }}\n\n\
         [workspace]\n"
    );
    fs::write(folder.path().join("Cargo.toml"), manifest)?;
    fs::write(folder.path().join("lib.rs"), "")?;
    if let Some(lock) = lock {
        fs::copy(lock, folder.path().join("Cargo.lock"))?;
    }
    Ok(folder)
}

/// The folder of a package in the output of `cargo metadata`.
fn find_package(metadata: &[u8], package: &str, version: &str) -> Option<PathBuf> {
    let metadata: Value = serde_json::from_slice(metadata).ok()?;
    let found = metadata["packages"]
        .as_array()?
        .iter()
        .find(|candidate| candidate["name"] == package && candidate["version"] == version)?;
    Some(Path::new(found["manifest_path"].as_str()?).parent()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    // A dependency of this crate, so it is on this machine whenever the test runs.
    const PACKAGE: &str = "serde_json";

    fn locked_version() -> String {
        let lock = fs::read_to_string(lock_file(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap()).unwrap();
        let mut lines = lock.lines().skip_while(|line| *line != format!("name = \"{PACKAGE}\""));
        let version = lines.nth(1).unwrap();
        version.strip_prefix("version = \"").unwrap().strip_suffix('"').unwrap().to_owned()
    }

    #[test]
    fn reads_a_file_of_a_locked_package() {
        let manifest = package_file(PACKAGE, &locked_version(), "Cargo.toml").unwrap();
        let manifest = String::from_utf8(manifest).unwrap();
        assert!(manifest.contains("name = \"serde_json\""), "{manifest}");
    }

    #[test]
    fn error_names_a_missing_file() {
        let error = package_file(PACKAGE, &locked_version(), "no/such.file").unwrap_err();
        assert!(matches!(error, Error::Read { .. }), "{error:?}");
        assert!(error.to_string().contains("no/such.file"), "{error}");
    }

    #[test]
    fn finds_the_package_by_name_and_version() {
        let metadata = br#"{"packages": [
            {"name": "one", "version": "1.0.0", "manifest_path": "/a/one/Cargo.toml"},
            {"name": "two", "version": "2.0.0", "manifest_path": "/a/two/Cargo.toml"}
        ]}"#;
        assert_eq!(find_package(metadata, "two", "2.0.0"), Some(PathBuf::from("/a/two")));
        assert_eq!(find_package(metadata, "two", "1.0.0"), None);
        assert_eq!(find_package(b"not json", "two", "2.0.0"), None);
    }
}
