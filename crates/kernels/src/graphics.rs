//! Devices of the interfaces that graphics programs use, and whether they are there: asked for one that is not, they panic.

use std::fmt;

use burn::{
    prelude::*,
    tensor::{DeviceKind, DeviceType},
};

/// An interface to GPUs of any maker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Graphics {
    /// That of most systems.
    #[cfg(feature = "vulkan")]
    Vulkan,
    /// That of Apple's.
    #[cfg(feature = "metal")]
    Metal,
    /// What there is of these two and Direct3D.
    #[cfg(feature = "wgpu")]
    Wgpu,
}

/// Why there is no such device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphicsError {
    /// None at all.
    #[error("{0} finds no device; the driver of your GPU may be missing, or not have {0}")]
    NoDevice(Graphics),
    /// There are others.
    #[error(
        "{graphics} finds {n_cards} graphics cards of their own, numbered from 0; without a number it takes the best device, \
         which may be part of the processor"
    )]
    NoSuchCard {
        /// Where it was looked for.
        graphics: Graphics,
        /// How many there are.
        n_cards: usize,
    },
}

impl fmt::Display for Graphics {
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

impl Graphics {
    /// The graphics card of a number; without one the best device, which may be part of the processor.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn device(self, card: Option<usize>) -> Result<Device, GraphicsError> {
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
        let Some(number) = card else { return Ok(device(DeviceKind::DefaultDevice)) };
        let n_cards =
            (0..).take_while(|&idx| devices.contains(&device(DeviceKind::DiscreteGpu(idx)))).count();
        if number >= n_cards {
            return Err(GraphicsError::NoSuchCard { graphics: self, n_cards });
        }
        Ok(device(DeviceKind::DiscreteGpu(number)))
    }
}
