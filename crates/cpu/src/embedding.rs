//! Token and position embeddings.

use super::{
    dropout::Mask,
    parallel::{self, Shared},
    simd_level::SimdLevel,
};

/// Columns of a gradient per task.
const COLS: usize = 64;

/// `dropout(tokens[id] + positions[position_id])` for each row, `[N, C]`. If `position_ids` is empty, no position is
/// added.
pub fn forward(
    level: SimdLevel,
    tokens: &[f32],
    positions: &[f32],
    width: usize,
    ids: &[usize],
    position_ids: &[usize],
    mask: Option<Mask>,
) -> Vec<f32> {
    parallel::fill(ids.len() * width, width, 1, |range, out| {
        let first = range.start / width;
        level.vectorize(
            #[inline(always)]
            || {
                for ((row, id), out) in (first..).zip(&ids[first..]).zip(out.chunks_exact_mut(width)) {
                    out.copy_from_slice(&tokens[id * width..][..width]);
                    if let Some(id) = position_ids.get(row) {
                        let position = &positions[id * width..][..width];
                        out.iter_mut().zip(position).for_each(|(out, position)| *out += position);
                    }
                    if let Some(mask) = mask {
                        mask.apply(row as u64, out);
                    }
                }
            },
        );
    })
}

/// Adds row i of `d_rows` to row `index(i)` of a zero matrix `[n, width]`.
pub fn scatter(
    level: SimdLevel,
    n: usize,
    width: usize,
    d_rows: &[f32],
    index: impl Fn(usize) -> usize + Sync,
) -> Vec<f32> {
    let mut sums = vec![0.0; n * width];
    let shared = Shared::new(&mut sums);
    // Split by columns, so that tasks write disjoint parts and each sum has a fixed order.
    parallel::pieces(width, COLS.min(width), d_rows.len() / width, |cols| {
        for (idx, d_row) in d_rows.chunks_exact(width).enumerate() {
            let start = index(idx) * width;
            // SAFETY: pieces have disjoint columns.
            let sums = unsafe { shared.part(start + cols.start..start + cols.end) };
            level.vectorize(
                #[inline(always)]
                || {
                    for (sum, d) in sums.iter_mut().zip(&d_row[cols.clone()]) {
                        *sum += d;
                    }
                },
            );
        }
    });
    sums
}
