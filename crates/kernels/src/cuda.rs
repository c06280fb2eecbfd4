//! Checks that a machine can compute on an NVIDIA GPU.
//!
//! The CUDA libraries are loaded on first use, so that a build with CUDA starts on any machine. Opening a device
//! without them panics with a long list of file names. So they are checked first.

use std::{
    env,
    path::{Path, PathBuf},
};

use cudarc::{
    driver::{result as driver, sys as driver_library},
    nccl::sys as collective_library,
    nvrtc::sys as compiler_library,
};

/// Why an NVIDIA GPU can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    #[error("no NVIDIA driver found (libcuda is missing); install the driver of your GPU")]
    NoDriver,
    #[error("the NVIDIA driver does not start ({reason}); run `nvidia-smi` for details")]
    DriverFails { reason: String },
    #[error("the NVIDIA driver finds no GPU; check that CUDA_VISIBLE_DEVICES does not hide it")]
    NoDevice,
    #[error("no device cuda:{idx}; NVIDIA GPUs found: {n_devices} (from cuda:0 on)")]
    NoSuchDevice { idx: usize, n_devices: usize },
    /// Without NVRTC, kernels can't be compiled.
    #[error(
        "no CUDA toolkit found (libnvrtc is missing); install CUDA 12 or newer, or add the folder of its libraries to \
         LD_LIBRARY_PATH"
    )]
    NoToolkit,
    /// Without the headers, kernels can't be compiled.
    #[error(
        "the CUDA toolkit has no headers in {}; install the full toolkit, or set CUDA_PATH to the folder that contains \
         include/cuda_runtime.h", .path.display()
    )]
    NoHeaders { path: PathBuf },
}

/// Checks that a device exists and that kernels can be compiled for it.
///
/// # Errors
///
/// The first requirement that is missing: driver, device, toolkit, headers.
pub fn check_cuda(idx: usize) -> Result<(), CudaError> {
    let n_devices = n_cuda_devices()?;
    #[expect(unsafe_code, reason = "the check loads the library")]
    // SAFETY: loading runs the library's initialisers, and NVIDIA's libraries are made to be loaded at run time.
    let has_compiler = unsafe { compiler_library::is_culib_present() };
    check_requirements(idx, n_devices, has_compiler, &toolkit_dir())
}

/// The number of devices that the driver finds.
///
/// # Errors
///
/// If there is no driver, or it does not start.
pub fn n_cuda_devices() -> Result<usize, CudaError> {
    #[expect(unsafe_code, reason = "the check loads the library")]
    // SAFETY: loading runs the library's initialisers, and NVIDIA's libraries are made to be loaded at run time.
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

/// Whether NCCL is installed.
pub(crate) fn has_nccl() -> bool {
    #[expect(unsafe_code, reason = "the check loads the library")]
    // SAFETY: loading runs the library's initialisers, and NVIDIA's libraries are made to be loaded at run time.
    unsafe {
        collective_library::is_culib_present()
    }
}

fn check_requirements(
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

/// The folder in which CubeCL looks for the toolkit.
fn toolkit_dir() -> PathBuf {
    if let Some(path) = env::var_os("CUDA_PATH") {
        return PathBuf::from(path);
    }
    let usual = if cfg!(windows) {
        ["C:/Program Files/NVIDIA GPU Computing Toolkit/CUDA/"].as_slice()
    } else {
        ["/usr/local/cuda", "/opt/cuda"].as_slice()
    };
    let found = usual.iter().find(|path| Path::new(path).exists());
    let system = Path::new("/usr/bin/nvcc").exists().then_some(&"/usr");
    PathBuf::from(found.or(system).unwrap_or(&usual[0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_requirement_has_its_error() {
        let toolkit = tempfile::tempdir().unwrap();
        let check =
            |idx, n_devices, has_compiler| check_requirements(idx, n_devices, has_compiler, toolkit.path());
        assert_eq!(check(0, 0, true), Err(CudaError::NoDevice));
        assert_eq!(check(2, 2, true), Err(CudaError::NoSuchDevice { idx: 2, n_devices: 2 }));
        assert_eq!(check(1, 2, false), Err(CudaError::NoToolkit));
        assert!(matches!(check(1, 2, true), Err(CudaError::NoHeaders { .. })));
        std::fs::create_dir(toolkit.path().join("include")).unwrap();
        std::fs::write(toolkit.path().join("include/cuda_runtime.h"), "").unwrap();
        assert_eq!(check(1, 2, true), Ok(()));
    }

    #[test]
    fn check_does_not_panic() {
        let found = check_cuda(0);
        let message = found.as_ref().err().map(ToString::to_string).unwrap_or_default();
        assert_eq!(found.is_err(), !message.is_empty());
        assert!(!message.contains('\n'), "{message}");
    }
}
