//! Packs examples, or pairs of them, into rows of a block, with little padding.

use std::{cmp::Reverse, collections::BTreeMap};

use crate::{Error, Examples, Result};

/// Examples that share a row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Row {
    /// Indices of the examples, in the order of the row.
    pub(crate) examples: Vec<usize>,
    /// Positions that they take together.
    pub(crate) len: usize,
    /// Their trained tokens.
    pub(crate) n_trained: usize,
}

/// The examples that stay together in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    One,
    /// Examples 0 and 1, 2 and 3, and so on.
    Pair,
}

impl Group {
    fn size(self) -> usize {
        match self {
            Self::One => 1,
            Self::Pair => 2,
        }
    }
}

/// Positions that an example of `n_tokens` takes: each token but the last is an input.
pub(crate) fn n_positions(n_tokens: usize) -> usize {
    n_tokens - 1
}

/// Packs by best fit, longest groups first: each into the fullest row that has room. At most 11/9 of the fewest rows
/// possible ([Johnson, 1973](https://dspace.mit.edu/handle/1721.1/57819)).
///
/// # Errors
///
/// If a group takes more than `block_size` positions.
///
/// # Panics
///
/// If the last group is not whole.
pub(crate) fn pack(examples: &Examples, group: Group, block_size: usize) -> Result<Vec<Row>> {
    let size = group.size();
    assert!(examples.len().is_multiple_of(size), "{} examples are not groups of {size}", examples.len());
    let of_group = |idx: usize| (size * idx..size * (idx + 1)).map(|idx| examples.get(idx));
    let len = |idx: usize| of_group(idx).map(|example| n_positions(example.ids.len())).sum::<usize>();
    let mut by_length: Vec<usize> = (0..examples.len() / size).collect();
    by_length.sort_by_key(|&idx| Reverse(len(idx))); // Stable: the result depends on the examples only.
    if let Some(&longest) = by_length.first()
        && len(longest) > block_size
    {
        return Err(Error::LongExample { idx: longest, n_tokens: len(longest) + size, block_size });
    }
    let mut rows: Vec<Row> = Vec::new();
    // Rows by their room.
    let mut open: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for idx in by_length {
        let n = len(idx);
        let fullest = open.range_mut(n..).next().and_then(|(&room, rows)| Some((room, rows.pop()?)));
        let (room, row) = fullest.unwrap_or_else(|| {
            rows.push(Row::default());
            (block_size, rows.len() - 1)
        });
        if open.get(&room).is_some_and(Vec::is_empty) {
            open.remove(&room);
        }
        open.entry(room - n).or_default().push(row);
        rows[row].examples.extend(size * idx..size * (idx + 1));
        rows[row].len += n;
        rows[row].n_trained += of_group(idx).map(|example| example.n_trained()).sum::<usize>();
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Example;

    fn of_lengths(lengths: &[usize]) -> Examples {
        let mut examples = Examples::default();
        for &n in lengths {
            examples.push(Example { ids: &vec![0; n + 1], trained: &vec![true; n + 1] });
        }
        examples
    }

    #[test]
    fn each_example_goes_into_the_fullest_row_with_room() {
        let rows = pack(&of_lengths(&[3, 7, 2, 5, 3]), Group::One, 10).unwrap();
        let found: Vec<_> = rows.iter().map(|row| (&row.examples[..], row.len, row.n_trained)).collect();
        assert_eq!(found, [(&[1, 0][..], 10, 10), (&[3, 4, 2], 10, 10)]);
    }

    #[test]
    fn pairs_stay_together() {
        let rows = pack(&of_lengths(&[1, 3, 4, 4, 2, 3]), Group::Pair, 10).unwrap();
        let found: Vec<_> = rows.iter().map(|row| (&row.examples[..], row.len, row.n_trained)).collect();
        assert_eq!(found, [(&[2, 3][..], 8, 8), (&[4, 5, 0, 1], 9, 9)]);
        let error = pack(&of_lengths(&[1, 3, 4, 4]), Group::Pair, 7).unwrap_err();
        assert!(matches!(error, Error::LongExample { idx: 1, n_tokens: 10, block_size: 7 }), "{error}");
    }

    #[test]
    fn an_example_longer_than_a_block_is_an_error() {
        let error = pack(&of_lengths(&[4, 11]), Group::One, 10).unwrap_err();
        assert!(matches!(error, Error::LongExample { idx: 1, n_tokens: 12, block_size: 10 }), "{error}");
    }

    proptest! {
        #[test]
        fn every_example_is_packed_once_and_rows_are_filled(lengths in prop::collection::vec(1_usize..=20, 1..80)) {
            let rows = pack(&of_lengths(&lengths), Group::One, 20).unwrap();
            let mut packed: Vec<usize> = rows.iter().flat_map(|row| row.examples.clone()).collect();
            packed.sort_unstable();
            prop_assert!(packed.iter().copied().eq(0..lengths.len()));
            for row in &rows {
                prop_assert_eq!(row.len, row.examples.iter().map(|&idx| lengths[idx]).sum::<usize>());
                prop_assert!(row.len <= 20);
            }
            let fewest = lengths.iter().sum::<usize>().div_ceil(20);
            // The bound holds against the best packing; two half-full rows would have been joined.
            prop_assert!(rows.len() <= 2 * fewest);
        }
    }
}
