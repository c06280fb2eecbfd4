//! Layer norm and RMS norm.

use burn::{backend::Dispatch, prelude::*};
use cpu::NormKind;

use crate::{device::is_fused, fused::FusedOps, missing::missing};

/// `(x - mean) / √(variance + epsilon) · gain + offset` over the last axis. RMS norm takes the mean as 0.
///
/// # Shapes
///
/// - `x`: `[.., C]`
/// - `gain`, `offset`: `[C]`
/// - output: `[.., C]`
///
/// # Panics
///
/// If `gain` or `offset` is not as long as the last axis of `x`.
pub fn norm<const D: usize>(
    x: Tensor<D>,
    kind: NormKind,
    gain: Tensor<1>,
    offset: Option<Tensor<1>>,
    epsilon: f64,
) -> Tensor<D> {
    let ([channels], width) = (gain.dims(), x.dims()[D - 1]);
    assert_eq!(width, channels, "the input has {width} channels, but the norm takes {channels}");
    if let Some(offset) = &offset {
        assert_eq!(offset.dims(), [channels], "offset and gain differ in length");
    }
    if is_fused(&x) {
        let offset = offset.unwrap_or_else(|| missing(&x.device()));
        let [x, gain, offset] = [x.into_dispatch(), gain.into_dispatch(), offset.into_dispatch()];
        #[expect(clippy::cast_possible_truncation, reason = "tensors are f32")]
        return Tensor::from_dispatch(<Dispatch as FusedOps>::norm(x, gain, offset, kind, epsilon as f32));
    }
    let centred = match kind {
        NormKind::Layer => x.clone() - x.mean_dim(D - 1),
        NormKind::Rms => x,
    };
    let mean_square = centred.clone().square().mean_dim(D - 1);
    let y = centred / (mean_square + epsilon).sqrt() * gain.unsqueeze();
    match offset {
        Some(offset) => y + offset.unsqueeze(),
        None => y,
    }
}
