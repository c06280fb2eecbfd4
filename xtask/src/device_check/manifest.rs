//! `manifest.json`: the contents of a pack and its build.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::common::{is_cpu, write_json};

/// File name in the pack.
pub(crate) const MANIFEST: &str = "manifest.json";

/// The kindling binary in the pack.
pub(crate) const KINDLING: &str = "kindling";

/// The xtask binary in the pack.
pub(crate) const XTASK: &str = "xtask";

/// The folder of the PyTorch scripts in the pack.
pub(crate) const REFERENCE: &str = "reference";

/// The manifest of a pack. Paths are relative to the pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// With `-dirty` appended if files were changed; `None` outside a git checkout.
    pub(crate) commit: Option<String>,
    /// Cargo features in addition to the default ones.
    pub(crate) features: Vec<String>,
    /// Cargo profile: dev or release.
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
    /// Target kind of cargo: lib, bin or test.
    pub(crate) kind: String,
    pub(crate) path: PathBuf,
}

impl TestProgram {
    /// A name for the table.
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
            format!("cannot read {}; `cargo xtask device-check pack` makes a pack", path.display())
        })?;
        serde_json::from_str(&text).with_context(|| {
            format!("invalid {}; make a new pack with the same version of xtask", path.display())
        })
    }

    pub(crate) fn write(&self, pack: &Path) -> anyhow::Result<()> {
        write_json(&pack.join(MANIFEST), self)
    }

    /// Fails if `device` was not compiled in. The CPU always is.
    pub(crate) fn check_device(&self, device: &str) -> anyhow::Result<()> {
        if is_cpu(device) || self.features.iter().any(|feature| feature == device) {
            return Ok(());
        }
        bail!(
            "this pack was built without the device {device:?}; on the machine with Rust, run \
             cargo xtask device-check pack --features {device}"
        )
    }

    /// The crates with tests, without duplicates.
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
    fn a_manifest_round_trips() {
        let folder = tempfile::tempdir().unwrap();
        let error = format!("{:#}", Manifest::read(folder.path()).unwrap_err());
        assert!(error.contains("manifest.json; `cargo xtask device-check pack` makes a pack"), "{error}");

        manifest().write(folder.path()).unwrap();
        assert_eq!(Manifest::read(folder.path()).unwrap(), manifest());
    }

    #[test]
    fn a_device_that_is_not_compiled_in_is_rejected() {
        for device in ["cpu", "cpu-plain", "cuda"] {
            manifest().check_device(device).unwrap();
        }
        let error = manifest().check_device("vulkan").unwrap_err().to_string();
        assert!(error.ends_with("cargo xtask device-check pack --features vulkan"), "{error}");
    }

    #[test]
    fn programs_have_distinct_names() {
        let names = manifest().tests.iter().map(TestProgram::name).collect::<Vec<_>>();
        assert_eq!(names, ["kernels src", "model tests/gpt", "cli src/main.rs"]);
        assert_eq!(manifest().packages(), ["kernels", "model", "cli"]);
    }
}
