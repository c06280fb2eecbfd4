//! Sends the files that resuming a run needs from rank 0 to the others, so that no shared folder is needed.

use std::{
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use checkpoint::{RunFolder, WEIGHTS};
use ranks::Group;

/// Bytes sent at a time.
const CHUNK_BYTES: u64 = 64 << 20;

/// Sends the files of a run that this process has locked. `step` is that of the checkpoint to resume; without one, the
/// initial weights are sent.
///
/// # Errors
///
/// If a file can't be read, or another rank has failed.
pub(super) fn send(group: &dyn Group, folder: &RunFolder, step: Option<u64>) -> anyhow::Result<()> {
    let mut paths = files(folder.path())?;
    paths.retain(|path| is_needed(path, step.is_some()));
    if let Some(step) = step {
        paths.extend(files(&folder.checkpoint_path(step))?);
    }
    let mut manifest = Vec::new();
    for path in &paths {
        let relative = path.strip_prefix(folder.path()).unwrap_or(path);
        let len = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.len();
        manifest.push((relative.to_owned(), len));
    }
    group.broadcast(serde_json::to_vec(&manifest)?, 0)?;
    for (path, (_, len)) in paths.iter().zip(&manifest) {
        let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        for n_bytes in chunks(*len) {
            let mut chunk = vec![0; n_bytes];
            file.read_exact(&mut chunk).with_context(|| format!("cannot read {}", path.display()))?;
            group.broadcast(chunk, 0)?;
        }
    }
    Ok(())
}

/// Receives the files into the new folder `path`.
///
/// # Errors
///
/// If a file can't be written, or another rank has failed.
pub(super) fn receive(group: &dyn Group, path: &Path) -> anyhow::Result<()> {
    let manifest: Vec<(PathBuf, u64)> = serde_json::from_slice(&group.broadcast(Vec::new(), 0)?)?;
    for (relative, len) in manifest {
        let path = path.join(relative);
        let failed = || format!("cannot write {}", path.display());
        path.parent().map_or(Ok(()), fs::create_dir_all).with_context(failed)?;
        let mut file = File::create(&path).with_context(failed)?;
        for _ in chunks(len) {
            file.write_all(&group.broadcast(Vec::new(), 0)?).with_context(failed)?;
        }
    }
    Ok(())
}

/// The sizes of the chunks of a file, in bytes.
fn chunks(len: u64) -> impl Iterator<Item = usize> {
    let starts = (0..len).step_by(usize::try_from(CHUNK_BYTES).expect("it is far below 2^32"));
    starts.map(move |start| usize::try_from(CHUNK_BYTES.min(len - start)).expect("it is far below 2^32"))
}

/// The files in a folder, without those in folders below it.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
        paths.extend(path.is_file().then_some(path));
    }
    paths.sort();
    Ok(paths)
}

/// Whether a file at the top of a run folder is needed to resume: descriptions, low-rank updates, and without a checkpoint
/// the initial weights. Not logs, charts, the lock and backups.
fn is_needed(path: &Path, has_checkpoint: bool) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_description = [".json", ".toml", ".jinja"].iter().any(|suffix| name.ends_with(suffix));
    let is_update = name == "adapter_model.safetensors";
    is_description || is_update || name == "merges.txt" || (name == WEIGHTS && !has_checkpoint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_and_better_weights_stay_on_rank_0() {
        let needed = |name: &str, has_checkpoint| is_needed(&Path::new("runs/a").join(name), has_checkpoint);
        for name in ["recipe.toml", "config.json", "tokenizer.json", "base.json", "chat_template.jinja"] {
            assert!(needed(name, true), "{name}");
        }
        for name in
            ["metrics.jsonl", "samples.txt", "loss.svg", "run.lock", "model.step-00000002.safetensors"]
        {
            assert!(!needed(name, false), "{name}");
        }
        assert!(needed(WEIGHTS, false) && !needed(WEIGHTS, true));
    }

    #[test]
    fn chunks_add_up_to_the_file() {
        for len in [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES] {
            assert_eq!(chunks(len).map(|n| n as u64).sum::<u64>(), len);
            assert_eq!(chunks(len).count() as u64, len.div_ceil(CHUNK_BYTES));
        }
    }
}
