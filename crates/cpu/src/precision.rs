//! What products are computed in.

use serde::{Deserialize, Serialize};

/// What the products of linear layers and of the output head, and on other devices than the CPU those of attention, are
/// computed in, forward and backward. Sums, softmax, norms, the loss and the weights themselves are f32 in either case.
///
/// A GPU may make products of f32 with TF32, whose factors have eleven bits of mantissa.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Factors as they are.
    #[default]
    F32,
    /// Factors rounded to eight bits of mantissa: about twice as fast where there are instructions for it. A
    /// product of four rows or fewer, as in decoding, stays in f32: it waits for memory.
    Bf16,
}
