//! What the commands share.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;
use xshell::{Shell, cmd};

/// Prints a line of results.
#[expect(clippy::print_stdout, reason = "results are what these commands are for")]
pub(crate) fn say(text: &str) {
    println!("{text}");
}

/// The root of the workspace.
pub(crate) fn root() -> anyhow::Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")
}

/// The folder of PyTorch's scripts.
pub(crate) fn reference() -> anyhow::Result<PathBuf> {
    Ok(root()?.join("xtask").join("reference"))
}

/// The commit of the checkout, with `-dirty` behind it where files differ from it. None outside of a git checkout.
pub(crate) fn commit(shell: &Shell) -> Option<String> {
    cmd!(shell, "git describe --always --dirty --abbrev=40 --exclude=*").quiet().ignore_stderr().read().ok()
}

pub(crate) fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Writes a file, and the folder that it is in.
pub(crate) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    path.parent().map_or(Ok(()), create)?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    write(path, &(serde_json::to_string_pretty(value)? + "\n"))
}

/// Creates a folder.
pub(crate) fn create(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))
}

/// A value as the command line has it.
pub(crate) fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// Whether computations for `device` run on the processor, in whatever way.
pub(crate) fn is_cpu(device: &str) -> bool {
    matches!(device, "cpu" | "cpu-plain" | "cpu-as-gpu")
}
