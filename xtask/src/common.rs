//! Helpers shared by the commands.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;
use xshell::{Shell, cmd};

/// Prints a line to stdout.
#[expect(clippy::print_stdout, reason = "the commands exist to print results")]
pub(crate) fn say(text: &str) {
    println!("{text}");
}

/// The root of the workspace.
pub(crate) fn root() -> anyhow::Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask is not in a workspace")
}

/// The folder of PyTorch's scripts.
pub(crate) fn reference() -> anyhow::Result<PathBuf> {
    Ok(root()?.join("xtask").join("reference"))
}

/// The commit of the checkout, with `-dirty` appended if files were changed. `None` outside a git checkout.
pub(crate) fn commit(shell: &Shell) -> Option<String> {
    cmd!(shell, "git describe --always --dirty --abbrev=40 --exclude=*").quiet().ignore_stderr().read().ok()
}

pub(crate) fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Writes a file and creates its folder.
pub(crate) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    path.parent().map_or(Ok(()), create)?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    write(path, &(serde_json::to_string_pretty(value)? + "\n"))
}

pub(crate) fn create(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))
}

/// The command-line name of a value.
pub(crate) fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// Whether `device` is the CPU, with any implementation of the operations.
pub(crate) fn is_cpu(device: &str) -> bool {
    matches!(device, "cpu" | "cpu-plain" | "cpu-as-gpu")
}
