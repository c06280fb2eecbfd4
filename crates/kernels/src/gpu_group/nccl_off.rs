//! Builds without CUDA have no such groups.

use std::convert::Infallible;

use burn::prelude::*;

use super::GpuGroupError;

/// A group of GPUs, which this build does not support.
#[derive(Debug)]
pub struct GpuGroup(Infallible);

/// No device of this build can join a group.
pub fn gpu_uuid(_device: &Device) -> Option<[u8; 16]> {
    None
}

impl GpuGroup {
    /// # Errors
    ///
    /// Always.
    pub fn new_id() -> Result<Vec<u8>, GpuGroupError> {
        Err(GpuGroupError { action: "start a group", reason: "this build has no CUDA".to_owned() })
    }

    /// # Errors
    ///
    /// Always.
    pub fn join(_id: &[u8], _index: usize, _size: usize, _device: &Device) -> Result<Self, GpuGroupError> {
        Err(GpuGroupError { action: "join a group", reason: "this build has no CUDA".to_owned() })
    }

    /// Can't be called, because there are no groups.
    ///
    /// # Errors
    ///
    /// Never.
    pub fn mean(&self, _x: Tensor<1>) -> Result<Tensor<1>, GpuGroupError> {
        match self.0 {}
    }
}
