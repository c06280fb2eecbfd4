//! Token and position embeddings.

use burn::{backend::Dispatch, prelude::*};
use cpu::Segment;

use crate::{
    Weight,
    device::{count_gpu_path, is_fused, is_on_gpu},
    dropout::{self, dropout},
    fused::FusedOps,
    gpu::GpuOps,
    indices::index_tensor,
};

/// [`dropout`] of the token embeddings plus, if given, the position embeddings.
///
/// Each sequence of the batch starts at position 0. With `segments`, which must cover the B · T rows, the segments
/// determine the positions: those of an inference step, or of [`Documents`](crate::Documents).
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
/// If a token is beyond the last position, the segments do not cover the rows, the tables differ in width, or, on the
/// CPU, an id is outside the vocabulary.
pub fn embed<'a>(
    ids: Tensor<2, Int>,
    tokens: impl Into<Weight<'a>>,
    positions: Option<Tensor<2>>,
    segments: Option<&[Segment]>,
    dropout_probability: f64,
) -> Tensor<3> {
    let [batch, time] = ids.dims();
    let (ids, tokens) = match tokens.into() {
        Weight::Dense(table) => (ids, table),
        Weight::Blocks(blocks) => {
            // A table of the requested rows, in order.
            let index = |id: i64| usize::try_from(id).expect("an id is not negative");
            let indices: Vec<usize> = ids.to_data().iter::<i64>().map(index).collect();
            let (device, n_rows) = (ids.device(), i64::try_from(indices.len()).unwrap_or(i64::MAX));
            let ids = Tensor::<1, Int>::arange(0..n_rows, &device).reshape([batch, time]);
            (ids, blocks.rows(&indices, &device))
        }
    };
    let [_, channels] = tokens.dims();
    let sequence = [Segment { past: 0, n: time }];
    let (segments, n_times) = segments.map_or((&sequence[..], batch), |segments| (segments, 1));
    if let Some(positions) = &positions {
        let [n_positions, width] = positions.dims();
        let end = segments.iter().map(|segment| segment.positions().end).max().unwrap_or(0);
        assert!(end <= n_positions, "{end} tokens do not fit a block of {n_positions}");
        assert_eq!(channels, width, "token embeddings have {channels} channels, position embeddings {width}");
        let n_rows = n_times * segments.iter().map(|segment| segment.n).sum::<usize>();
        assert_eq!(n_rows, batch * time, "the segments do not cover the rows");
    }
    if is_fused(&tokens) {
        let mask = dropout::mask(&tokens.device(), dropout_probability, time);
        let sequences = (0..n_times).flat_map(|_| segments.iter().flat_map(|segment| segment.positions()));
        let position_ids = positions.is_some().then_some(sequences).into_iter().flatten().collect();
        let positions = positions.unwrap_or_else(|| Tensor::empty([0, channels], &tokens.device()));
        let tables = (tokens.into_dispatch(), positions.into_dispatch());
        let y = <Dispatch as FusedOps>::embed(tables.0, tables.1, ids.into_dispatch(), position_ids, mask);
        return Tensor::from_dispatch(y);
    }
    let ids = ids.reshape([batch * time]);
    let mut x = select(tokens, ids).reshape([batch, time, channels]);
    if let Some(positions) = positions {
        let rows = match segments {
            [segment] => positions.slice(s![segment.positions(), ..]),
            segments => {
                let ids = segments.iter().flat_map(|segment| segment.positions());
                let ids = index_tensor(ids, &positions.device());
                select(positions, ids)
            }
        };
        // Without segments, all sequences share the positions of one.
        let [n_rows, _] = rows.dims();
        x = x + rows.reshape([n_rows / time.max(1), time, channels]);
    }
    dropout(x, dropout_probability)
}

fn select(table: Tensor<2>, ids: Tensor<1, Int>) -> Tensor<2> {
    if is_on_gpu(&table) { rows_on_gpu(table, ids) } else { table.select(0, ids) }
}

/// `table.select(0, ids)`, with another algorithm for the gradient.
pub(crate) fn rows_on_gpu(table: Tensor<2>, ids: Tensor<1, Int>) -> Tensor<2> {
    count_gpu_path();
    Tensor::from_dispatch(<Dispatch as GpuOps>::rows(table.into_dispatch(), ids.into_dispatch()))
}
