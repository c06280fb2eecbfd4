//! The Gaussian error linear unit, in both of its forms.

use burn::{
    prelude::*,
    tensor::activation::{gelu, gelu_approximate},
};

/// Which form of GELU stands between the two linear layers of a feed-forward network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x · Φ(x)`, as nanoGPT has it ([Hendrycks and Gimpel, 2016](https://arxiv.org/abs/1606.08415)).
    Gelu,
    /// The tanh form of the same paper, as GPT-2 has it.
    GeluTanh,
}

/// Applies the activation to each element.
///
/// # Shapes
///
/// Any; the output's is that of `x`.
pub fn activate<const D: usize>(x: Tensor<D>, activation: Activation) -> Tensor<D> {
    match activation {
        Activation::Gelu => gelu(x),
        Activation::GeluTanh => gelu_approximate(x),
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tolerance;

    use super::*;
    use crate::test_device;

    // Computed in f64 with Python's `math.erf` and `math.tanh`.
    const X: [f32; 4] = [-2.0, -0.5, 0.5, 3.0];
    const EXACT: [f32; 4] = [-0.045_500_264, -0.154_268_77, 0.345_731_23, 2.995_950_3];
    const TANH: [f32; 4] = [-0.045_402_306, -0.154_286, 0.345_714, 2.996_363];

    #[test]
    fn both_forms_match_their_formulas() {
        for (activation, expected) in [(Activation::Gelu, EXACT), (Activation::GeluTanh, TANH)] {
            let x = Tensor::<1>::from_floats(X, &test_device());
            // f32 carries seven digits; the two forms differ in the fourth.
            activate(x, activation)
                .into_data()
                .assert_approx_eq::<f32>(&TensorData::from(expected), Tolerance::absolute(2e-6));
        }
    }
}
