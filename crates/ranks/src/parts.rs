//! Which rank owns which elements of a vector.

use std::{ops::Range, sync::Arc};

/// A partition of a vector: each element belongs to one rank. A rank may own several ranges, or none. Clones are cheap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts(Arc<Inner>);

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    len: usize,
    /// By rank.
    ranges: Vec<Vec<Range<usize>>>,
    /// Offset of each rank's elements in owner order, and the total length.
    offsets: Vec<usize>,
    /// Whether the ranges, one rank after the other, ascend.
    is_in_order: bool,
}

impl Parts {
    /// Nearly equal parts, one range for each rank.
    #[expect(clippy::single_range_in_vec_init, reason = "each rank owns one range")]
    pub fn equal(len: usize, n_ranks: usize) -> Self {
        let bound = |rank: usize| {
            let (quotient, remainder) = (len / n_ranks, len % n_ranks);
            rank * quotient + rank.min(remainder)
        };
        Self::new(len, (0..n_ranks).map(|rank| vec![bound(rank)..bound(rank + 1)]).collect())
    }

    /// The ranges that each rank owns.
    ///
    /// # Panics
    ///
    /// If the ranges are not a partition of `0..len`.
    pub fn new(len: usize, ranges: Vec<Vec<Range<usize>>>) -> Self {
        let all: Vec<Range<usize>> =
            ranges.iter().flatten().filter(|range| !range.is_empty()).cloned().collect();
        let is_in_order = all.is_sorted_by_key(|range| range.start);
        let mut sorted = all;
        sorted.sort_by_key(|range| range.start);
        let end = sorted.iter().try_fold(0, |end, range| (range.start == end).then_some(range.end));
        assert_eq!(end, Some(len), "the ranges are not a partition of 0..{len}: {ranges:?}");

        let mut offsets = vec![0];
        for owned in &ranges {
            offsets
                .push(offsets[offsets.len() - 1] + owned.iter().map(ExactSizeIterator::len).sum::<usize>());
        }
        Self(Arc::new(Inner { len, ranges, offsets, is_in_order }))
    }

    /// The length of the vector.
    pub fn len(&self) -> usize {
        self.0.len
    }

    /// Whether the vector has no elements.
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }

    /// The number of ranks.
    pub fn n_ranks(&self) -> usize {
        self.0.ranges.len()
    }

    /// The ranges that `rank` owns, in the order in which their elements are returned.
    pub fn owned(&self, rank: usize) -> &[Range<usize>] {
        &self.0.ranges[rank]
    }

    /// Consecutive parts of the vector with at most `len_max` elements each, and the owners of these elements.
    ///
    /// # Panics
    ///
    /// If `len_max` is 0.
    pub fn split(&self, len_max: usize) -> impl Iterator<Item = (Range<usize>, Self)> {
        (0..self.len()).step_by(len_max).map(move |start| {
            let part = start..self.len().min(start + len_max);
            let within = |range: &Range<usize>| {
                let (from, to) = (range.start.max(part.start), range.end.min(part.end));
                (from < to).then(|| from - start..to - start)
            };
            let ranges = self.0.ranges.iter().map(|owned| owned.iter().filter_map(within).collect());
            let parts = Self::new(part.len(), ranges.collect());
            (part, parts)
        })
    }

    /// The number of elements of the rank that owns most.
    #[cfg(any(test, feature = "mpi"))]
    pub(crate) fn largest(&self) -> usize {
        self.0.offsets.windows(2).map(|bounds| bounds[1] - bounds[0]).max().unwrap_or(0)
    }

    /// Where the elements of `rank` are in owner order.
    pub(crate) fn packed(&self, rank: usize) -> Range<usize> {
        self.0.offsets[rank]..self.0.offsets[rank + 1]
    }

    /// Sorts elements by owner.
    pub(crate) fn pack(&self, values: Vec<f32>) -> Vec<f32> {
        assert_eq!(values.len(), self.len(), "the vector and its parts differ in length");
        if self.0.is_in_order {
            return values;
        }
        let ranges = self.0.ranges.iter().flatten();
        ranges.flat_map(|range| &values[range.clone()]).copied().collect()
    }

    /// Undoes [`Self::pack`].
    pub(crate) fn unpack(&self, packed: Vec<f32>) -> Vec<f32> {
        assert_eq!(packed.len(), self.len(), "the vector and its parts differ in length");
        if self.0.is_in_order {
            return packed;
        }
        let mut values = vec![0.0; packed.len()];
        let mut start = 0;
        for range in self.0.ranges.iter().flatten() {
            values[range.clone()].copy_from_slice(&packed[start..start + range.len()]);
            start += range.len();
        }
        values
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "a rank with one range")]
mod tests {
    use super::*;

    #[test]
    fn equal_parts_differ_by_one_element_at_most() {
        let parts = Parts::equal(8, 3);
        assert_eq!([0, 1, 2].map(|rank| parts.owned(rank)), [[0..3], [3..6], [6..8]]);
        assert!(Parts::equal(1, 3).owned(2)[0].is_empty());
        assert!(Parts::equal(0, 3).is_empty());
    }

    #[test]
    fn unpacking_undoes_packing() {
        let parts = Parts::new(6, vec![vec![4..6, 0..1], vec![], vec![1..4]]);
        let values: Vec<f32> = (0..6u8).map(f32::from).collect();
        let packed = parts.pack(values.clone());
        assert_eq!(packed, [4.0, 5.0, 0.0, 1.0, 2.0, 3.0]);
        assert_eq!([0, 1, 2].map(|rank| parts.packed(rank)), [0..3, 3..3, 3..6]);
        assert_eq!(parts.unpack(packed), values);
    }

    #[test]
    fn splitting_keeps_the_owner_of_each_element() {
        let parts = Parts::new(7, vec![vec![5..7, 0..1], vec![], vec![1..5]]);
        assert_eq!(parts.largest(), 4);
        let split: Vec<_> = parts.split(3).collect();
        assert_eq!(split.iter().map(|(range, _)| range.clone()).collect::<Vec<_>>(), [0..3, 3..6, 6..7]);
        for (range, part) in split {
            for rank in 0..3 {
                let owned = part.owned(rank).iter().cloned().flatten().map(|idx| range.start + idx);
                let expected = parts.owned(rank).iter().cloned().flatten().filter(|idx| range.contains(idx));
                assert!(owned.eq(expected), "rank {rank}");
            }
        }
        assert_eq!(Parts::equal(0, 2).split(3).count(), 0);
    }

    #[test]
    #[should_panic(expected = "not a partition of 0..4")]
    fn overlapping_ranges_are_refused() {
        Parts::new(4, vec![vec![0..3], vec![2..4]]);
    }

    #[test]
    #[should_panic(expected = "not a partition of 0..4")]
    fn a_gap_is_refused() {
        Parts::new(4, vec![vec![0..1], vec![2..4]]);
    }
}
