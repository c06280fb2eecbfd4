//! GPUs of the graphics APIs. Opening a device that does not exist panics, so this checks first.

use std::fmt;

use burn::{
    prelude::*,
    tensor::{DeviceKind, DeviceType},
};

/// A graphics API, through which GPUs of any vendor compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum GraphicsApi {
    #[cfg(feature = "vulkan")]
    Vulkan,
    #[cfg(feature = "metal")]
    Metal,
    /// Vulkan, Metal or Direct3D, whichever is available.
    #[cfg(feature = "wgpu")]
    Wgpu,
}

/// Why a GPU of a graphics API can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphicsError {
    #[error("no {0} device found; check that the driver of your GPU is installed and supports {0}")]
    NoDevice(GraphicsApi),
    #[error(
        "no such {api} device; discrete GPUs found: {n_discrete} (from 0 on). Without an index, {api} uses the \
         best device, which may be an integrated GPU"
    )]
    NoSuchDevice { api: GraphicsApi, n_discrete: usize },
}

impl fmt::Display for GraphicsApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            #[cfg(feature = "vulkan")]
            Self::Vulkan => f.write_str("Vulkan"),
            #[cfg(feature = "metal")]
            Self::Metal => f.write_str("Metal"),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => f.write_str("wgpu"),
        }
    }
}

impl GraphicsApi {
    /// The discrete GPU with this index; without an index the best device, which may be an integrated GPU.
    ///
    /// # Errors
    ///
    /// If there is no such device.
    pub fn device(self, idx: Option<usize>) -> Result<Device, GraphicsError> {
        let (devices, device): (_, fn(DeviceKind) -> Device) = match self {
            #[cfg(feature = "vulkan")]
            Self::Vulkan => (Device::enumerate(DeviceType::Vulkan), Device::vulkan),
            #[cfg(feature = "metal")]
            Self::Metal => (Device::enumerate(DeviceType::Metal), Device::metal),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => (Device::enumerate(DeviceType::Wgpu), Device::wgpu),
        };
        if devices.is_empty() {
            return Err(GraphicsError::NoDevice(self));
        }
        let Some(idx) = idx else { return Ok(device(DeviceKind::DefaultDevice)) };
        let n_discrete =
            (0..).take_while(|&idx| devices.contains(&device(DeviceKind::DiscreteGpu(idx)))).count();
        if idx >= n_discrete {
            return Err(GraphicsError::NoSuchDevice { api: self, n_discrete });
        }
        Ok(device(DeviceKind::DiscreteGpu(idx)))
    }
}
