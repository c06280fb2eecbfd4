//! Activation functions of feed-forward networks.

use burn::{
    prelude::*,
    tensor::activation::{gelu, gelu_approximate, relu, silu},
};
use cpu::Activation;

/// Applies the activation elementwise; SwiGLU combines the first and the second half of the last axis.
///
/// # Shapes
///
/// - `x`: any; for [`Activation::Swiglu`] `[.., 2C]`
/// - output: as `x`; for [`Activation::Swiglu`] `[.., C]`
///
/// # Panics
///
/// If the activation is SwiGLU and the last axis is odd.
pub fn activate<const D: usize>(x: Tensor<D>, activation: Activation) -> Tensor<D> {
    match activation {
        Activation::Gelu => gelu(x),
        Activation::GeluTanh => gelu_approximate(x),
        Activation::Relu2 => relu(x).square(),
        Activation::Swiglu => {
            let width = x.dims()[D - 1];
            assert!(width.is_multiple_of(2), "SwiGLU needs an even number of channels (got {width})");
            let [gate, up] = [0, width / 2].map(|start| x.clone().narrow(D - 1, start, width / 2));
            silu(gate) * up
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tolerance;

    use super::*;
    use crate::testing::test_device;

    // Computed in f64 with Python's `math.erf` and `math.tanh`.
    const X: [f32; 4] = [-2.0, -0.5, 0.5, 3.0];
    const EXACT: [f32; 4] = [-0.045_500_264, -0.154_268_77, 0.345_731_23, 2.995_950_3];
    const TANH: [f32; 4] = [-0.045_402_306, -0.154_286, 0.345_714, 2.996_363];

    #[test]
    fn swiglu_and_squared_relu_match_their_formulas() {
        let x = Tensor::<2>::from_floats([[-2.0, 3.0, 0.5, -1.0]], &test_device());
        let y = activate(x.clone(), Activation::Swiglu).into_data();
        // -2 · σ(-2) · 0.5 and 3 · σ(3) · -1.
        let expected = TensorData::from([[-0.119_202_92_f32, -2.857_722_4]]);
        y.assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-6));
        let y = activate(x, Activation::Relu2).into_data();
        y.assert_approx_eq::<f32>(&TensorData::from([[0.0_f32, 9.0, 0.25, 0.0]]), Tolerance::absolute(1e-6));
    }

    #[test]
    fn both_forms_of_gelu_match_their_formulas() {
        for (activation, expected) in [(Activation::Gelu, EXACT), (Activation::GeluTanh, TANH)] {
            let x = Tensor::<1>::from_floats(X, &test_device());
            // f32 has seven digits; the two forms differ in the fourth.
            activate(x, activation)
                .into_data()
                .assert_approx_eq::<f32>(&TensorData::from(expected), Tolerance::absolute(2e-6));
        }
    }
}
