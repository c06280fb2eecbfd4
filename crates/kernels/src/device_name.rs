//! Devices by name: `cpu`, `cuda:1`, `auto`.

use std::{fmt, str::FromStr};

use burn::prelude::Device;

#[cfg(feature = "cuda")]
use crate::{CudaError, check_cuda, n_cuda_devices};
#[cfg(any(feature = "vulkan", feature = "metal", feature = "wgpu"))]
use crate::{Graphics, GraphicsError};

/// A device as one names it: its backend, and which of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceName {
    backend: Backend,
    which: Which,
}

/// Why a device can't be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// Its backend is not compiled in.
    #[error(
        "this program was built without the device `{feature}`; build it with the feature: cargo run -p cli --features \
         {feature} -- ..."
    )]
    NotBuilt {
        /// The feature that has it.
        feature: &'static str,
    },
    /// There is no such NVIDIA GPU.
    #[cfg(feature = "cuda")]
    #[error(transparent)]
    Cuda(#[from] CudaError),
    /// There is no such graphics card.
    #[cfg(any(feature = "vulkan", feature = "metal", feature = "wgpu"))]
    #[error(transparent)]
    Graphics(#[from] GraphicsError),
}

/// Which of several devices of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    /// The backend's default.
    Default,
    Number(usize),
    /// All that there are, together.
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backend {
    /// The fastest that is compiled in and there.
    Auto,
    Cpu,
    Cuda,
    Vulkan,
    Metal,
    /// What of Vulkan, Metal and Direct3D there is.
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
            _ => return Err("the devices are cpu, cuda, vulkan, metal, wgpu and auto".to_owned()),
        };
        let which = match idx {
            None => Which::Default,
            Some("all") => Which::All,
            Some(idx) => {
                let number = idx.parse();
                Which::Number(number.map_err(|_| format!("{idx:?} is no number of a device, as in cuda:1"))?)
            }
        };
        match (backend, which) {
            (Backend::Cpu, Which::Number(1..) | Which::All) => Err("there is one cpu".to_owned()),
            (Backend::Vulkan | Backend::Metal | Backend::Wgpu, Which::All) => {
                Err("only the devices of cuda train together, as cuda:all".to_owned())
            }
            (Backend::Auto, Which::Number(_) | Which::All) => {
                Err("auto has no number; name the device, as in cuda:1".to_owned())
            }
            _ => Ok(Self { backend, which }),
        }
    }
}

impl DeviceName {
    /// Whether it is to be chosen: `auto`.
    pub fn is_auto(self) -> bool {
        self.backend == Backend::Auto
    }

    /// Whether it is the processor, or `auto` comes to that.
    pub fn is_cpu(self) -> bool {
        self.resolved().backend == Backend::Cpu
    }

    /// Whether it is all devices of a backend, together.
    pub fn is_all(self) -> bool {
        self.which == Which::All
    }

    /// The device that is meant: of `auto` the first NVIDIA GPU, on a Mac its GPU, else a graphics card of its own, else the CPU,
    /// of those that are compiled in.
    pub fn resolved(self) -> Self {
        let first = |backend| Self { backend, which: Which::Default };
        match self.backend {
            #[cfg(feature = "cuda")]
            Backend::Auto if check_cuda(0).is_ok() => first(Backend::Cuda),
            #[cfg(feature = "metal")]
            Backend::Auto if Graphics::Metal.device(None).is_ok() => first(Backend::Metal),
            #[cfg(feature = "vulkan")]
            Backend::Auto if Graphics::Vulkan.device(Some(0)).is_ok() => first(Backend::Vulkan),
            #[cfg(feature = "wgpu")]
            Backend::Auto if Graphics::Wgpu.device(Some(0)).is_ok() => first(Backend::Wgpu),
            Backend::Auto => first(Backend::Cpu),
            _ => self,
        }
    }

    /// The devices, one or more.
    ///
    /// # Errors
    ///
    /// If their backend is not compiled in, or they are not there.
    pub fn open(self) -> Result<Vec<Device>, DeviceError> {
        #[cfg(any(feature = "cuda", feature = "vulkan", feature = "metal", feature = "wgpu"))]
        crate::use_shipped_settings();
        match self.resolved().backend {
            Backend::Cpu => Ok(vec![Device::flex()]),
            #[cfg(feature = "cuda")]
            Backend::Cuda => {
                let idxs = match self.which {
                    Which::Default => 0..1,
                    Which::Number(idx) => idx..idx + 1,
                    // At least the first, whose absence is then told.
                    Which::All => 0..n_cuda_devices()?.max(1),
                };
                let open = |idx| check_cuda(idx).map(|()| Device::cuda(idx));
                Ok(idxs.map(open).collect::<Result<_, CudaError>>()?)
            }
            #[cfg(feature = "vulkan")]
            Backend::Vulkan => Ok(vec![Graphics::Vulkan.device(self.which.number())?]),
            #[cfg(feature = "metal")]
            Backend::Metal => Ok(vec![Graphics::Metal.device(self.which.number())?]),
            #[cfg(feature = "wgpu")]
            Backend::Wgpu => Ok(vec![Graphics::Wgpu.device(self.which.number())?]),
            #[allow(unreachable_patterns, reason = "not reached where every backend is compiled in")]
            missing => Err(DeviceError::NotBuilt { feature: missing.feature() }),
        }
    }
}

#[cfg(any(feature = "vulkan", feature = "metal", feature = "wgpu"))]
impl Which {
    fn number(self) -> Option<usize> {
        match self {
            Self::Number(idx) => Some(idx),
            Self::Default | Self::All => None,
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.backend.feature())?;
        match self.which {
            Which::Default => Ok(()),
            Which::Number(idx) => write!(f, ":{idx}"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_a_device_that_opens() {
        let auto: DeviceName = "auto".parse().unwrap();
        assert_ne!(auto.resolved().backend, Backend::Auto);
        assert!(auto.open().is_ok());
        let cuda: DeviceName = "cuda:3".parse().unwrap();
        assert_eq!(cuda.resolved(), cuda, "what is named is meant");
    }

    #[test]
    fn names_are_backends_with_an_optional_number() {
        assert_eq!("cuda:1".parse(), Ok(DeviceName { backend: Backend::Cuda, which: Which::Number(1) }));
        assert_eq!("cuda:all".parse(), Ok(DeviceName { backend: Backend::Cuda, which: Which::All }));
        assert_eq!("vulkan".parse(), Ok(DeviceName { backend: Backend::Vulkan, which: Which::Default }));
        for name in ["cpu", "cuda:1", "cuda:all", "metal"] {
            assert_eq!(name.parse::<DeviceName>().unwrap().to_string(), name);
        }
        assert_eq!("cpu:0".parse(), Ok(DeviceName { backend: Backend::Cpu, which: Which::Number(0) }));
        for wrong in ["gpu", "cuda:x", "cpu:1", "cpu:all", "auto:0", "vulkan:all", ""] {
            assert!(wrong.parse::<DeviceName>().is_err(), "{wrong}");
        }
    }
}
