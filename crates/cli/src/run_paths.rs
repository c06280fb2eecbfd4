//! Paths of runs and models: a path as it stands, or the name of a run.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use checkpoint::{RunFolder, check_nanogpt, refuse_lfs_pointer};

use crate::console::{did_you_mean, program, quoted};

/// Where runs are, unless a path says otherwise.
pub(crate) const RUNS: &str = "runs";

/// Whether a path is a GGUF file that is there, by its name or, as those of a cache have none, by what it begins with.
pub(crate) fn is_gguf(path: &Path) -> bool {
    let begins_so = || {
        let mut magic = [0; 4];
        File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"GGUF"
    };
    let is_named_so = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
    path.is_file() && (is_named_so || begins_so())
}

/// How to get a model of the hub, if a path looks like the name of one: OWNER/NAME.
fn hub_hint(path: &Path) -> String {
    let parts: Vec<&str> = path.to_str().unwrap_or_default().split('/').collect();
    match parts[..] {
        [owner, name]
            if !owner.is_empty() && !name.is_empty() && owner != RUNS && !owner.starts_with('.') =>
        {
            format!("; a model of the hub is imported first: {} import {owner}/{name}", program())
        }
        _ => String::new(),
    }
}

/// The folder of a run or a model that is there.
pub(crate) fn open(path: &Path) -> anyhow::Result<RunFolder> {
    let folder = path_of(path);
    if !folder.exists() {
        bail!(
            "there is no run, folder or GGUF file {}; name a run of {RUNS}/, a folder with a model or a GGUF file{}{}",
            path.display(),
            local_suggestion(path),
            hub_hint(path)
        );
    }
    if !folder.is_file() && !folder.is_dir() {
        bail!(
            "{} is a pipe or device, which can't be read as a model; save the model to a file and name that",
            folder.display()
        );
    }
    refuse_lfs_pointer(&folder)?;
    if is_gguf(&folder) {
        bail!(
            "{} is a GGUF file; import it first, and name the run: {} import {} --run NAME",
            folder.display(),
            program(),
            quoted(&folder.display().to_string())
        );
    }
    if folder.is_file() {
        refuse_part(&folder)?;
        bail!("{} is a file and not a model{}", folder.display(), advice_to_import(&folder)?);
    }
    if let Some(checkpoint) = checkpoint_in(&folder) {
        bail!("{} is not a model{}", folder.display(), advice_to_import(&checkpoint)?);
    }
    Ok(RunFolder::open(&folder)?)
}

/// Refuses a file that is a part of a model in Hugging Face layout.
pub(crate) fn refuse_part(path: &Path) -> anyhow::Result<()> {
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().to_lowercase());
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let is_part = [".safetensors", ".json", ".model", "merges.txt"].iter().any(|end| name.ends_with(end));
    if is_part || name.starts_with("pytorch_model") {
        bail!("{} is a part of a model; name the folder that it is in: {}", path.display(), folder.display());
    }
    Ok(())
}

/// What to do with a checkpoint of PyTorch's, if the file may be one. One that can't be imported is refused as by import.
fn advice_to_import(path: &Path) -> anyhow::Result<String> {
    if !is_named_as_checkpoint(path) {
        return Ok("; name a run, a folder with a model or a GGUF file".to_owned());
    }
    check_nanogpt(path)?;
    let file = quoted(&path.display().to_string());
    Ok(format!("; import the checkpoint first, and name the run: {} import {file} --run NAME", program()))
}

fn is_named_as_checkpoint(path: &Path) -> bool {
    path.extension()
        .is_some_and(|found| ["pt", "pth", "ckpt"].iter().any(|known| found.eq_ignore_ascii_case(known)))
}

/// A checkpoint of PyTorch's in a folder that has no model in Hugging Face layout, such as nanoGPT's `out`: ckpt.pt before others.
fn checkpoint_in(folder: &Path) -> Option<PathBuf> {
    if is_model(folder) {
        return None;
    }
    let entries = folder.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    let found = entries.filter(|path| path.is_file() && is_named_as_checkpoint(path));
    found.min_by_key(|path| (path.file_name() != Some("ckpt.pt".as_ref()), path.clone()))
}

/// The run that was probably meant.
pub(crate) fn local_suggestion(path: &Path) -> String {
    let runs = RunFolder::all(Path::new(RUNS)).unwrap_or_default();
    let names: Vec<String> = runs.iter().map(RunFolder::name).collect();
    let meant = path.file_name().unwrap_or_default().to_string_lossy();
    did_you_mean(&meant, names.iter().map(String::as_str))
}

/// A run's folder: the path as it stands if a model or a file is there, else the run of that name. A folder of another kind, as
/// one of texts, does not hide the run of its name.
pub(crate) fn path_of(path: &Path) -> PathBuf {
    let named = Path::new(RUNS).join(path);
    let is_taken = path.is_file() || is_model(path) || (path.exists() && !is_model(&named));
    if !is_taken && path.components().count() == 1 && named.exists() { named } else { path.to_owned() }
}

/// Whether a path is the folder of a model.
pub(crate) fn is_model(path: &Path) -> bool {
    path.join("config.json").is_file()
}

/// A run by its name is in `runs/`; a path stands as it is.
pub(crate) fn run_path(run: &Path) -> PathBuf {
    if run.components().count() == 1 && run.is_relative() {
        Path::new(RUNS).join(run)
    } else {
        run.to_owned()
    }
}

/// The run that changed last.
pub(crate) fn newest() -> anyhow::Result<RunFolder> {
    RunFolder::newest(Path::new(RUNS))?
        .with_context(|| format!("there is no run in {RUNS}/ yet; train one first: {} train", program()))
}
