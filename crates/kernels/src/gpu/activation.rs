//! Activation functions and their derivatives in tensor operations.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use burn::backend::{Backend, TensorMetadata, tensor::FloatTensor};
use cpu::Activation;

use super::primitive::narrow;

/// √(2/π), of the tanh form of GELU.
pub(crate) const TANH_SCALE: f64 = FRAC_2_SQRT_PI * FRAC_1_SQRT_2;

/// The cubic coefficient of the tanh form of GELU.
pub(crate) const TANH_CUBIC: f64 = 0.044_715;

/// From here on, the tanh in GELU is 1 in f32. On some GPUs it is NaN at large values.
pub(crate) const TANH_END: f64 = 8.0;

/// [`crate::activate`] of rows.
pub(super) fn forward<B: Backend>(x: FloatTensor<B>, activation: Activation) -> FloatTensor<B> {
    match activation {
        Activation::Gelu => B::float_mul(x.clone(), normal_cdf::<B>(x)),
        Activation::GeluTanh => {
            let (tanh, _) = tanh_form::<B>(x.clone());
            B::float_mul(x, half_plus_one::<B>(tanh))
        }
        Activation::Relu2 => {
            let positive = B::float_clamp_min(x, 0.0.into());
            B::float_mul(positive.clone(), positive)
        }
        Activation::Swiglu => {
            let [gate, up] = halves::<B>(x);
            B::float_mul(B::float_mul(gate.clone(), sigmoid::<B>(gate)), up)
        }
    }
}

/// The gradient of `x`, given that of [`forward`].
pub(super) fn backward<B: Backend>(
    x: FloatTensor<B>,
    d_y: FloatTensor<B>,
    activation: Activation,
) -> FloatTensor<B> {
    let slope = match activation {
        Activation::Gelu => {
            // Φ(x) + x φ(x)
            let square = B::float_mul(x.clone(), x.clone());
            let density = B::float_exp(B::float_mul_scalar(square, (-0.5).into()));
            let density = B::float_mul_scalar(density, (0.5 * TANH_SCALE).into());
            B::float_add(normal_cdf::<B>(x.clone()), B::float_mul(x, density))
        }
        Activation::GeluTanh => {
            // (1 + t) / 2 + x (1 - t²) u' / 2, where t = tanh(u)
            let (tanh, slope) = tanh_form::<B>(x.clone());
            let square = B::float_mul(tanh.clone(), tanh.clone());
            let rest = B::float_add_scalar(B::float_neg(square), 1.0.into());
            let rest = B::float_mul(B::float_mul(near::<B>(x), rest), slope);
            let rest = B::float_mul_scalar(rest, 0.5.into());
            B::float_add(half_plus_one::<B>(tanh), rest)
        }
        Activation::Relu2 => B::float_mul_scalar(B::float_clamp_min(x, 0.0.into()), 2.0.into()),
        Activation::Swiglu => {
            let [gate, up] = halves::<B>(x);
            let sigmoid = sigmoid::<B>(gate.clone());
            let silu = B::float_mul(gate.clone(), sigmoid.clone());
            // σ (1 + g (1 - σ)) = σ + silu (1 - σ)
            let rest = B::float_add_scalar(B::float_neg(sigmoid.clone()), 1.0.into());
            let slope = B::float_add(sigmoid, B::float_mul(silu.clone(), rest));
            let d_gate = B::float_mul(B::float_mul(d_y.clone(), up), slope);
            return B::float_cat(vec![d_gate, B::float_mul(d_y, silu)], 1);
        }
    };
    B::float_mul(d_y, slope)
}

/// Φ(x), the distribution function of the normal distribution.
fn normal_cdf<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    half_plus_one::<B>(B::float_erf(B::float_mul_scalar(x, FRAC_1_SQRT_2.into())))
}

/// (1 + x) / 2
fn half_plus_one<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::float_add_scalar(B::float_mul_scalar(x, 0.5.into()), 0.5.into())
}

/// The values up to [`TANH_END`] in magnitude.
fn near<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::float_clamp(x, (-TANH_END).into(), TANH_END.into())
}

/// tanh(u) with u = √(2/π) (x + 0.044715 x³), and u'.
fn tanh_form<B: Backend>(x: FloatTensor<B>) -> (FloatTensor<B>, FloatTensor<B>) {
    let x = near::<B>(x);
    let square = B::float_mul(x.clone(), x.clone());
    let polynomial = |cubic: f64| {
        let sum = B::float_add_scalar(B::float_mul_scalar(square.clone(), cubic.into()), 1.0.into());
        B::float_mul_scalar(sum, TANH_SCALE.into())
    };
    let u = B::float_mul(x, polynomial(TANH_CUBIC));
    (B::float_tanh(u), polynomial(3.0 * TANH_CUBIC))
}

/// 1 / (1 + exp(-x))
fn sigmoid<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::float_recip(B::float_add_scalar(B::float_exp(B::float_neg(x)), 1.0.into()))
}

fn halves<B: Backend>(x: FloatTensor<B>) -> [FloatTensor<B>; 2] {
    let half = x.shape()[1] / 2;
    [0, half].map(|start| narrow::<B>(x.clone(), 1, start..start + half))
}
