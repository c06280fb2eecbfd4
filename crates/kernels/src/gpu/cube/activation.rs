//! Activation functions and their derivatives.

use burn::{backend::TensorMetadata, prelude::Shape};
use burn_cubecl::tensor::CubeTensor;
use cpu::{Activation, Precision};
use cubecl::prelude::*;

use super::launch::{Geometry, contiguous, element, empty, empty_operand};
use crate::gpu::activation::{TANH_CUBIC, TANH_END, TANH_SCALE};

/// An activation as a compile-time argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Gelu,
    GeluTanh,
    Relu2,
    Swiglu,
}

impl From<Activation> for Kind {
    fn from(activation: Activation) -> Self {
        match activation {
            Activation::Gelu => Self::Gelu,
            Activation::GeluTanh => Self::GeluTanh,
            Activation::Relu2 => Self::Relu2,
            Activation::Swiglu => Self::Swiglu,
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "kernels compute in f32")]
const TANH: [f32; 3] = [TANH_SCALE as f32, TANH_CUBIC as f32, TANH_END as f32];

/// The activation of `x`, and its derivative there; of the gate for SwiGLU.
#[cube]
fn value_and_slope(x: f32, #[comptime] kind: Kind) -> (f32, f32) {
    let one = f32::new(1.0);
    let half = f32::new(0.5);
    if comptime!(kind == Kind::Gelu) {
        // x Φ(x), and Φ(x) + x φ(x).
        let cdf = half * (one + Erf::erf(x * f32::new(std::f32::consts::FRAC_1_SQRT_2)));
        let density = f32::new(comptime!(0.5 * TANH[0])) * (x * x * f32::new(-0.5)).exp();
        (x * cdf, cdf + x * density)
    } else if comptime!(kind == Kind::GeluTanh) {
        let end = f32::new(comptime!(TANH[2]));
        let near = max(-end, min(end, x));
        let square = near * near;
        let scale = f32::new(comptime!(TANH[0]));
        let tanh = (scale * near * (one + f32::new(comptime!(TANH[1])) * square)).tanh();
        let slope = scale * (one + f32::new(comptime!(3.0 * TANH[1])) * square);
        (half * x * (one + tanh), half * (one + tanh) + half * near * (one - tanh * tanh) * slope)
    } else if comptime!(kind == Kind::Relu2) {
        let positive = max(x, f32::new(0.0));
        (positive * positive, positive + positive)
    } else {
        let sigmoid = one / (one + (-x).exp());
        (x * sigmoid, sigmoid * (one + x * (one - sigmoid)))
    }
}

/// A unit for each output.
#[cube(launch)]
fn rows_kernel<I: Float, O: Float>(
    x: &[I],
    y: &mut [O],
    n: usize,
    width: usize,
    #[comptime] kind: Kind,
    #[define(I, O)] _types: [ElemType; 2],
) {
    let at = ABSOLUTE_POS;
    if at < n {
        if comptime!(kind == Kind::Swiglu) {
            let gate = at / width * 2 * width + at % width;
            let (silu, _) = value_and_slope(f32::cast_from(x[gate]), kind);
            y[at] = O::cast_from(silu * f32::cast_from(x[gate + width]));
        } else {
            let (value, _) = value_and_slope(f32::cast_from(x[at]), kind);
            y[at] = O::cast_from(value);
        }
    }
}

/// A unit for each output of the forward pass.
#[cube(launch)]
fn gradient_kernel<I: Float, O: Float>(
    x: &[I],
    d_y: &[O],
    d_x: &mut [I],
    n: usize,
    width: usize,
    #[comptime] kind: Kind,
    #[define(I, O)] _types: [ElemType; 2],
) {
    let at = ABSOLUTE_POS;
    if at < n {
        let d = f32::cast_from(d_y[at]);
        if comptime!(kind == Kind::Swiglu) {
            let gate = at / width * 2 * width + at % width;
            let (silu, slope) = value_and_slope(f32::cast_from(x[gate]), kind);
            d_x[gate] = I::cast_from(d * slope * f32::cast_from(x[gate + width]));
            d_x[gate + width] = I::cast_from(d * silu);
        } else {
            let (_, slope) = value_and_slope(f32::cast_from(x[at]), kind);
            d_x[at] = I::cast_from(d * slope);
        }
    }
}

pub(super) fn rows(x: CubeTensor, activation: Activation, precision: Precision) -> CubeTensor {
    let x = contiguous(x);
    let [n_rows, n_inputs] = x.shape().dims();
    let width = n_inputs / activation.n_inputs();
    let y = empty_operand(&x, Shape::new([n_rows, width]), precision);
    let n = n_rows * width;
    let Geometry { cubes, cube, .. } = Geometry::elements(n);
    let (client, types) = (x.client.clone(), [element(&x), element(&y)]);
    rows_kernel::launch(
        &client,
        cubes,
        cube,
        x.into_buffer_arg(),
        y.clone().into_buffer_arg(),
        n,
        width,
        activation.into(),
        types,
    );
    y
}

pub(super) fn gradient(x: CubeTensor, d_y: CubeTensor, activation: Activation) -> CubeTensor {
    let [x, d_y] = [x, d_y].map(contiguous);
    let [n_rows, width] = d_y.shape().dims();
    let d_x = empty(&x, x.shape(), x.dtype());
    let n = n_rows * width;
    let Geometry { cubes, cube, .. } = Geometry::elements(n);
    let (client, types) = (x.client.clone(), [element(&x), element(&d_y)]);
    gradient_kernel::launch(
        &client,
        cubes,
        cube,
        x.into_buffer_arg(),
        d_y.into_buffer_arg(),
        d_x.clone().into_buffer_arg(),
        n,
        width,
        activation.into(),
        types,
    );
    d_x
}
