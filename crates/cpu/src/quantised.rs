//! Products with quantised weights, read from the blocks of their file.
//!
//! Activations are quantised to 8 bits once per row ([`Activations`]), so a product of a block is an integer dot
//! product, times both scales. `level.rs` has the instructions, `formats.rs` the formats, `rows.rs` the products
//! with a few rows, and `panels.rs` those with many.
//!
//! Products with many rows need AVX-512 VNNI. Other processors unpack a part of the weight at a time
//! ([`Factor`](super::Factor)), and compute in f32. Those without AVX2 unpack a row at a time for a few rows too.
//!
//! Each activation is off by at most half the scale of its block of 32, which is `max |x| / 127`. So an output is off
//! by at most `Σ |w| · scale / 2`, beside rounding in f32. Weights in f16 and bf16 take the activations in f32.

mod activations;
mod formats;
mod level;
mod panels;
#[cfg(test)]
mod portable;
mod rows;
mod vectors;
mod weight;
mod wide;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use activations::Activations;
pub(crate) use level::Int8Level;
pub(crate) use panels::{has_tiles, multiply as multiply_many};
pub(crate) use rows::multiply;
pub use weight::QuantRows;
