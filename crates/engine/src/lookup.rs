//! Where models are: a path, or the name of a run.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use checkpoint::RunFolder;
use families::check_nanogpt;
use formats::refuse_lfs_pointer;

use crate::{Error, Result, did_you_mean, quoted};

/// Where models are looked up by name, and how messages call the command that helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Models {
    /// The folder of runs.
    pub runs: PathBuf,
    /// The program in the commands that messages advise.
    pub program: String,
}

/// The runs in `runs/`, and advice for `kindling`.
impl Default for Models {
    fn default() -> Self {
        Self { runs: PathBuf::from("runs"), program: "kindling".to_owned() }
    }
}

impl Models {
    /// The folder of a run or a model in Hugging Face layout.
    ///
    /// # Errors
    ///
    /// If there is none; the message says what is there instead, and how to make a model of it.
    pub fn open_folder(&self, path: &Path) -> Result<RunFolder> {
        let folder = self.path_of(path);
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
            let import = self.import(&folder);
            return Err(Error::NotImported { path: folder, import });
        }
        if folder.is_file() {
            refuse_part(&folder)?;
            let advice = self.import_advice(&folder)?;
            return Err(Error::File { path: folder, advice });
        }
        if let Some(checkpoint) = checkpoint_in(&folder) {
            let advice = self.import_advice(&checkpoint)?;
            return Err(Error::Folder { path: folder, advice });
        }
        Ok(RunFolder::open(&folder)?)
    }

    /// The run whose weights or metrics changed last.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn newest(&self) -> Result<RunFolder> {
        let newest = RunFolder::newest(&self.runs)?;
        newest.ok_or_else(|| Error::NoRuns { runs: self.runs.clone(), program: self.program.clone() })
    }

    /// The path that is meant: as it stands if a model or a file is there, else that of the run of this name. A folder
    /// without a model does not hide the run of its name.
    pub fn path_of(&self, path: &Path) -> PathBuf {
        let named = self.runs.join(path);
        let is_taken = path.is_file() || is_model(path) || (path.exists() && !is_model(&named));
        if !is_taken && path.components().count() == 1 && named.exists() { named } else { path.to_owned() }
    }

    /// The path of a run that may not exist: a name is that of a run, and a path stands as it is.
    pub fn run_path(&self, run: &Path) -> PathBuf {
        if run.components().count() == 1 && run.is_relative() { self.runs.join(run) } else { run.to_owned() }
    }

    /// The suffix of a message with the run that was probably meant.
    pub(crate) fn suggestion(&self, path: &Path) -> String {
        let runs = RunFolder::all(&self.runs).unwrap_or_default();
        let names: Vec<String> = runs.iter().map(RunFolder::name).collect();
        let meant = path.file_name().unwrap_or_default().to_string_lossy();
        did_you_mean(&meant, names.iter().map(String::as_str))
    }

    /// The suffix of a message with the command that gets a model of the hub, if a path looks like the name of one:
    /// OWNER/NAME.
    fn hub_hint(&self, path: &Path) -> String {
        let parts: Vec<&str> = path.to_str().unwrap_or_default().split('/').collect();
        match parts[..] {
            [owner, name]
                if !owner.is_empty()
                    && !name.is_empty()
                    && Path::new(owner) != self.runs
                    && !owner.starts_with('.') =>
            {
                format!("; a model of the hub is imported first: {} import {owner}/{name}", self.program)
            }
            _ => String::new(),
        }
    }

    /// The suffix of a message on a file that is not a model. If it may be a PyTorch checkpoint, one that can't be imported
    /// is refused as by the import.
    fn import_advice(&self, path: &Path) -> Result<String> {
        if !is_named_as_checkpoint(path) {
            return Ok("; name a run, a folder with a model or a GGUF file".to_owned());
        }
        check_nanogpt(path)?;
        Ok(format!("; import the checkpoint first, and name the run: {}", self.import(path)))
    }

    fn import(&self, path: &Path) -> String {
        format!("{} import {} --run NAME", self.program, quoted(&path.display().to_string()))
    }
}

/// Whether a path is an existing GGUF file, by its name or, as those of a cache have none, by its first bytes.
pub fn is_gguf(path: &Path) -> bool {
    let begins_so = || {
        let mut magic = [0; 4];
        File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"GGUF"
    };
    let is_named_so = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
    path.is_file() && (is_named_so || begins_so())
}

/// Whether a path is the folder of a model.
pub(crate) fn is_model(path: &Path) -> bool {
    path.join("config.json").is_file()
}

/// Refuses a file that is a part of a model in Hugging Face layout.
pub(crate) fn refuse_part(path: &Path) -> Result<()> {
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().to_lowercase());
    let is_part = [".safetensors", ".json", ".model", "merges.txt"].iter().any(|end| name.ends_with(end));
    if is_part || name.starts_with("pytorch_model") {
        let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
        return Err(Error::Part { path: path.to_owned(), folder: folder.to_owned() });
    }
    Ok(())
}

fn is_named_as_checkpoint(path: &Path) -> bool {
    path.extension()
        .is_some_and(|found| ["pt", "pth", "ckpt"].iter().any(|known| found.eq_ignore_ascii_case(known)))
}

/// A PyTorch checkpoint in a folder without a model in Hugging Face layout, such as nanoGPT's `out`: ckpt.pt before others.
fn checkpoint_in(folder: &Path) -> Option<PathBuf> {
    if is_model(folder) {
        return None;
    }
    let entries = folder.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    let found = entries.filter(|path| path.is_file() && is_named_as_checkpoint(path));
    found.min_by_key(|path| (path.file_name() != Some("ckpt.pt".as_ref()), path.clone()))
}
