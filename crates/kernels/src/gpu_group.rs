//! GPUs of several processes that exchange tensors directly, through NCCL.

#[cfg(feature = "cuda")]
mod nccl;
#[cfg(not(feature = "cuda"))]
#[path = "gpu_group/nccl_off.rs"]
mod nccl;

pub use nccl::{GpuGroup, gpu_uuid};

/// NCCL can't exchange tensors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("NCCL can't {action} ({reason}); set NCCL_DEBUG=INFO to see why")]
pub struct GpuGroupError {
    action: &'static str,
    reason: String,
}
