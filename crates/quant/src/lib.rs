//! ggml's formats of quantised weights: layouts, unpacking and quantising.
//!
//! A row of a weight is stored as blocks of 32 or 256 values. A block has small integers and one or more scales, so a
//! value is `scale · quantum + offset`.
//!
//! ```
//! use quant::Format;
//!
//! // A block of q8_0: a half-precision scale of 0.5, then 32 signed bytes.
//! let mut block = vec![0x00, 0x38];
//! block.extend((0..32).map(|quantum: i8| quantum.cast_unsigned()));
//! let mut values = [0.0; 32];
//! Format::Q8_0.unpack(&block, &mut values);
//! assert_eq!(values[..4], [0.0, 0.5, 1.0, 1.5]);
//! ```
//!
//! The layouts are those of ggml's `ggml-common.h`, and the formulas those of its `dequantize_row_*`.

mod blocks;
mod format;
mod half_float;
mod pack;
mod scales;
#[cfg(test)]
mod simd_tests;
mod unpack;

pub use blocks::{Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0, scales_and_mins};
pub use format::Format;
