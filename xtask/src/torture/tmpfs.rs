//! A small disk in memory, which can be filled.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

/// What a small disk gives out at a time.
pub(crate) const PAGE_BYTES: u64 = 4096;

/// Several times what a run takes.
const DISK: &str = "size=32m,mode=700";

/// A disk in memory, unmounted when it is dropped.
pub(crate) struct Tmpfs {
    pub(crate) path: PathBuf,
}

impl Tmpfs {
    pub(crate) fn mount(path: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(path)?;
        system(Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(path))?;
        Ok(Self { path: path.to_owned() })
    }

    pub(crate) fn remount(&self, mode: &str) -> anyhow::Result<()> {
        system(Command::new("mount").args(["-o", &format!("remount,{mode}")]).arg(&self.path))
    }

    /// Takes all of the disk but a few pages, with what is taken already.
    pub(crate) fn fill(&self, n_pages_left: u64) -> anyhow::Result<()> {
        let mut filler = File::options().append(true).create(true).open(self.filler())?;
        let zeros = vec![0; 1 << 16];
        let error = loop {
            if let Err(error) = filler.write(&zeros) {
                break error;
            }
        };
        if error.kind() != ErrorKind::StorageFull {
            return Err(error).context("fill the disk");
        }
        let size_bytes = filler.metadata()?.len();
        Ok(filler.set_len(size_bytes.saturating_sub(n_pages_left * PAGE_BYTES))?)
    }

    pub(crate) fn empty(&self) -> anyhow::Result<()> {
        fs::remove_file(self.filler()).context("free the disk")
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = system(Command::new("umount").arg(&self.path)); // It goes with the machine at the latest.
    }
}

/// Why no disk can be filled here, if so.
pub(crate) fn why_not(folder: &Path) -> Option<String> {
    Tmpfs::mount(&folder.join("try")).err().map(|error| format!("{error:#}"))
}

fn system(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
