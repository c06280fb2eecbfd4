//! Lookup of models by path or by the name of a run.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use checkpoint::RunFolder;
use families::check_nanogpt;
use formats::refuse_lfs_pointer;

use crate::{Error, Result, did_you_mean, quoted};

/// Where to look up models, and the program name in advised commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Models {
    /// The folder of runs.
    pub runs: PathBuf,
    /// The program name in commands that messages advise.
    pub program: String,
}

/// Runs in `runs/`, and commands of `kindling`.
impl Default for Models {
    fn default() -> Self {
        Self { runs: PathBuf::from("runs"), program: "kindling".to_owned() }
    }
}

impl Models {
    /// The folder of a run, or a folder in Hugging Face layout.
    ///
    /// # Errors
    ///
    /// If the path is not such a folder. The message has the command that imports it, if there is one.
    pub fn open_folder(&self, path: &Path) -> Result<RunFolder> {
        let folder = self.resolve(path);
        if !folder.exists() {
            return Err(Error::Missing {
                path: path.to_owned(),
                runs: self.runs.clone(),
                advice: format!("{}{}", self.suggestion(path), self.hub_hint(path)),
            });
        }
        if !folder.is_file() && !folder.is_dir() {
            return Err(Error::Stream { path: folder });
        }
        refuse_lfs_pointer(&folder).map_err(families::Error::from)?;
        if is_gguf(&folder) {
            let import = self.import_command(&folder);
            return Err(Error::NotImported { path: folder, import });
        }
        if folder.is_file() {
            refuse_part(&folder)?;
            let advice = self.import_advice(&folder)?;
            return Err(Error::File { path: folder, advice });
        }
        if let Some(checkpoint) = find_checkpoint(&folder) {
            let advice = self.import_advice(&checkpoint)?;
            return Err(Error::Folder { path: folder, advice });
        }
        Ok(RunFolder::open(&folder)?)
    }

    /// The most recently modified run, by its weights or metrics.
    ///
    /// # Errors
    ///
    /// If there are no runs.
    pub fn newest(&self) -> Result<RunFolder> {
        let newest = RunFolder::newest(&self.runs)?;
        newest.ok_or_else(|| Error::NoRuns { runs: self.runs.clone(), program: self.program.clone() })
    }

    /// Resolves a path or the name of a run. An existing model or file takes precedence over a run of that name, and
    /// the run over a folder without a model.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        let named = self.runs.join(path);
        let is_path = path.is_file() || is_model(path) || (path.exists() && !is_model(&named));
        if !is_path && path.components().count() == 1 && named.exists() { named } else { path.to_owned() }
    }

    /// The path of a run that may not exist: a name is a folder in [`Models::runs`], and a path is unchanged.
    pub fn run_path(&self, run: &Path) -> PathBuf {
        if run.components().count() == 1 && run.is_relative() { self.runs.join(run) } else { run.to_owned() }
    }

    /// A suffix for messages that suggests a run with a similar name.
    pub(crate) fn suggestion(&self, path: &Path) -> String {
        let runs = RunFolder::all(&self.runs).unwrap_or_default();
        let names: Vec<String> = runs.iter().map(RunFolder::name).collect();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        did_you_mean(&name, names.iter().map(String::as_str))
    }

    /// A suffix for messages with the command that imports a model from the hub, if a path looks like OWNER/NAME.
    fn hub_hint(&self, path: &Path) -> String {
        let parts: Vec<&str> = path.to_str().unwrap_or_default().split('/').collect();
        match parts[..] {
            [owner, name]
                if !owner.is_empty()
                    && !name.is_empty()
                    && Path::new(owner) != self.runs
                    && !owner.starts_with('.') =>
            {
                format!(
                    "; to import a model from the Hugging Face hub: {} import {owner}/{name}",
                    self.program
                )
            }
            _ => String::new(),
        }
    }

    /// A suffix for messages about a file that is not a model. Returns the import's error for a PyTorch checkpoint that
    /// cannot be imported.
    fn import_advice(&self, path: &Path) -> Result<String> {
        if !has_checkpoint_extension(path) {
            return Ok("; give a run, a model folder or a GGUF file".to_owned());
        }
        check_nanogpt(path)?;
        Ok(format!("; import the checkpoint first, then use the run: {}", self.import_command(path)))
    }

    fn import_command(&self, path: &Path) -> String {
        format!("{} import {} --run NAME", self.program, quoted(&path.display().to_string()))
    }
}

/// Whether a path is an existing GGUF file, by its extension or, for files of the hub's cache, by its first bytes.
pub fn is_gguf(path: &Path) -> bool {
    let has_magic = || {
        let mut magic = [0; 4];
        File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"GGUF"
    };
    let has_extension = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
    path.is_file() && (has_extension || has_magic())
}

/// Whether a path is the folder of a model.
pub(crate) fn is_model(path: &Path) -> bool {
    ["config.json", "adapter_config.json"].iter().any(|name| path.join(name).is_file())
}

/// Returns an error for a file of a model in Hugging Face layout, whose folder is the model.
pub(crate) fn refuse_part(path: &Path) -> Result<()> {
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().to_lowercase());
    let is_part = [".safetensors", ".json", ".model", "merges.txt"].iter().any(|end| name.ends_with(end));
    if is_part || name.starts_with("pytorch_model") {
        let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
        return Err(Error::Part { path: path.to_owned(), folder: folder.to_owned() });
    }
    Ok(())
}

fn has_checkpoint_extension(path: &Path) -> bool {
    path.extension()
        .is_some_and(|found| ["pt", "pth", "ckpt"].iter().any(|known| found.eq_ignore_ascii_case(known)))
}

/// A PyTorch checkpoint in a folder that is not in Hugging Face layout, such as nanoGPT's `out`. `ckpt.pt` is
/// preferred.
fn find_checkpoint(folder: &Path) -> Option<PathBuf> {
    if is_model(folder) {
        return None;
    }
    let entries = folder.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    let found = entries.filter(|path| path.is_file() && has_checkpoint_extension(path));
    found.min_by_key(|path| (path.file_name() != Some("ckpt.pt".as_ref()), path.clone()))
}
