//! The layout of tensors in GGUF.

use bytes::Bytes;

/// The layout of a weight in GGUF, relative to Hugging Face.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    AsIs,
    /// Transposed: GPT-2's `Conv1D` is `[in, out]`, GGUF `[out, in]` (both outermost first).
    Transposed,
    /// The rows of each head are reordered. RoPE rotates pairs of rows: in Hugging Face layout, row `i` of a head and
    /// row `i + D/2`; in GGUF files of a Llama, as in Meta's, rows `2i` and `2i + 1`.
    Interleaved,
}

impl Stored {
    /// The Hugging Face shape of a tensor of `dims`, in GGUF's order.
    pub(crate) fn shape(self, dims: &[usize]) -> Vec<usize> {
        match self {
            Self::Transposed => dims.to_vec(),
            Self::AsIs | Self::Interleaved => dims.iter().rev().copied().collect(),
        }
    }

    /// Converts values from Hugging Face to GGUF layout. `shape` is the Hugging Face shape.
    ///
    /// # Panics
    ///
    /// If there are too few values for `shape`, `head_dim` is odd, or the rows do not divide into heads.
    pub(crate) fn apply(self, values: Vec<f32>, shape: &[usize], head_dim: usize) -> Vec<f32> {
        match self {
            Self::AsIs => values,
            Self::Transposed => transposed(&values, shape[1]),
            Self::Interleaved => {
                let half = head_dim / 2;
                reordered(&values, shape[0], head_dim, |row| (row % 2) * half + row / 2)
            }
        }
    }

    /// Converts values from GGUF to Hugging Face layout. `shape` is the Hugging Face shape.
    ///
    /// # Panics
    ///
    /// As [`apply`](Self::apply).
    pub(crate) fn undo(self, values: Vec<f32>, shape: &[usize], head_dim: usize) -> Vec<f32> {
        match self {
            Self::AsIs => values,
            Self::Transposed => transposed(&values, shape[0]),
            Self::Interleaved => uninterleaved(&values, shape[0], head_dim),
        }
    }

    /// Converts encoded rows from GGUF to Hugging Face order, without transposing. Returns whether they are the
    /// transpose of the Hugging Face shape.
    ///
    /// # Panics
    ///
    /// As [`apply`](Self::apply).
    pub(crate) fn undo_rows(self, rows: &Bytes, shape: &[usize], head_dim: usize) -> (Bytes, bool) {
        match self {
            Self::AsIs => (rows.clone(), false),
            Self::Transposed => (rows.clone(), true),
            Self::Interleaved => (uninterleaved(rows, shape[0], head_dim).into(), false),
        }
    }
}

/// Transposes a row-major matrix of `n_cols` columns.
fn transposed(values: &[f32], n_cols: usize) -> Vec<f32> {
    (0..n_cols).flat_map(|col| values[col..].iter().step_by(n_cols).copied()).collect()
}

/// The rows of each head with pairs half a head apart, given adjacent pairs.
fn uninterleaved<T: Copy>(values: &[T], n_rows: usize, head_dim: usize) -> Vec<T> {
    let half = head_dim / 2;
    reordered(values, n_rows, head_dim, |row| (row % half) * 2 + row / half)
}

/// Reorders the rows within each head: row `i` of the result is row `source(i)`.
fn reordered<T: Copy>(
    values: &[T],
    n_rows: usize,
    head_dim: usize,
    source: impl Fn(usize) -> usize,
) -> Vec<T> {
    assert!(
        head_dim.is_multiple_of(2) && n_rows.is_multiple_of(head_dim),
        "{n_rows} rows do not divide into heads of {head_dim}"
    );
    let width = values.len() / n_rows.max(1); // Of a bias: 1.
    let mut reordered = Vec::with_capacity(values.len());
    for row in 0..n_rows {
        let (head, row) = (row / head_dim, row % head_dim);
        reordered.extend_from_slice(&values[(head * head_dim + source(row)) * width..][..width]);
    }
    reordered
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A matrix whose values encode their row and column.
    fn numbered([n_rows, n_cols]: [usize; 2]) -> Vec<f32> {
        (0..n_rows).flat_map(|row| (0..n_cols).map(move |col| (10 * row + col) as f32)).collect()
    }

    #[test]
    fn rope_pairs_become_adjacent_rows() {
        // Two heads of size 6.
        let shape = [12, 3];
        let values = numbered(shape);
        let stored = Stored::Interleaved.apply(values.clone(), &shape, 6);
        let rows: Vec<f32> = stored.iter().step_by(3).map(|value| value / 10.0).collect();
        assert_eq!(rows, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0, 6.0, 9.0, 7.0, 10.0, 8.0, 11.0]);
        assert_eq!(stored[3..6], [30.0, 31.0, 32.0]);
        assert_eq!(Stored::Interleaved.undo(stored, &shape, 6), values);
        assert_eq!(Stored::Interleaved.shape(&[3, 12]), shape);
        let bytes = Bytes::from((0..12).flat_map(|row| [row; 5]).collect::<Vec<u8>>());
        let (rows, is_transposed) = Stored::Interleaved.undo_rows(&bytes, &shape, 6);
        let order: Vec<u8> = rows.iter().step_by(5).copied().collect();
        assert_eq!(order, [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]);
        assert!(!is_transposed);
        let bias: Vec<f32> = (0_u8..6).map(f32::from).collect();
        let stored = Stored::Interleaved.apply(bias.clone(), &[6], 6);
        assert_eq!(stored, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(Stored::Interleaved.undo(stored, &[6], 6), bias);
    }

    #[test]
    fn transposition_survives_the_round_trip() {
        let shape = [2, 5];
        let stored = Stored::Transposed.apply(numbered(shape), &shape, 1);
        assert_eq!(stored[..4], [0.0, 10.0, 1.0, 11.0]);
        assert_eq!(Stored::Transposed.undo(stored, &shape, 1), numbered(shape));
        assert_eq!(Stored::Transposed.shape(&[2, 5]), shape);
    }
}
