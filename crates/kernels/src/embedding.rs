//! Tokens and positions as vectors.

use burn::{backend::Dispatch, prelude::*};

use crate::{
    device::{count_gpu_path, is_fused, is_on_gpu},
    dropout::{self, dropout},
    fused::FusedOps,
    gpu::GpuOps,
};

/// [`dropout`] of the sum of each token's embedding and its position's, where positions have one; the first token is
/// at position `first`.
///
/// # Shapes
///
/// - `ids`: `[B, T]`, each below V
/// - `tokens`: `[V, C]`
/// - `positions`: `[block, C]`
/// - output: `[B, T, C]`
///
/// # Panics
///
/// If there are fewer than `first` + T positions, the tables are not of one width, or, on the CPU, an id is none of
/// the vocabulary.
pub fn embed(
    ids: Tensor<2, Int>,
    tokens: Tensor<2>,
    positions: Option<Tensor<2>>,
    first: usize,
    dropout_probability: f64,
) -> Tensor<3> {
    let ([batch, time], [_, channels]) = (ids.dims(), tokens.dims());
    if let Some(positions) = &positions {
        let [n_positions, width] = positions.dims();
        assert!(first + time <= n_positions, "{} tokens do not fit a block of {n_positions}", first + time);
        assert_eq!(channels, width, "tokens are {channels} wide and positions {width}");
    }
    if is_fused(&tokens) {
        let mask = dropout::mask(&tokens.device(), dropout_probability);
        let positions = positions.unwrap_or_else(|| Tensor::empty([0, channels], &tokens.device()));
        let tables = (tokens.into_dispatch(), positions.into_dispatch());
        let y = <Dispatch as FusedOps>::embed(tables.0, tables.1, ids.into_dispatch(), first, mask);
        return Tensor::from_dispatch(y);
    }
    let ids = ids.reshape([batch * time]);
    let rows = if is_on_gpu(&tokens) { rows_on_gpu(tokens, ids) } else { tokens.select(0, ids) };
    let mut x = rows.reshape([batch, time, channels]);
    if let Some(positions) = positions {
        x = x + positions.slice(s![first..first + time, ..]).unsqueeze();
    }
    dropout(x, dropout_probability)
}

/// `table.select(0, ids)`, whose gradient is not.
pub(crate) fn rows_on_gpu(table: Tensor<2>, ids: Tensor<1, Int>) -> Tensor<2> {
    count_gpu_path();
    Tensor::from_dispatch(<Dispatch as GpuOps>::rows(table.into_dispatch(), ids.into_dispatch()))
}
