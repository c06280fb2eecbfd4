//! Layer norm.

use burn::{backend::Dispatch, prelude::*};

use crate::{device::is_fused, fused::FusedOps};

/// `(x - mean) / √(variance + epsilon) · gain + offset` over the last axis
/// ([Ba et al., 2016](https://arxiv.org/abs/1607.06450)).
///
/// # Shapes
///
/// - `x`: `[.., C]`
/// - `gain`, `offset`: `[C]`
/// - output: `[.., C]`
///
/// # Panics
///
/// If the last axis of `x` is not as long as `gain`.
pub fn layer_norm<const D: usize>(
    x: Tensor<D>,
    gain: Tensor<1>,
    offset: Option<Tensor<1>>,
    epsilon: f64,
) -> Tensor<D> {
    let ([channels], width) = (gain.dims(), x.dims()[D - 1]);
    assert_eq!(width, channels, "the input is {width} wide and the norm {channels}");
    if let Some(offset) = &offset {
        assert_eq!(offset.dims(), [channels], "the offset is not as long as the gain");
    }
    if is_fused(&x) {
        let offset = offset.unwrap_or_else(|| Tensor::empty([0], &x.device()));
        let [x, gain, offset] = [x.into_dispatch(), gain.into_dispatch(), offset.into_dispatch()];
        #[expect(clippy::cast_possible_truncation, reason = "tensors are f32")]
        return Tensor::from_dispatch(<Dispatch as FusedOps>::layer_norm(x, gain, offset, epsilon as f32));
    }
    let centred = x.clone() - x.mean_dim(D - 1);
    let variance = centred.clone().square().mean_dim(D - 1);
    let y = centred / (variance + epsilon).sqrt() * gain.unsqueeze();
    match offset {
        Some(offset) => y + offset.unsqueeze(),
        None => y,
    }
}
