//! How the values of a tensor lie in GGUF.

/// How a weight of Hugging Face's layout lies in GGUF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    /// As it is.
    AsIs,
    /// The other way round: a `Conv1D` is `[in, out]`, and GGUF has rows of inputs, one for each output.
    Transposed,
    /// With the rows of each head in another order. A rotation turns pairs of rows: in Hugging Face's layout, a row of
    /// the first half of a head and the one as far into the second half; in GGUF's of a Llama, as in Meta's, neighbours.
    Interleaved,
}

impl Stored {
    /// Hugging Face's shape of a tensor of `dims`, which are GGUF's.
    pub(crate) fn shape(self, dims: &[usize]) -> Vec<usize> {
        match self {
            Self::Transposed => dims.to_vec(),
            Self::AsIs | Self::Interleaved => dims.iter().rev().copied().collect(),
        }
    }

    /// Numbers of Hugging Face's layout, of `shape` there, as GGUF has them. Heads are `head_dim` wide.
    ///
    /// # Panics
    ///
    /// If there are fewer numbers than `shape` says, or rows that make no whole heads of an even width.
    pub(crate) fn apply(self, values: Vec<f32>, shape: &[usize], head_dim: usize) -> Vec<f32> {
        match self {
            Self::AsIs => values,
            Self::Transposed => transposed(&values, shape[1]),
            Self::Interleaved => {
                let half = head_dim / 2;
                reordered(&values, shape, head_dim, |row| (row % 2) * half + row / 2)
            }
        }
    }

    /// The opposite of [`apply`](Self::apply): numbers of a GGUF file in the order of Hugging Face's layout, where they
    /// have `shape`.
    ///
    /// # Panics
    ///
    /// As [`apply`](Self::apply).
    pub(crate) fn undo(self, values: Vec<f32>, shape: &[usize], head_dim: usize) -> Vec<f32> {
        match self {
            Self::AsIs => values,
            Self::Transposed => transposed(&values, shape[0]),
            Self::Interleaved => {
                let half = head_dim / 2;
                reordered(&values, shape, head_dim, |row| (row % half) * 2 + row / half)
            }
        }
    }
}

/// A matrix of rows of `n_cols`, column by column.
fn transposed(values: &[f32], n_cols: usize) -> Vec<f32> {
    (0..n_cols).flat_map(|col| values[col..].iter().step_by(n_cols).copied()).collect()
}

/// A matrix whose rows, in each head for itself, are those at `source`.
fn reordered(values: &[f32], shape: &[usize], head_dim: usize, source: impl Fn(usize) -> usize) -> Vec<f32> {
    // A bias has one number a row.
    let [n_rows, n_cols] = [shape[0], shape.get(1).copied().unwrap_or(1)];
    assert!(
        head_dim.is_multiple_of(2) && n_rows.is_multiple_of(head_dim),
        "{n_rows} rows make no heads of {head_dim}"
    );
    let row = |row: usize| {
        let (head, row) = (row / head_dim, row % head_dim);
        &values[(head * head_dim + source(row)) * n_cols..][..n_cols]
    };
    (0..n_rows).flat_map(row).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A matrix whose numbers say their row and column.
    fn numbered([n_rows, n_cols]: [usize; 2]) -> Vec<f32> {
        (0..n_rows).flat_map(|row| (0..n_cols).map(move |col| (10 * row + col) as f32)).collect()
    }

    #[test]
    fn pairs_of_a_rotation_become_neighbours_in_each_head() {
        // Two heads, six wide.
        let shape = [12, 3];
        let values = numbered(shape);
        let stored = Stored::Interleaved.apply(values.clone(), &shape, 6);
        let rows: Vec<f32> = stored.iter().step_by(3).map(|value| value / 10.0).collect();
        assert_eq!(rows, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0, 6.0, 9.0, 7.0, 10.0, 8.0, 11.0]);
        assert_eq!(stored[3..6], [30.0, 31.0, 32.0]);
        assert_eq!(Stored::Interleaved.undo(stored, &shape, 6), values);
        assert_eq!(Stored::Interleaved.shape(&[3, 12]), shape);
        let bias: Vec<f32> = (0_u8..6).map(f32::from).collect();
        let stored = Stored::Interleaved.apply(bias.clone(), &[6], 6);
        assert_eq!(stored, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(Stored::Interleaved.undo(stored, &[6], 6), bias);
    }

    #[test]
    fn a_transposed_matrix_comes_back() {
        let shape = [2, 5];
        let stored = Stored::Transposed.apply(numbered(shape), &shape, 1);
        assert_eq!(stored[..4], [0.0, 10.0, 1.0, 11.0]);
        assert_eq!(Stored::Transposed.undo(stored, &shape, 1), numbered(shape));
        assert_eq!(Stored::Transposed.shape(&[2, 5]), shape);
    }
}
