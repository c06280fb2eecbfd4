//! Documents packed into the rows of a training batch.

use std::{ops::Range, sync::Arc};

use super::segments::Segment;

/// Documents packed one after another into rows of T positions. Attention does not cross documents, and positions
/// restart at 0 in each. Clones share the lengths.
///
/// ```
/// let documents = cpu::Documents::new(&[3, 2, 5], 5);
/// assert_eq!(documents.dims(), [2, 5]);
/// assert!(documents.positions().eq([0, 1, 2, 0, 1, 0, 1, 2, 3, 4]));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Documents {
    time: usize,
    /// One per document.
    segments: Arc<[Segment]>,
}

/// A document and its place in the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Document {
    /// Row of the batch.
    pub(crate) batch: usize,
    /// First position in the row.
    pub(crate) start: usize,
    pub(crate) n: usize,
}

impl Document {
    /// The positions in the row.
    fn range(self) -> Range<usize> {
        self.start..self.start + self.n
    }
}

impl Documents {
    /// Documents with these lengths, in the order of the rows. The padding at the end of a row is a document too.
    ///
    /// # Panics
    ///
    /// If a document is empty, or the documents do not fill whole rows of `time` positions.
    pub fn new(lengths: &[usize], time: usize) -> Self {
        let mut end = 0;
        for (idx, &n) in lengths.iter().enumerate() {
            assert!(n > 0, "document {idx} is empty");
            end += n;
            assert!(end <= time, "document {idx} of {n} positions ends at {end} of a row of {time}");
            end %= time;
        }
        assert_eq!(end, 0, "the last row of documents ends at {end} of {time} positions");
        Self { time, segments: lengths.iter().map(|&n| Segment { past: 0, n }).collect() }
    }

    /// The rows B and their positions T.
    pub fn dims(&self) -> [usize; 2] {
        [self.segments.iter().map(|segment| segment.n).sum::<usize>() / self.time.max(1), self.time]
    }

    /// The documents in the order of the rows, each with a past of 0.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The length of the longest document.
    pub fn longest(&self) -> usize {
        self.segments.iter().map(|segment| segment.n).max().unwrap_or(0)
    }

    /// The position of each token in its document, B · T.
    pub fn positions(&self) -> impl Iterator<Item = usize> {
        self.segments.iter().flat_map(|segment| segment.positions())
    }

    /// The first position of each token's document in its row, B · T.
    pub fn starts(&self) -> impl Iterator<Item = usize> {
        self.iter().flat_map(|document| document.range().map(move |_| document.start))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Document> {
        self.segments.iter().scan(0, |next, &Segment { n, .. }| {
            let first = *next;
            *next += n;
            Some(Document { batch: first / self.time, start: first % self.time, n })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_have_a_row_and_a_start() {
        let documents = Documents::new(&[4, 1, 2, 3], 5);
        assert_eq!(documents.dims(), [2, 5]);
        assert_eq!(documents.longest(), 4);
        assert!(documents.starts().eq([0, 0, 0, 0, 4, 0, 0, 2, 2, 2]));
        assert!(documents.positions().eq([0, 1, 2, 3, 0, 0, 1, 0, 1, 2]));
        let last = Document { batch: 1, start: 2, n: 3 };
        assert_eq!(documents.iter().last(), Some(last));
        assert_eq!(Documents::new(&[], 5).dims(), [0, 5]);
    }

    #[test]
    #[should_panic(expected = "document 1 of 3 positions ends at 6 of a row of 5")]
    fn a_document_across_rows_is_refused() {
        Documents::new(&[3, 3, 4], 5);
    }

    #[test]
    #[should_panic(expected = "the last row of documents ends at 3 of 5 positions")]
    fn an_unfilled_row_is_refused() {
        Documents::new(&[5, 3], 5);
    }

    #[test]
    #[should_panic(expected = "document 1 is empty")]
    fn an_empty_document_is_refused() {
        Documents::new(&[5, 0], 5);
    }
}
