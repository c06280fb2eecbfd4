//! The precision of matrix products.

use serde::{Deserialize, Serialize};

/// The precision of matrix products, forward and backward: of linear layers, of the output head and, on GPUs, of
/// attention. Sums, softmax, norms, the loss and the weights are always f32; on GPUs, the outputs of norms and activations are
/// rounded for the products that take them.
///
/// A GPU may compute f32 products in TF32, which rounds operands to 11 bits of mantissa.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    #[default]
    F32,
    /// Operands rounded to 8 bits of mantissa: about twice as fast with hardware support. On the CPU, a product of at
    /// most 8 rows, as in decoding, stays in f32, because memory bandwidth limits it.
    Bf16,
}
