//! Device names, such as `cpu`, `cuda:1` or `auto`.

use std::{fmt, str::FromStr};

use burn::prelude::Device;

#[cfg(feature = "cuda")]
use crate::{CudaError, check_cuda, n_cuda_devices};
#[cfg(any(feature = "vulkan", feature = "metal", feature = "wgpu"))]
use crate::{GraphicsApi, GraphicsError};

/// The name of a device: a backend and optionally an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceName {
    backend: Backend,
    which: Which,
}

/// Why a device can't be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    #[error(
        "kindling was built without the device `{feature}`; rebuild it with the feature: cargo run -p cli --features \
         {feature} -- ..."
    )]
    NotBuilt { feature: &'static str },
    #[cfg(feature = "cuda")]
    #[error(transparent)]
    Cuda(#[from] CudaError),
    #[cfg(any(feature = "vulkan", feature = "metal", feature = "wgpu"))]
    #[error(transparent)]
    Graphics(#[from] GraphicsError),
}

/// Which of several devices of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    /// The default device of the backend.
    Default,
    Index(usize),
    /// All devices of the backend, together.
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backend {
    /// The fastest available device of this build.
    Auto,
    Cpu,
    Cuda,
    Vulkan,
    Metal,
    /// Vulkan, Metal or Direct3D, whichever is available.
    Wgpu,
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let (backend, idx) = match name.split_once(':') {
            Some((backend, idx)) => (backend, Some(idx)),
            None => (name, None),
        };
        let backend = match backend {
            "auto" => Backend::Auto,
            "cpu" => Backend::Cpu,
            "cuda" => Backend::Cuda,
            "vulkan" => Backend::Vulkan,
            "metal" => Backend::Metal,
            "wgpu" => Backend::Wgpu,
            _ => return Err("expected cpu, cuda, vulkan, metal, wgpu or auto".to_owned()),
        };
        let which = match idx {
            None => Which::Default,
            Some("all") => Which::All,
            Some(idx) => {
                let index = idx.parse();
                Which::Index(index.map_err(|_| format!("{idx:?} is not a device index, as in cuda:1"))?)
            }
        };
        match (backend, which) {
            (Backend::Cpu, Which::Index(1..) | Which::All) => {
                Err("there is only one cpu device; use cpu".to_owned())
            }
            (Backend::Vulkan | Backend::Metal | Backend::Wgpu, Which::All) => {
                Err("`all` is supported for cuda only, as in cuda:all".to_owned())
            }
            (Backend::Auto, Which::Index(_) | Which::All) => {
                Err("auto takes no index; name the backend, as in cuda:1".to_owned())
            }
            _ => Ok(Self { backend, which }),
        }
    }
}

impl DeviceName {
    /// Whether the name is `auto`.
    pub fn is_auto(self) -> bool {
        self.backend == Backend::Auto
    }

    /// Whether this is the CPU, or `auto` resolves to it.
    pub fn is_cpu(self) -> bool {
        self.resolved().backend == Backend::Cpu
    }

    /// Whether this is all devices of a backend.
    pub fn is_all(self) -> bool {
        self.which == Which::All
    }

    /// Resolves `auto` to the first available device of this build: an NVIDIA GPU, a Mac's GPU, a discrete GPU, the
    /// CPU.
    pub fn resolved(self) -> Self {
        let first = |backend| Self { backend, which: Which::Default };
        match self.backend {
            #[cfg(feature = "cuda")]
            Backend::Auto if check_cuda(0).is_ok() => first(Backend::Cuda),
            #[cfg(feature = "metal")]
            Backend::Auto if GraphicsApi::Metal.device(None).is_ok() => first(Backend::Metal),
            #[cfg(feature = "vulkan")]
            Backend::Auto if GraphicsApi::Vulkan.device(Some(0)).is_ok() => first(Backend::Vulkan),
            #[cfg(feature = "wgpu")]
            Backend::Auto if GraphicsApi::Wgpu.device(Some(0)).is_ok() => first(Backend::Wgpu),
            Backend::Auto => first(Backend::Cpu),
            _ => self,
        }
    }

    /// The device of a process among several on this machine: for `cuda` without an index, the GPU with the process's index.
    /// A launcher may show each process its own GPU alone; then all take the first that they see.
    pub fn of_local_rank(self, idx: usize) -> Self {
        match self.resolved() {
            Self { backend: Backend::Cuda, which: Which::Default } => {
                let idx = idx.checked_rem(n_nvidia_gpus()).unwrap_or(idx); // Opening the device reports an error.
                Self { backend: Backend::Cuda, which: Which::Index(idx) }
            }
            resolved => resolved,
        }
    }

    /// Opens the device, or all devices of the backend.
    ///
    /// # Errors
    ///
    /// If the backend is not compiled in, or a device is not available.
    pub fn open(self) -> Result<Vec<Device>, DeviceError> {
        #[cfg(any(feature = "cuda", feature = "vulkan", feature = "metal", feature = "wgpu"))]
        crate::use_shipped_settings();
        match self.resolved().backend {
            Backend::Cpu => Ok(vec![Device::flex()]),
            #[cfg(feature = "cuda")]
            Backend::Cuda => {
                let idxs = match self.which {
                    Which::Default => 0..1,
                    Which::Index(idx) => idx..idx + 1,
                    // At least the first, so that its absence is an error.
                    Which::All => 0..n_cuda_devices()?.max(1),
                };
                let open = |idx| check_cuda(idx).map(|()| Device::cuda(idx));
                Ok(idxs.map(open).collect::<Result<_, CudaError>>()?)
            }
            #[cfg(feature = "vulkan")]
            Backend::Vulkan => Ok(vec![GraphicsApi::Vulkan.device(self.which.index())?]),
            #[cfg(feature = "metal")]
            Backend::Metal => Ok(vec![GraphicsApi::Metal.device(self.which.index())?]),
            #[cfg(feature = "wgpu")]
            Backend::Wgpu => Ok(vec![GraphicsApi::Wgpu.device(self.which.index())?]),
            #[allow(unreachable_patterns, reason = "unreachable if every backend is compiled in")]
            missing => Err(DeviceError::NotBuilt { feature: missing.feature() }),
        }
    }
}

#[cfg(any(feature = "vulkan", feature = "metal", feature = "wgpu"))]
impl Which {
    fn index(self) -> Option<usize> {
        match self {
            Self::Index(idx) => Some(idx),
            Self::Default | Self::All => None,
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.backend.feature())?;
        match self.which {
            Which::Default => Ok(()),
            Which::Index(idx) => write!(f, ":{idx}"),
            Which::All => f.write_str(":all"),
        }
    }
}

impl Backend {
    fn feature(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Vulkan => "vulkan",
            Self::Metal => "metal",
            Self::Wgpu => "wgpu",
        }
    }
}

