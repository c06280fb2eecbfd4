//! NVIDIA's compilers, and the stand-in driver.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use xshell::{Shell, cmd};

use super::arch::Arch;
use crate::common::{create, say};

/// The Python packages with NVRTC, the headers and `ptxas`.
const PACKAGES: [&str; 4] =
    ["nvidia-cuda-nvrtc", "nvidia-cuda-runtime", "nvidia-cuda-cccl", "nvidia-cuda-nvcc"];

const DRIVER: &str = include_str!("driver.c");

/// NVIDIA's compilers in a virtual environment.
#[derive(Debug)]
pub(crate) struct Toolkit {
    /// The folder with `include`, `lib` and `bin`.
    root: PathBuf,
    nvrtc: PathBuf,
    ptxas: PathBuf,
}

impl Toolkit {
    /// Finds the compilers in a virtual environment. Without one, makes `default`, and installs them there.
    ///
    /// # Errors
    ///
    /// If the environment does not have the packages, or Python cannot make one.
    pub(crate) fn open(shell: &Shell, venv: Option<&Path>, default: &Path) -> anyhow::Result<Self> {
        if let Some(venv) = venv {
            return Self::find(venv);
        }
        if let Ok(found) = Self::find(default) {
            return Ok(found);
        }
        say(&format!("installing NVIDIA's compilers into {}", default.display()));
        cmd!(shell, "python3 -m venv {default}").quiet().run()?;
        let pip = default.join("bin").join("pip");
        cmd!(shell, "{pip} install --quiet --disable-pip-version-check {PACKAGES...}").run()?;
        Self::find(default)
    }

    fn find(venv: &Path) -> anyhow::Result<Self> {
        let missing = || format!("no compilers in {}; install there {}", venv.display(), PACKAGES.join(" "));
        let python = child(&venv.join("lib"), |name| name.starts_with("python3")).with_context(missing)?;
        let packages = python.join("site-packages").join("nvidia");
        // The folder has the major version: cu13.
        let root = child(&packages, |name| name.starts_with("cu")).with_context(missing)?;
        let nvrtc = child(&root.join("lib"), |name| name.starts_with("libnvrtc.so")).with_context(missing)?;
        let ptxas = root.join("bin").join("ptxas");
        if !ptxas.is_file() || !root.join("include").join("cuda_runtime.h").is_file() {
            bail!(missing());
        }
        Ok(Self { root, nvrtc, ptxas })
    }

    /// Compiles the stand-in driver into a folder of its own, and returns the environment of a program that loads it.
    ///
    /// # Errors
    ///
    /// If there is no C compiler.
    pub(crate) fn environment(
        &self,
        shell: &Shell,
        folder: &Path,
        arch: Arch,
    ) -> anyhow::Result<Vec<(&'static str, PathBuf)>> {
        let libraries = folder.join("driver");
        create(&libraries)?;
        let (source, library) = (libraries.join("driver.c"), libraries.join("libcuda.so"));
        fs::write(&source, DRIVER)?;
        let compiler = env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        cmd!(shell, "{compiler} -std=gnu11 -O1 -shared -fPIC {source} -o {library} -ldl -lpthread")
            .quiet()
            .run()
            .context("cannot compile the stand-in driver; install a C compiler, or set CC")?;
        // One library under both names: it also stands between the program and NVRTC.
        link(&library, &libraries.join("libnvrtc.so"))?;
        let log = folder.join("kernels");
        create(&log)?;
        Ok(vec![
            ("LD_LIBRARY_PATH", libraries),
            ("CUDA_PATH", self.root.clone()),
            ("KINDLING_DRY_RUN_SM", PathBuf::from(arch.number().to_string())),
            ("KINDLING_DRY_RUN_LOG", log),
            ("KINDLING_DRY_RUN_NVRTC", self.nvrtc.clone()),
            ("KINDLING_DRY_RUN_PTXAS", self.ptxas.clone()),
        ])
    }
}

#[cfg(unix)]
fn link(from: &Path, to: &Path) -> anyhow::Result<()> {
    Ok(std::os::unix::fs::symlink(from, to)?)
}

#[cfg(not(unix))]
fn link(_from: &Path, _to: &Path) -> anyhow::Result<()> {
    bail!("the stand-in driver is for Linux")
}

/// The first entry of a folder whose name matches.
fn child(folder: &Path, matches: impl Fn(&str) -> bool) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let mut names: Vec<_> =
        entries.filter(|entry| entry.file_name().to_str().is_some_and(&matches)).collect();
    names.sort_by_key(std::fs::DirEntry::file_name);
    names.first().map(std::fs::DirEntry::path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compilers_are_found_in_a_virtual_environment() {
        let venv = tempfile::tempdir().unwrap();
        let error = Toolkit::find(venv.path()).unwrap_err().to_string();
        assert!(error.contains("nvidia-cuda-nvcc"), "{error}");

        let root = venv.path().join("lib/python3.11/site-packages/nvidia/cu13");
        for file in
            ["include/cuda_runtime.h", "lib/libnvrtc.so.13", "lib/libnvrtc-builtins.so.13.5", "bin/ptxas"]
        {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let found = Toolkit::find(venv.path()).unwrap();
        assert_eq!(found.nvrtc, root.join("lib/libnvrtc.so.13"));
        fs::remove_file(root.join("bin/ptxas")).unwrap();
        assert!(Toolkit::find(venv.path()).is_err());
    }
}
