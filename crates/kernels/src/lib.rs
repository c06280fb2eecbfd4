//! The operations of a GPT, one function per concept.
//!
//! The model calls only these functions, so this crate alone decides which implementation runs. Each function has a
//! reference implementation in ordinary tensor operations, which every backend and autodiff support. A fused path for
//! one backend must agree with it.
//!
//! Shapes follow one legend throughout the project: B batch, T time, C `n_embd`, H query heads, KV key/value heads, D
//! head dimension (C = H · D), V vocabulary, S visible keys (S ≥ T if a cache holds earlier ones).
//!
//! ```
//! use burn::prelude::*;
//!
//! let device = kernels::testing::test_device();
//! let x = Tensor::<3>::ones([2, 3, 4], &device);
//! let weight = Tensor::<2>::ones([5, 4], &device);
//! let y = kernels::linear(x, weight, None, kernels::Precision::F32);
//! assert_eq!(y.dims(), [2, 3, 5]);
//! ```

mod activation;
mod adamw;
#[cfg(test)]
mod agreement;
mod attention;
mod cross_entropy;
#[cfg(feature = "cuda")]
mod cuda;
mod device;
mod device_name;
mod device_peak;
mod documents;
mod dropout;
mod dropout_mask;
mod embedding;
mod fused;
mod gpu;
mod gpu_group;
#[cfg(any(feature = "vulkan", feature = "metal", feature = "wgpu"))]
mod graphics;
mod indices;
mod linear;
mod low_rank;
mod missing;
mod muon;
mod norm;
mod precision;
mod rope;
#[cfg(feature = "gpu")]
mod settings;
mod slot;
#[doc(hidden)]
pub mod testing;
mod weight;

pub use activation::activate;
pub use adamw::{adamw, adamw_on_device, sum_of_all_squares, sum_of_squares};
pub use attention::{Attention, QkNorm, causal_attention, ragged_attention};
pub use cpu::{
    Activation, AdamWStep, INVARIANT_ROWS, MuonStep, NormKind, Precision, RowBlock, Segment, SimdLevel,
    SlotShape, SlotType, WeightOrder, on_pool, on_spin_pool, segments::INVARIANT_SEGMENT,
};
pub use cross_entropy::{LmHead, cross_entropy};
#[cfg(feature = "cuda")]
pub use cuda::{CudaError, check_cuda, n_cuda_devices};
pub use device::{has_collectives, has_fused_operations, on_device_thread, use_plain_operations};
pub use device_name::{DeviceError, DeviceName};
pub use device_peak::device_peak_flops;
pub use documents::Documents;
pub use dropout::{dropout, dropout_state, seed_dropout, with_dropout};
pub use embedding::embed;
pub use gpu_group::{GpuGroup, GpuGroupError, gpu_uuid};
#[cfg(any(feature = "vulkan", feature = "metal", feature = "wgpu"))]
pub use graphics::{GraphicsApi, GraphicsError};
pub use linear::{linear, linear_activate, linear_operand, linear_residual};
pub use low_rank::{LowRank, UpdatedWeight};
pub use muon::{MuonUpdate, muon, muon_shares_launches, muon_together};
pub use norm::norm;
pub use precision::supported_precision;
pub use rope::Rope;
#[cfg(feature = "gpu")]
pub use settings::use_shipped_settings;
pub use slot::{Slot, supports_slot_type};
pub use weight::{RowBlocks, Weight};
