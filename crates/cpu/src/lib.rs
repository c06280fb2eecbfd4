//! CPU kernels of a GPT on `f32` slices: vectorised, multi-threaded, forward and backward.
//!
//! This crate does not depend on Burn. The crate `kernels` wraps these functions as tensor operations.
//!
//! [`SimdLevel`] selects the vector instructions, `parallel.rs` distributes work over the cores, and `gemm.rs` and
//! `skinny.rs` multiply matrices. The other files are the operations, one file each, forward and backward. Shapes
//! follow the legend of `kernels`: B batch, T time, C channels, H query heads, KV key/value heads, D head dimension, V
//! vocabulary.
//!
//! ```
//! use cpu::{SimdLevel, linear, matrix::Matrix};
//!
//! let (x, weight) = ([1.0, 2.0], [3.0, 4.0]);
//! let weight = Matrix::new(&weight, 2, 1);
//! let y = linear::forward(SimdLevel::best(), Matrix::new(&x, 1, 2), &[weight.into()], &[0.5]);
//! assert_eq!(y, [1.0 * 3.0 + 2.0 * 4.0 + 0.5]);
//! ```

#![expect(
    unsafe_code,
    reason = "cores fill disjoint parts of one buffer, and some instructions are missing on some processors; each \
              block says why it is sound"
)]

mod activation;
pub mod adamw;
mod add;
mod addend;
pub mod attention;
mod bf16;
pub mod cross_entropy;
mod documents;
pub mod dropout;
pub mod embedding;
mod factor;
mod gemm;
mod heads;
pub mod linear;
mod low_rank;
mod math;
pub mod matrix;
pub mod muon;
pub mod norm;
mod packed;
mod pairs;
mod parallel;
mod pool;
mod precision;
mod prefetch;
mod quantised;
mod query_block;
mod rope;
mod row_block;
mod scratch;
pub mod segments;
mod simd_level;
mod skinny;
mod slot;
mod spin_pool;
mod store;
#[cfg(test)]
mod tests;

pub use activation::Activation;
pub use adamw::AdamWStep;
pub use add::add;
pub use documents::Documents;
pub use factor::Factor;
pub use heads::HeadLayout;
pub use low_rank::{LowRankShape, LowRankUpdates};
pub use muon::MuonStep;
pub use norm::NormKind;
pub use pool::{on_pool, on_spin_pool};
pub use precision::Precision;
pub use quantised::QuantRows;
pub use rope::RopeAngles;
pub use row_block::{RowBlock, WeightOrder};
pub use segments::Segment;
pub use simd_level::SimdLevel;
pub use skinny::INVARIANT_ROWS;
pub use slot::{Slot, SlotShape, SlotType};
