//! Activation functions of feed-forward networks.

use std::f64::consts::FRAC_1_SQRT_2;

use burn::{
    backend::Dispatch,
    prelude::*,
    tensor::activation::{relu, silu},
};
use cpu::Activation;

use crate::{
    device::{count_gpu_path, is_on_gpu},
    gpu::{GpuOps, TANH_CUBIC, TANH_END, TANH_SCALE},
};

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
    if is_on_gpu(&x) {
        return activate_on_gpu(x, activation);
    }
    match activation {
        // Burn's GELUs have NaN or approximate gradients on some devices.
        Activation::Gelu => x.clone() * ((x * FRAC_1_SQRT_2).erf() + 1.0) * 0.5,
        Activation::GeluTanh => {
            let near = x.clone().clamp(-TANH_END, TANH_END);
            let u = (near.clone().square() * TANH_CUBIC + 1.0) * near * TANH_SCALE;
            x * (u.tanh() + 1.0) * 0.5
        }
        Activation::Relu2 => relu(x).square(),
        Activation::Swiglu => {
            let width = even_width(&x);
            let [gate, up] = [0, width / 2].map(|start| x.clone().narrow(D - 1, start, width / 2));
            silu(gate) * up
        }
    }
}

/// [`activate`] with its own backward pass.
pub(crate) fn activate_on_gpu<const D: usize>(x: Tensor<D>, activation: Activation) -> Tensor<D> {
    count_gpu_path();
    let mut shape = x.dims();
    let width = if activation == Activation::Swiglu { even_width(&x) } else { shape[D - 1] };
    shape[D - 1] = width / activation.n_inputs();
    let rows = x.reshape([-1, width.cast_signed()]);
    let y = <Dispatch as GpuOps>::activate(rows.into_dispatch(), activation);
    Tensor::<2>::from_dispatch(y).reshape(shape)
}

/// The last axis of the input of SwiGLU.
fn even_width<const D: usize>(x: &Tensor<D>) -> usize {
    let width = x.dims()[D - 1];
    assert!(width.is_multiple_of(2), "SwiGLU needs an even number of channels (got {width})");
    width
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
