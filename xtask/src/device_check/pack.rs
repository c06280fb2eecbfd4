//! `device-check pack`: a folder of programs and the files they read.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use indicatif::BinaryBytes;
use serde_json::Value;
use xshell::{Shell, cmd};

use super::manifest::{KINDLING, MANIFEST, Manifest, REFERENCE, TestProgram, XTASK};
use crate::common::{commit, create, reference, root, say};

/// The crates that compute. The tests of `cli` run kindling on the CPU, which GPU features must not change.
const PACKAGES: [&str; 6] = ["kernels", "model", "checkpoint", "engine", "trainer", "cli"];

/// Build kindling and the tests of the crates that compute, and copy them to a folder with the files they read.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Cargo features to enable, such as cuda
    #[arg(long, value_name = "FEATURE", value_delimiter = ',')]
    features: Vec<String>,

    /// Use the release profile, for benchmarks
    #[arg(long)]
    release: bool,

    /// Output folder [default: target/device-check]
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

/// The output of the build: test programs with their paths, and kindling.
#[derive(Debug)]
struct Built {
    tests: Vec<(TestProgram, PathBuf)>,
    kindling: PathBuf,
}

pub(crate) fn pack(args: &Args) -> anyhow::Result<()> {
    let shell = Shell::new()?;
    let root = root()?;
    let folder = args.output.clone().unwrap_or_else(|| root.join("target").join("device-check"));
    clear(&folder)?;
    let built = Built::of(&build(&shell, args)?)?;

    create(&folder.join("tests"))?;
    for (test, program) in &built.tests {
        copy_program(&shell, program, &folder.join(&test.path))?;
    }
    copy_program(&shell, &built.kindling, &folder.join(KINDLING))?;
    copy_program(&shell, &env::current_exe()?, &folder.join(XTASK))?;
    copy_test_data(&root.join("crates"), &folder.join("crates"))?;
    copy_data(&reference()?, &folder.join(REFERENCE))?;
    let manifest = Manifest {
        commit: commit(&shell),
        features: args.features.clone(),
        profile: if args.release { "release" } else { "dev" }.to_owned(),
        tests: built.tests.into_iter().map(|(test, _)| test).collect(),
    };
    manifest.write(&folder)?;

    let (n_tests, size, shown) = (manifest.tests.len(), BinaryBytes(size_bytes(&folder)?), folder.display());
    let device = args.features.first().map_or("cpu", String::as_str);
    say(&format!(
        "packed {n_tests} test programs, {size} in total, into {shown}; copy it to the other machine and run there:\n  \
         {shown}/xtask device-check run {shown} --device {device}"
    ));
    Ok(())
}

/// Recreates the folder. Fails if it is neither empty nor a pack.
fn clear(folder: &Path) -> anyhow::Result<()> {
    let shown = folder.display();
    let is_empty = match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(_) => !folder.exists(),
    };
    if !is_empty {
        if !folder.join(MANIFEST).is_file() {
            bail!("{shown} is neither empty nor a pack; choose another folder with --output");
        }
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove the pack {shown}"))?;
    }
    create(folder)
}

/// Builds the tests and returns the messages of cargo.
fn build(shell: &Shell, args: &Args) -> anyhow::Result<String> {
    let packages = PACKAGES.iter().flat_map(|package| ["--package", package]);
    let features = args.features.iter().flat_map(|feature| ["--features", feature]);
    let release = args.release.then_some("--release");
    cmd!(shell, "cargo test --no-run --tests --locked --message-format=json-render-diagnostics")
        .args(packages)
        .args(features)
        .args(release)
        .read()
        .context("cannot build the tests; the messages of cargo are above")
}

impl Built {
    /// Parses the messages of cargo, one JSON object per line.
    fn of(messages: &str) -> anyhow::Result<Self> {
        let (mut tests, mut kindling) = (Vec::new(), None);
        for line in messages.lines() {
            let message: Value =
                serde_json::from_str(line).with_context(|| format!("invalid message of cargo: `{line}`"))?;
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let Some(program) = message["executable"].as_str().map(PathBuf::from) else { continue };
            let target = text(&message["target"]["name"]);
            if message["profile"]["test"] == true {
                let package = PathBuf::from(text(&message["manifest_path"]));
                let package = package.parent().and_then(Path::file_name);
                let package = package.with_context(|| format!("the crate of {target} has no folder"))?;
                let package = package.to_string_lossy().into_owned();
                let kind = text(&message["target"]["kind"][0]);
                let path = Path::new("tests").join(format!("{package}-{kind}-{target}"));
                tests.push((TestProgram { package, target, kind, path }, program));
            } else if target == KINDLING {
                kindling = Some(program);
            }
        }
        // Cargo prints them in the order of completion. Dependencies come first, and unit tests before integration tests.
        let rank = |test: &TestProgram| PACKAGES.iter().position(|&package| package == test.package);
        tests.sort_by_key(|(test, _)| (rank(test), test.kind == "test", test.target.clone()));
        Ok(Self { tests, kindling: kindling.context("cargo built no kindling")? })
    }
}

