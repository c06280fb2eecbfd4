//! Layer norm and RMS norm.

use burn::{backend::Dispatch, prelude::*};
use cpu::{NormKind, Precision};

use crate::{
    device::{count_gpu_path, is_fused, is_on_gpu},
    fused::FusedOps,
    gpu::GpuOps,
    missing::missing,
};

/// `(x - mean) / √(variance + epsilon) · gain + offset` over the last axis. RMS norm takes the mean as 0.
///
/// `precision` is that of the products that take the output. On GPUs, the output has the
/// type of operands in that precision if there is no offset.
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
    precision: Precision,
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
    if is_on_gpu(&x) {
        let precision = if offset.is_some() { Precision::F32 } else { precision };
        return with_offset(norm_on_gpu(x, kind, gain, epsilon, precision), offset);
    }
    let centred = match kind {
        NormKind::Layer => x.clone() - x.mean_dim(D - 1),
        NormKind::Rms => x,
    };
    let mean_square = centred.clone().square().mean_dim(D - 1);
    with_offset(centred / (mean_square + epsilon).sqrt() * gain.unsqueeze(), offset)
}

/// [`norm`] without an offset, with its own backward pass.
pub(crate) fn norm_on_gpu<const D: usize>(
    x: Tensor<D>,
    kind: NormKind,
    gain: Tensor<1>,
    epsilon: f64,
    precision: Precision,
) -> Tensor<D> {
    count_gpu_path();
    let shape = x.dims();
    let rows = x.reshape([-1, gain.dims()[0].cast_signed()]);
    let [rows, gain] = [rows.into_dispatch(), gain.into_dispatch()];
    #[expect(clippy::cast_possible_truncation, reason = "tensors are f32")]
    let y = <Dispatch as GpuOps>::norm(rows, gain, kind, epsilon as f32, precision);
    Tensor::<2>::from_dispatch(y).reshape(shape)
}

fn with_offset<const D: usize>(y: Tensor<D>, offset: Option<Tensor<1>>) -> Tensor<D> {
    match offset {
        Some(offset) => y + offset.unsqueeze(),
        None => y,
    }
}
