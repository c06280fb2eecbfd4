//! What a machine needs to compute on an NVIDIA GPU, and what of it is missing.
//!
//! The libraries are loaded when they are used, so that a program built with CUDA starts anywhere. Asked for a device
//! on a machine without them they panic, with a page of names; hence the look before.

use std::{
    env,
    path::{Path, PathBuf},
};

use cudarc::{
    driver::{result as driver, sys as driver_library},
    nccl::sys as collective_library,
    nvrtc::sys as compiler_library,
};

/// Why there is no such device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// The driver is not installed.
    #[error("no NVIDIA driver is installed: there is no libcuda; install the driver of your GPU")]
    NoDriver,
    /// It is, and does not work.
    #[error("the NVIDIA driver does not start ({reason}); `nvidia-smi` may say more")]
    DriverFails {
        /// What it said.
        reason: String,
    },
    /// It works, and there is nothing to work on.
    #[error("the NVIDIA driver works and finds no GPU; CUDA_VISIBLE_DEVICES may hide it")]
    NoDevice,
    /// There are others.
    #[error("there is no cuda:{idx}: this machine has {n_devices}, from cuda:0 on")]
    NoSuchDevice {
        /// What was asked for.
        idx: usize,
        /// How many there are.
        n_devices: usize,
    },
    /// Kernels can't be compiled.
    #[error(
        "no CUDA toolkit is installed: there is no libnvrtc; install the toolkit, version 12 or newer, and let \
         LD_LIBRARY_PATH name the folder of its libraries if they are not found"
    )]
    NoToolkit,
    /// Kernels can't be compiled for want of what they include.
    #[error(
        "the CUDA toolkit has no headers in {}; install all of it, or let CUDA_PATH name the folder that has \
         include/cuda_runtime.h", .path.display()
    )]
    NoHeaders {
        /// Where they were looked for.
        path: PathBuf,
    },
}

/// Makes sure that a device is there and that kernels can be compiled for it.
///
/// # Errors
///
/// If something is missing; what comes first is told first.
pub fn check_cuda(idx: usize) -> Result<(), CudaError> {
    let n_devices = n_cuda_devices()?;
    #[expect(unsafe_code, reason = "the library is tried by loading it")]
    // SAFETY: loading it runs its initialisers, which are NVIDIA's and made to be loaded so.
    let has_compiler = unsafe { compiler_library::is_culib_present() };
    has_what_is_needed(idx, n_devices, has_compiler, &toolkit())
}

/// How many devices the driver finds.
///
/// # Errors
///
/// If there is no driver, or it does not work.
pub fn n_cuda_devices() -> Result<usize, CudaError> {
    #[expect(unsafe_code, reason = "the library is tried by loading it")]
    // SAFETY: loading it runs its initialisers, which are NVIDIA's and made to be loaded so.
    let has_driver = unsafe { driver_library::is_culib_present() };
    if !has_driver {
        return Err(CudaError::NoDriver);
    }
    let fails = |error: driver::DriverError| CudaError::DriverFails { reason: format!("{:?}", error.0) };
    let count = driver::init().and_then(|()| driver::device::get_count());
    match count {
        Err(error) if error.0 == driver_library::CUresult::CUDA_ERROR_NO_DEVICE => Ok(0),
        count => Ok(usize::try_from(count.map_err(fails)?).unwrap_or_default()),
    }
}

/// Whether there is the library by which several devices add up tensors.
pub(crate) fn has_nccl() -> bool {
    #[expect(unsafe_code, reason = "the library is tried by loading it")]
    // SAFETY: loading it runs its initialisers, which are NVIDIA's and made to be loaded so.
    unsafe {
        collective_library::is_culib_present()
    }
}

fn has_what_is_needed(
    idx: usize,
    n_devices: usize,
    has_compiler: bool,
    toolkit: &Path,
) -> Result<(), CudaError> {
    if n_devices == 0 {
        return Err(CudaError::NoDevice);
    }
    if idx >= n_devices {
        return Err(CudaError::NoSuchDevice { idx, n_devices });
    }
    if !has_compiler {
        return Err(CudaError::NoToolkit);
    }
    let include = toolkit.join("include");
    if !include.join("cuda_runtime.h").is_file() {
        return Err(CudaError::NoHeaders { path: include });
    }
    Ok(())
}

/// Where CubeCL looks for the toolkit.
fn toolkit() -> PathBuf {
    if let Some(path) = env::var_os("CUDA_PATH") {
        return PathBuf::from(path);
    }
    let usual = if cfg!(windows) {
        ["C:/Program Files/NVIDIA GPU Computing Toolkit/CUDA/"].as_slice()
    } else {
        ["/usr/local/cuda", "/opt/cuda"].as_slice()
    };
    let found = usual.iter().find(|path| Path::new(path).exists());
    let of_the_system = Path::new("/usr/bin/nvcc").exists().then_some(&"/usr");
    PathBuf::from(found.or(of_the_system).unwrap_or(&usual[0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_apart() {
        let toolkit = tempfile::tempdir().unwrap();
        let check =
            |idx, n_devices, has_compiler| has_what_is_needed(idx, n_devices, has_compiler, toolkit.path());
        assert_eq!(check(0, 0, true), Err(CudaError::NoDevice));
        assert_eq!(check(2, 2, true), Err(CudaError::NoSuchDevice { idx: 2, n_devices: 2 }));
        assert_eq!(check(1, 2, false), Err(CudaError::NoToolkit));
        assert!(matches!(check(1, 2, true), Err(CudaError::NoHeaders { .. })));
        std::fs::create_dir(toolkit.path().join("include")).unwrap();
        std::fs::write(toolkit.path().join("include/cuda_runtime.h"), "").unwrap();
        assert_eq!(check(1, 2, true), Ok(()));
    }

    #[test]
    fn a_machine_is_looked_at_without_a_panic() {
        let found = check_cuda(0);
        let message = found.as_ref().err().map(ToString::to_string).unwrap_or_default();
        assert_eq!(found.is_err(), !message.is_empty());
        assert!(!message.contains('\n'), "{message}");
    }
}