/// Copies a program, without debug information if `strip` is installed.
fn copy_program(shell: &Shell, from: &Path, to: &Path) -> anyhow::Result<()> {
    copy(from, to)?;
    let _ = cmd!(shell, "strip {to}").quiet().ignore_stdout().ignore_stderr().run();
    Ok(())
}

/// Copies the files in each crate's `tests` except Rust sources, with their paths: tests open them relative to the folder
/// of their crate.
fn copy_test_data(crates: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(crates).with_context(|| format!("cannot list {}", crates.display()))? {
        let entry = entry?;
        let tests = entry.path().join("tests");
        if tests.is_dir() {
            copy_data(&tests, &to.join(entry.file_name()).join("tests"))?;
        }
    }
    // The working directories of tests, which may have no files.
    PACKAGES.iter().try_for_each(|package| create(&to.join(package)))
}

fn copy_data(from: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let path = entry?.path();
        let to = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy_data(&path, &to)?;
        } else if path.extension().is_none_or(|extension| extension != "rs") {
            to.parent().map_or(Ok(()), create)?;
            copy(&path, &to)?;
        }
    }
    Ok(())
}

fn size_bytes(folder: &Path) -> anyhow::Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        total += if metadata.is_dir() { size_bytes(&entry.path())? } else { metadata.len() };
    }
    Ok(total)
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(package: &str, kind: &str, target: &str, is_test: bool) -> String {
        let program = format!("\"/t/{package}-{target}\"");
        let executable = if kind == "lib" && !is_test { "null" } else { &program };
        format!(
            r#"{{"reason":"compiler-artifact","manifest_path":"/c/crates/{package}/Cargo.toml","target":
            {{"kind":["{kind}"],"name":"{target}","test":true}},"profile":{{"opt_level":"1","test":{is_test}}},
            "executable":{executable}}}"#
        )
        .replace('\n', " ")
    }

    #[test]
    fn executables_are_found_in_the_messages_of_cargo() {
        let messages = [
            r#"{"reason":"build-script-executed","out_dir":"/t"}"#.to_owned(),
            message("cli", "test", "cli", true),
            message("kernels", "lib", "kernels", false),
            message("kernels", "test", "seed", true),
            message("kernels", "lib", "kernels", true),
            message("cli", "bin", "kindling", true),
            message("cli", "bin", "kindling", false),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];
        let built = Built::of(&messages.join("\n")).unwrap();
        let paths: Vec<_> = built.tests.iter().map(|(test, _)| test.path.to_str().unwrap()).collect();
        assert_eq!(
            paths,
            [
                "tests/kernels-lib-kernels",
                "tests/kernels-test-seed",
                "tests/cli-bin-kindling",
                "tests/cli-test-cli"
            ]
        );
        assert_eq!(built.tests[1].1, Path::new("/t/kernels-seed"));
        assert_eq!(built.kindling, Path::new("/t/cli-kindling"));

        let error = Built::of(&messages[..5].join("\n")).unwrap_err();
        assert_eq!(error.to_string(), "cargo built no kindling");
    }

    #[test]
    fn test_data_is_copied_without_sources() {
        let folder = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
        fs::create_dir_all(from.join("model/tests/fixtures")).unwrap();
        fs::write(from.join("model/tests/gpt.rs"), "").unwrap();
        fs::write(from.join("model/tests/fixtures/golden.json"), "{}").unwrap();
        fs::create_dir_all(from.join("chart/src")).unwrap();

        copy_test_data(&from, &to).unwrap();
        assert!(to.join("model/tests/fixtures/golden.json").is_file());
        assert!(!to.join("model/tests/gpt.rs").exists() && !to.join("chart").exists());
        assert!(to.join("kernels").is_dir());
    }

    #[test]
    fn only_an_earlier_pack_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        clear(&folder.path().join("a/new/one")).unwrap();
        let other = folder.path().join("mine");
        fs::write(&other, "").unwrap();
        let error = clear(folder.path()).unwrap_err().to_string();
        assert!(
            error.ends_with("is neither empty nor a pack; choose another folder with --output"),
            "{error}"
        );

        fs::write(folder.path().join(MANIFEST), "{}").unwrap();
        clear(folder.path()).unwrap();
        assert!(folder.path().is_dir() && !other.exists());
    }
}