/// The NVIDIA GPUs that this process sees.
fn n_nvidia_gpus() -> usize {
    #[cfg(feature = "cuda")]
    return n_cuda_devices().unwrap_or(0);
    #[cfg(not(feature = "cuda"))]
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_resolves_to_a_device_that_opens() {
        let auto: DeviceName = "auto".parse().unwrap();
        assert_ne!(auto.resolved().backend, Backend::Auto);
        assert!(auto.open().is_ok());
        let cuda: DeviceName = "cuda:3".parse().unwrap();
        assert_eq!(cuda.resolved(), cuda, "only auto is resolved");
    }

    #[test]
    fn names_are_backends_with_an_optional_index() {
        assert_eq!("cuda:1".parse(), Ok(DeviceName { backend: Backend::Cuda, which: Which::Index(1) }));
        assert_eq!("cuda:all".parse(), Ok(DeviceName { backend: Backend::Cuda, which: Which::All }));
        assert_eq!("vulkan".parse(), Ok(DeviceName { backend: Backend::Vulkan, which: Which::Default }));
        for name in ["cpu", "cuda:1", "cuda:all", "metal"] {
            assert_eq!(name.parse::<DeviceName>().unwrap().to_string(), name);
        }
        assert_eq!("cpu:0".parse(), Ok(DeviceName { backend: Backend::Cpu, which: Which::Index(0) }));
        for wrong in ["gpu", "cuda:x", "cpu:1", "cpu:all", "auto:0", "vulkan:all", ""] {
            assert!(wrong.parse::<DeviceName>().is_err(), "{wrong}");
        }
    }
}
