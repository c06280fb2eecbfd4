//! `--device`: the one place that picks a device.

use std::{fmt, str::FromStr};

use anyhow::bail;
use burn::prelude::Device;

use crate::console::report;

/// A device as one names it: its backend, and which of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeviceName {
    backend: Backend,
    /// Without it, the backend's default.
    idx: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backend {
    /// The fastest that is compiled in and there.
    Auto,
    Cpu,
    Cuda,
    Vulkan,
    Metal,
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
            _ => return Err("the devices are cpu, cuda, vulkan, metal and auto".to_owned()),
        };
        let number =
            |idx: &str| idx.parse().map_err(|_| format!("{idx:?} is no number of a device, as in cuda:1"));
        let idx = idx.map(number).transpose()?;
        if backend == Backend::Cpu && idx.is_some_and(|idx| idx != 0) {
            return Err("there is one cpu".to_owned());
        }
        if backend == Backend::Auto && idx.is_some() {
            return Err("auto has no number; name the device, as in cuda:1".to_owned());
        }
        Ok(Self { backend, idx })
    }
}

impl DeviceName {
    /// The one that is meant: of `auto` the first NVIDIA GPU, on a Mac its GPU, else the CPU, of those that are compiled
    /// in.
    fn resolved(self) -> Self {
        let first = |backend| Self { backend, idx: None };
        match self.backend {
            #[cfg(feature = "cuda")]
            Backend::Auto if kernels::check_cuda(0).is_ok() => first(Backend::Cuda),
            Backend::Auto if cfg!(feature = "metal") => first(Backend::Metal),
            Backend::Auto => first(Backend::Cpu),
            _ => self,
        }
    }

    /// The device, if its backend is compiled in.
    fn open(self) -> anyhow::Result<Device> {
        match self.resolved().backend {
            Backend::Cpu => Ok(Device::flex()),
            #[cfg(feature = "cuda")]
            Backend::Cuda => {
                let idx = self.idx.unwrap_or(0);
                kernels::check_cuda(idx)?;
                Ok(Device::cuda(idx))
            }
            #[cfg(feature = "vulkan")]
            Backend::Vulkan => Ok(Device::vulkan(graphics_kind(self.idx))),
            #[cfg(feature = "metal")]
            Backend::Metal => Ok(Device::metal(graphics_kind(self.idx))),
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

/// A number is that of a graphics card of its own; without one, the best device that there is, which may be part
/// of the processor.
#[cfg(any(feature = "vulkan", feature = "metal"))]
fn graphics_kind(idx: Option<usize>) -> burn::tensor::DeviceKind {
    use burn::tensor::DeviceKind::{DefaultDevice, DiscreteGpu};
    idx.map_or(DefaultDevice, DiscreteGpu)
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.backend.feature())?;
        self.idx.map_or(Ok(()), |idx| write!(f, ":{idx}"))
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
        }
    }
}

/// `--device`, for every command that runs a model.
#[derive(Debug, clap::Args)]
pub(crate) struct DeviceArgs {
    /// Where to compute: cpu, cuda, vulkan or metal, or one of several, as in cuda:1; those beside cpu need a
    /// build with the feature of that name. auto is a GPU where one can be used, and else the cpu.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: DeviceName,
}

impl DeviceArgs {
    /// Says which device it is where that was left open.
    pub(crate) fn open(&self) -> anyhow::Result<Device> {
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
        assert_eq!("cuda:1".parse(), Ok(DeviceName { backend: Backend::Cuda, idx: Some(1) }));
        assert_eq!("vulkan".parse(), Ok(DeviceName { backend: Backend::Vulkan, idx: None }));
        for name in ["cpu", "cuda:1", "metal"] {
            assert_eq!(name.parse::<DeviceName>().unwrap().to_string(), name);
        }
        assert_eq!("cpu:0".parse(), Ok(DeviceName { backend: Backend::Cpu, idx: Some(0) }));
        for wrong in ["gpu", "cuda:x", "cpu:1", "auto:0", ""] {
            assert!(wrong.parse::<DeviceName>().is_err(), "{wrong}");
        }
    }
}
