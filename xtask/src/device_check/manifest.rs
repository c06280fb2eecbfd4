//! `manifest.json`: what is in a pack, and what it was built from.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::common::{is_cpu, write_json};

/// Its name in the pack.
pub(crate) const MANIFEST: &str = "manifest.json";

/// The program itself, in the pack.
pub(crate) const KINDLING: &str = "kindling";

/// This program, in the pack.
pub(crate) const XTASK: &str = "xtask";

/// The folder of PyTorch's scripts, in the pack.
pub(crate) const REFERENCE: &str = "reference";

/// A pack, as its manifest describes it. Paths are relative to the pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// None outside of a git checkout; `-dirty` behind it where files differ from it.
    pub(crate) commit: Option<String>,
    /// Of cargo, beside those that are on without asking.
    pub(crate) features: Vec<String>,
    /// Of cargo: dev or release.
    pub(crate) profile: String,
    pub(crate) tests: Vec<TestProgram>,
}

/// The tests of one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TestProgram {
    /// Its folder in `crates`.
    #[serde(rename = "crate")]
    pub(crate) package: String,
    pub(crate) target: String,
    /// As cargo says: lib, bin or test.
    pub(crate) kind: String,
    pub(crate) path: PathBuf,
}

impl TestProgram {
    /// What a person calls it.
    pub(crate) fn name(&self) -> String {
        match self.kind.as_str() {
            "lib" => format!("{} src", self.package),
            "bin" => format!("{} src/main.rs", self.package),
            _ => format!("{} tests/{}", self.package, self.target),
        }
    }
}

impl Manifest {
    pub(crate) fn read(pack: &Path) -> anyhow::Result<Self> {
        let path = pack.join(MANIFEST);
        let text = fs::read_to_string(&path).with_context(|| {
            format!("read {}; `cargo xtask device-check pack` makes a folder with one", path.display())
        })?;
        serde_json::from_str(&text).with_context(|| {
            format!("understand {}; pack again, by the xtask that is to run it", path.display())
        })
    }

    pub(crate) fn write(&self, pack: &Path) -> anyhow::Result<()> {
        write_json(&pack.join(MANIFEST), self)
    }

    /// An error if `device` was not compiled in. The CPU always is.
    pub(crate) fn check_device(&self, device: &str) -> anyhow::Result<()> {
        if is_cpu(device) || self.features.iter().any(|feature| feature == device) {
            return Ok(());
        }
        bail!(
            "this pack was built without the device {device:?}; where Rust is: \
             cargo xtask device-check pack --features {device}"
        )
    }

    /// The crates with tests, each once.
    pub(crate) fn packages(&self) -> Vec<&str> {
        let mut packages: Vec<&str> = self.tests.iter().map(|test| test.package.as_str()).collect();
        packages.dedup();
        packages
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn manifest() -> Manifest {
        let test = |package: &str, target: &str, kind: &str| TestProgram {
            package: package.to_owned(),
            target: target.to_owned(),
            kind: kind.to_owned(),
            path: PathBuf::from("tests").join(target),
        };
        Manifest {
            commit: Some("c697fc5".to_owned()),
            features: vec!["cuda".to_owned()],
            profile: "dev".to_owned(),
            tests: vec![
                test("kernels", "kernels", "lib"),
                test("model", "gpt", "test"),
                test("cli", "kindling", "bin"),
            ],
        }
    }

    #[test]
    fn a_manifest_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let error = format!("{:#}", Manifest::read(folder.path()).unwrap_err());
        assert!(error.contains("manifest.json; `cargo xtask device-check pack` makes a folder"), "{error}");

        manifest().write(folder.path()).unwrap();
        assert_eq!(Manifest::read(folder.path()).unwrap(), manifest());
    }

    #[test]
    fn a_device_that_is_not_compiled_in_is_refused() {
        for device in ["cpu", "cpu-plain", "cuda"] {
            manifest().check_device(device).unwrap();
        }
        let error = manifest().check_device("vulkan").unwrap_err().to_string();
        assert!(error.ends_with("cargo xtask device-check pack --features vulkan"), "{error}");
    }

    #[test]
    fn programs_are_named_apart() {
        let names = manifest().tests.iter().map(TestProgram::name).collect::<Vec<_>>();
        assert_eq!(names, ["kernels src", "model tests/gpt", "cli src/main.rs"]);
        assert_eq!(manifest().packages(), ["kernels", "model", "cli"]);
    }
}
