//! `--device`: the one place that picks a device.

use std::{fmt, str::FromStr};

use anyhow::bail;
use burn::prelude::Device;

use crate::{console::report, usage::bail_usage};

/// A device as one names it: its backend, and which of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeviceName {
    backend: Backend,
    which: Which,
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
    /// The one that is meant: of `auto` the first NVIDIA GPU, on a Mac its GPU, else a graphics card of its own, else the CPU,
    /// of those that are compiled in.
    fn resolved(self) -> Self {
        let first = |backend| Self { backend, which: Which::Default };
        match self.backend {
            #[cfg(feature = "cuda")]
            Backend::Auto if kernels::check_cuda(0).is_ok() => first(Backend::Cuda),
            #[cfg(feature = "metal")]
            Backend::Auto if kernels::Graphics::Metal.device(None).is_ok() => first(Backend::Metal),
            #[cfg(feature = "vulkan")]
            Backend::Auto if kernels::Graphics::Vulkan.device(Some(0)).is_ok() => first(Backend::Vulkan),
            #[cfg(feature = "wgpu")]
            Backend::Auto if kernels::Graphics::Wgpu.device(Some(0)).is_ok() => first(Backend::Wgpu),
            Backend::Auto => first(Backend::Cpu),
            _ => self,
        }
    }

    /// The devices, one or more, if their backend is compiled in.
    fn open(self) -> anyhow::Result<Vec<Device>> {
        #[cfg(any(feature = "cuda", feature = "vulkan", feature = "metal", feature = "wgpu"))]
        kernels::use_shipped_settings();
        match self.resolved().backend {
            Backend::Cpu => Ok(vec![Device::flex()]),
            #[cfg(feature = "cuda")]
            Backend::Cuda => {
                let idxs = match self.which {
                    Which::Default => 0..1,
                    Which::Number(idx) => idx..idx + 1,
                    // At least the first, whose absence is then told.
                    Which::All => 0..kernels::n_cuda_devices()?.max(1),
                };
                let open = |idx| kernels::check_cuda(idx).map(|()| Device::cuda(idx));
                Ok(idxs.map(open).collect::<Result<_, _>>()?)
            }
            #[cfg(feature = "vulkan")]
            Backend::Vulkan => Ok(vec![kernels::Graphics::Vulkan.device(self.which.number())?]),
            #[cfg(feature = "metal")]
            Backend::Metal => Ok(vec![kernels::Graphics::Metal.device(self.which.number())?]),
            #[cfg(feature = "wgpu")]
            Backend::Wgpu => Ok(vec![kernels::Graphics::Wgpu.device(self.which.number())?]),
            #[allow(unreachable_patterns, reason = "not reached where every backend is compiled in")]
            missing => {
                let feature = missing.feature();
                bail!(
                    "this program was built without the device `{feature}`; build it with the feature: \
                     cargo run -p cli --features {feature} -- ..."
                )
            }
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

/// `--device`, for every command that runs a model.
#[derive(Debug, clap::Args)]
pub(crate) struct DeviceArgs {
    /// Where to compute: cpu, cuda, vulkan, metal or wgpu, or one of several, as in cuda:1; those beside cpu need a
    /// build with the feature of that name. auto is a GPU where one can be used, and else the cpu. Training takes cuda:all
    /// too, all NVIDIA GPUs of the machine with equal shares of each batch.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: DeviceName,
}

impl DeviceArgs {
    /// The device of a command that runs on one.
    pub(crate) fn open(&self) -> anyhow::Result<Device> {
        if self.device.which == Which::All {
            bail_usage!("only training runs on all devices together; name one here, as in cuda:0");
        }
        Ok(self.open_all()?.remove(0))
    }

    /// The devices, one or more. Says which it is where that was left open.
    pub(crate) fn open_all(&self) -> anyhow::Result<Vec<Device>> {
        if self.device.backend == Backend::Auto {
            report(format_args!("device: {}{}", self.name(), self.why_not_cuda()));
        }
        self.device.open()
    }

    pub(crate) fn name(&self) -> String {
        self.device.resolved().to_string()
    }

    pub(crate) fn is_cpu(&self) -> bool {
        self.device.resolved().backend == Backend::Cpu
    }

    /// What keeps a program that could use an NVIDIA GPU from it.
    #[cfg(feature = "cuda")]
    fn why_not_cuda(&self) -> String {
        kernels::check_cuda(0).err().map_or_else(String::new, |error| format!(", since {error}"))
    }

    #[cfg(not(feature = "cuda"))]
    #[expect(clippy::unused_self, reason = "as with the feature")]
    fn why_not_cuda(&self) -> &'static str {
        ""
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
