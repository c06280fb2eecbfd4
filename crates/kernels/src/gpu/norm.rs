//! Layer norm and RMS norm of rows in tensor operations.

use burn::backend::{Backend, TensorMetadata, tensor::FloatTensor};
use cpu::NormKind;

use super::primitive::reshaped;

/// [`crate::norm`] without an offset.
pub(super) fn forward<B: Backend>(
    x: FloatTensor<B>,
    gain: FloatTensor<B>,
    kind: NormKind,
    epsilon: f32,
) -> FloatTensor<B> {
    let (normed, _) = normed::<B>(x, kind, epsilon);
    let width = gain.shape()[0];
    B::float_mul(normed, reshaped::<B, 2>(gain, [1, width]))
}

/// The gradients of the rows and of the gain, given that of [`forward`].
///
/// With n the normed row and e = dy · gain: dx = (e - n · mean(e · n) - mean(e)) / √(variance + ε). RMS norm has no
/// last term.
pub(super) fn backward<B: Backend>(
    x: FloatTensor<B>,
    gain: FloatTensor<B>,
    d_y: FloatTensor<B>,
    kind: NormKind,
    epsilon: f32,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let width = gain.shape()[0];
    let (normed, factor) = normed::<B>(x, kind, epsilon);
    let scaled = B::float_mul(d_y.clone(), reshaped::<B, 2>(gain, [1, width]));
    let along = B::float_mean_dim(B::float_mul(scaled.clone(), normed.clone()), 1);
    let mut d_x = B::float_sub(scaled.clone(), B::float_mul(normed.clone(), along));
    if kind == NormKind::Layer {
        d_x = B::float_sub(d_x, B::float_mean_dim(scaled, 1));
    }
    let d_gain = B::float_sum_dim(B::float_mul(d_y, normed), 0);
    (B::float_mul(d_x, factor), reshaped::<B, 1>(d_gain, [width]))
}

/// Rows with mean square 1, after layer norm has subtracted their mean, and the factor of each row.
fn normed<B: Backend>(x: FloatTensor<B>, kind: NormKind, epsilon: f32) -> (FloatTensor<B>, FloatTensor<B>) {
    let centred = match kind {
        NormKind::Layer => B::float_sub(x.clone(), B::float_mean_dim(x, 1)),
        NormKind::Rms => x,
    };
    let mean_square = B::float_mean_dim(B::float_mul(centred.clone(), centred.clone()), 1);
    let factor = B::float_recip(B::float_sqrt(B::float_add_scalar(mean_square, epsilon.into())));
    (B::float_mul(centred, factor.clone()), factor)
}
