//! The fused operations of the CPU backend, on slices of numbers. Nothing here knows Burn.
//!
//! `level.rs` picks the vector instructions, `parallel.rs` shares work among the cores, `gemm.rs` and
//! `skinny.rs` multiply matrices. The rest are the operations, one file each, forward and backward.

#![expect(
    unsafe_code,
    reason = "cores fill parts of one buffer, and instructions are called that not every processor has; each block \
              says why it may"
)]

pub(crate) mod adamw;
pub(crate) mod attention;
mod bf16;
pub(crate) mod cross_entropy;
pub(crate) mod dropout;
pub(crate) mod embedding;
pub(crate) mod gemm;
mod heads;
pub(crate) mod level;
pub(crate) mod linear;
mod math;
pub(crate) mod matrix;
pub(crate) mod muon;
pub(crate) mod norm;
pub(crate) mod packed;
mod parallel;
mod skinny;
#[cfg(test)]
mod tests;
