//! Tokens and positions as vectors.

use burn::{backend::Dispatch, prelude::*};

use crate::{
    device::is_fused,
    dropout::{self, dropout},
    fused::FusedOps,
};

/// [`dropout`] of the sum of each token's embedding and its position's; the first token is at position
/// `first`.
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
/// If there are fewer than `first` + T positions.
pub fn embed(
    ids: Tensor<2, Int>,
    tokens: Tensor<2>,
    positions: Tensor<2>,
    first: usize,
    dropout_probability: f64,
) -> Tensor<3> {
    let ([batch, time], [n_positions, channels]) = (ids.dims(), positions.dims());
    assert!(first + time <= n_positions, "{} tokens do not fit a block of {n_positions}", first + time);
    let [_, width] = tokens.dims();
    assert_eq!(width, channels, "tokens are {width} wide and positions {channels}");
    if is_fused(&tokens) {
        let mask = dropout::mask(&tokens.device(), dropout_probability);
        let tables = (tokens.into_dispatch(), positions.into_dispatch());
        let y = <Dispatch as FusedOps>::embed(tables.0, tables.1, ids.into_dispatch(), first, mask);
        return Tensor::from_dispatch(y);
    }
    let tokens = tokens.select(0, ids.reshape([batch * time])).reshape([batch, time, channels]);
    let positions = positions.slice(s![first..first + time, ..]); // [T, C]
    dropout(tokens + positions.unsqueeze(), dropout_probability)
}
