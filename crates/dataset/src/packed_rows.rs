//! Batches of packed examples, or pairs of them, as a pure function of the seed and the step.

use std::{num::NonZeroUsize, ops::Range, sync::Arc};

use crate::{
    Batch, BatchIndex, Error, Examples, PackedPair, Packing, Result,
    packing::{Group, Row, n_positions, pack},
    random::{Purpose, generator, shuffle},
};

/// Rows of a batch are cut to a multiple of this many positions, so that a GPU meets few shapes.
const MULTIPLE: usize = 64;

/// The shape of an optimizer step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepShape {
    /// Positions of a row.
    pub block_size: usize,
    /// Rows of a batch, over all ranks.
    pub batch_size: usize,
    /// Batches whose gradients are added.
    pub grad_accumulation: NonZeroUsize,
}

impl StepShape {
    fn n_rows(self) -> usize {
        self.batch_size * self.grad_accumulation.get()
    }
}

/// Rows of packed examples. The order of the rows is another random one in each epoch; which examples share a row is
/// always the same.
#[derive(Debug, Clone)]
pub struct PackedRows {
    examples: Arc<Examples>,
    group: Group,
    /// One number for each pair; empty if there is none.
    reference: Arc<[f64]>,
    rows: Arc<[Row]>,
    shape: StepShape,
    seed: u64,
    /// The rows of each batch that this instance yields.
    part: Range<usize>,
    n_ranks: usize,
    /// The order of the rows in an epoch, for the last one used.
    order: (u64, Vec<usize>),
}

impl PackedRows {
    /// # Errors
    ///
    /// If there are no examples, or one is longer than a block.
    pub fn new(examples: Arc<Examples>, shape: StepShape, seed: u64) -> Result<Self> {
        Self::of(examples, Group::One, shape, seed)
    }

    /// Rows of pairs: examples 0 and 1, 2 and 3, and so on are neighbours in a row. Weights of batches count pairs in place
    /// of trained tokens.
    ///
    /// # Errors
    ///
    /// If there are no examples, or a pair is longer than a block.
    ///
    /// # Panics
    ///
    /// If the number of examples is odd.
    pub fn of_pairs(examples: Arc<Examples>, shape: StepShape, seed: u64) -> Result<Self> {
        Self::of(examples, Group::Pair, shape, seed)
    }

    fn of(examples: Arc<Examples>, group: Group, shape: StepShape, seed: u64) -> Result<Self> {
        if examples.is_empty() {
            return Err(Error::NoExamples);
        }
        let rows: Arc<[Row]> = pack(&examples, group, shape.block_size)?.into();
        let order = (0, order(rows.len(), seed, 0));
        let (reference, part) = (Arc::default(), 0..shape.batch_size);
        Ok(Self { examples, group, reference, rows, shape, seed, part, n_ranks: 1, order })
    }

    /// The same rows with a number for each pair, in the order of the data, which batches repeat. Without this it is 0.
    ///
    /// # Panics
    ///
    /// If pairs and numbers differ in number.
    pub fn with_reference(self, reference: Arc<[f64]>) -> Self {
        assert_eq!(self.group, Group::Pair, "only pairs have a reference");
        assert_eq!(2 * reference.len(), self.examples.len(), "each pair has a reference");
        Self { reference, ..self }
    }

    /// The rows of rank `rank` when each batch is divided evenly, in order, among `n` ranks.
    ///
    /// # Panics
    ///
    /// If the batch is not divisible by `n`, or `rank` is not below `n`.
    pub fn share(self, rank: usize, n: usize) -> Self {
        let size = self.part.len();
        assert!(n > 0 && size.is_multiple_of(n), "{size} rows are not divisible among {n} ranks");
        assert!(rank < n, "rank {rank} of {n}");
        let (size, first) = (size / n, self.part.start);
        let part = first + rank * size..first + (rank + 1) * size;
        Self { part, n_ranks: self.n_ranks * n, ..self }
    }

    /// Number of rows of an epoch.
    pub fn n_rows(&self) -> usize {
        self.rows.len()
    }

    /// The batch with this index. It does not depend on previous calls.
    ///
    /// # Panics
    ///
    /// If the micro-batch is not below the number of batches of a step.
    pub fn batch(&mut self, at: BatchIndex) -> Batch {
        let StepShape { batch_size, grad_accumulation, .. } = self.shape;
        let micro_batch = usize::try_from(at.micro_batch).expect("a step has few batches");
        assert!(micro_batch < grad_accumulation.get(), "batch {micro_batch} of {grad_accumulation}");
        let of_step: Vec<usize> = (0..self.shape.n_rows()).map(|idx| self.row_at(at.step, idx)).collect();
        let n_in_step: usize = of_step.iter().map(|&row| self.n_weighed(&self.rows[row])).sum();
        let of_batch = &of_step[micro_batch * batch_size..][self.part.clone()];
        let n_batches = grad_accumulation.get() * self.n_ranks;
        self.batch_of(of_batch, n_batches as f64 / n_in_step as f64)
    }

    /// The first `n_rows` rows of the first epoch, or all rows if there are fewer, in batches of at most `batch_size`. The
    /// weight of a batch is its number of trained tokens, or of pairs.
    ///
    /// # Panics
    ///
    /// If `batch_size` is zero.
    pub fn in_batches(mut self, n_rows: usize, batch_size: usize) -> impl ExactSizeIterator<Item = Batch> {
        let n_rows = n_rows.min(self.rows.len());
        let rows: Vec<usize> = (0..n_rows).map(|idx| self.row_at(0, idx)).collect();
        (0..n_rows.div_ceil(batch_size)).map(move |idx| {
            let of_batch = &rows[idx * batch_size..n_rows.min((idx + 1) * batch_size)];
            self.batch_of(of_batch, 1.0)
        })
    }

    /// The row at a place of a step.
    fn row_at(&mut self, step: u64, idx: usize) -> usize {
        let place = u128::from(step) * self.shape.n_rows() as u128 + idx as u128;
        let n = self.rows.len() as u128;
        let epoch = u64::try_from(place / n).expect("a run has fewer than 2^64 epochs");
        if epoch != self.order.0 {
            self.order = (epoch, order(self.rows.len(), self.seed, epoch));
        }
        self.order.1[usize::try_from(place % n).expect("a remainder is below the number of rows")]
    }

    /// The trained tokens of a row, or its pairs.
    fn n_weighed(&self, row: &Row) -> usize {
        match self.group {
            Group::One => row.n_trained,
            Group::Pair => row.examples.len() / 2,
        }
    }

    /// A batch of rows. `weight` is that of one trained token, or of one pair.
    fn batch_of(&self, rows: &[usize], weight: f64) -> Batch {
        let longest = rows.iter().map(|&row| self.rows[row].len).max().unwrap_or_default();
        let time = longest.next_multiple_of(MULTIPLE).min(self.shape.block_size);
        let size = rows.len() * time;
        let mut batch = Batch {
            inputs: Vec::with_capacity(size),
            targets: Vec::with_capacity(size),
            batch_size: rows.len(),
            block_size: time,
            packing: None,
        };
        let mut packing =
            Packing { lengths: Vec::new(), trained: Vec::new(), pairs: Vec::new(), weight: 0.0 };
        for &row in rows {
            let Row { examples, len, .. } = &self.rows[row];
            for &idx in examples {
                let example = self.examples.get(idx);
                let n = n_positions(example.ids.len());
                let first = batch.targets.len();
                let trained = (0..n).filter(|&position| example.trained[position + 1]);
                packing.trained.extend(trained.map(|position| first + position));
                batch.inputs.extend(example.ids[..n].iter().map(|id| id.cast_signed()));
                batch.targets.extend(example.ids[1..].iter().map(|id| id.cast_signed()));
                packing.lengths.push(n);
            }
            let n_padding = time - len;
            if self.group == Group::Pair {
                packing.pairs.extend(examples.chunks_exact(2).map(|pair| self.pair(pair[0] / 2)));
            }
            if n_padding > 0 {
                batch.inputs.resize(batch.inputs.len() + n_padding, 0);
                batch.targets.resize(batch.targets.len() + n_padding, 0);
                packing.lengths.push(n_padding);
            }
        }
        let n_weighed: usize = rows.iter().map(|&row| self.n_weighed(&self.rows[row])).sum();
        packing.weight = weight * n_weighed as f64;
        Batch { packing: Some(packing), ..batch }
    }

    fn pair(&self, idx: usize) -> PackedPair {
        PackedPair {
            idx,
            n_trained: [0, 1].map(|of_pair| self.examples.get(2 * idx + of_pair).n_trained()),
            reference: self.reference.get(idx).copied().unwrap_or_default(),
        }
    }
}

/// A random order of the rows of an epoch.
fn order(n_rows: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n_rows).collect();
    shuffle(&mut order, &mut generator([seed, epoch, 0], Purpose::ShuffleRows));
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Example;

    const BLOCK: usize = 100;

    /// Example `i` has the tokens `100 i`, `100 i + 1` and so on; every third token is trained.
    fn examples(lengths: &[u32]) -> Arc<Examples> {
        let mut examples = Examples::default();
        for (idx, &n) in (0_u32..).zip(lengths) {
            let ids: Vec<u32> = (100 * idx..100 * idx + n).collect();
            let trained: Vec<bool> = (0..n).map(|token| token % 3 == 2).collect();
            examples.push(Example { ids: &ids, trained: &trained });
        }
        Arc::new(examples)
    }

    fn rows(lengths: &[u32], batch_size: usize, grad_accumulation: usize) -> PackedRows {
        let grad_accumulation = NonZeroUsize::new(grad_accumulation).unwrap();
        PackedRows::new(examples(lengths), StepShape { block_size: BLOCK, batch_size, grad_accumulation }, 7)
            .unwrap()
    }

    fn at(step: u64, micro_batch: u64) -> BatchIndex {
        BatchIndex { step, micro_batch }
    }

    const LENGTHS: [u32; 9] = [51, 51, 30, 81, 20, 99, 71, 13, 90];

    #[test]
    fn a_row_holds_its_examples_and_padding() {
        let mut rows = rows(&[51, 30, 4], 1, 1);
        let batch = rows.batch(at(0, 0));
        let packing = batch.packing.unwrap();
        // 50 + 29 + 3 positions, padded to the block of 100, which is less than 128.
        assert_eq!((batch.block_size, &packing.lengths[..]), (100, &[50, 29, 3, 18][..]));
        assert_eq!(batch.inputs[..3], [0, 1, 2]);
        assert_eq!(batch.inputs[48..53], [48, 49, 100, 101, 102]);
        assert_eq!(batch.targets[48..53], [49, 50, 101, 102, 103]);
        assert_eq!(batch.inputs[79..84], [200, 201, 202, 0, 0]);
        // The targets 2, 5, 8 .. of each example.
        assert_eq!(packing.trained[..3], [1, 4, 7]);
        for &position in &packing.trained {
            assert_eq!(batch.targets[position] % 100 % 3, 2, "position {position}");
        }
        assert_eq!(packing.trained.len(), rows.examples.n_trained());
        assert_eq!(packing.weight, 1.0);
    }

    #[test]
    fn short_rows_are_cut() {
        let mut rows = rows(&[20], 1, 1);
        assert_eq!(rows.batch(at(0, 0)).block_size, 64);
    }

    #[test]
    fn a_batch_depends_only_on_its_index() {
        let mut forwards = rows(&LENGTHS, 2, 2);
        let mut backwards = forwards.clone();
        let indices: Vec<BatchIndex> = (0..9).flat_map(|step| [at(step, 0), at(step, 1)]).collect();
        let in_order: Vec<_> = indices.iter().map(|&at| forwards.batch(at)).collect();
        let reversed: Vec<_> = indices.iter().rev().map(|&at| backwards.batch(at)).collect();
        assert!(in_order.iter().eq(reversed.iter().rev()));
    }

    #[test]
    fn each_epoch_has_every_example_once_in_another_order() {
        let mut rows = rows(&LENGTHS, 1, 1);
        let n = rows.n_rows() as u64;
        let mut epoch = |epoch: u64| -> Vec<i32> {
            let steps = epoch * n..(epoch + 1) * n;
            steps
                .flat_map(|step| rows.batch(at(step, 0)).inputs)
                .filter(|&id| id % 100 == 0 && id > 0)
                .collect()
        };
        let epochs = [0, 1, 2].map(&mut epoch);
        for epoch in &epochs {
            let mut sorted = epoch.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [100, 200, 300, 400, 500, 600, 700, 800]); // 0 is padding too.
        }
        assert!(epochs[0] != epochs[1] || epochs[1] != epochs[2]);
    }

    #[test]
    fn weights_make_the_mean_over_all_trained_tokens_of_a_step() {
        let mut whole = rows(&LENGTHS, 4, 2);
        let shares: Vec<_> = (0..2).map(|rank| whole.clone().share(rank, 2)).collect();
        for step in 0..5 {
            let mut n_trained = 0;
            let mut weights = Vec::new();
            for micro_batch in 0..2 {
                let batch = whole.batch(at(step, micro_batch));
                n_trained += batch.packing.as_ref().unwrap().trained.len();
                let parts = shares.clone().into_iter().map(|mut share| share.batch(at(step, micro_batch)));
                let parts: Vec<_> = parts.collect();
                assert_eq!(parts.iter().map(|part| part.batch_size).sum::<usize>(), 4);
                weights.extend(parts.into_iter().map(|part| part.packing.unwrap()));
            }
            for packing in weights {
                // The mean over the four batches of the step and ranks.
                let expected = 4.0 * packing.trained.len() as f64 / n_trained as f64;
                assert!((packing.weight - expected).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn evaluation_has_the_same_rows_for_any_batch_size() {
        let rows = rows(&LENGTHS, 4, 2);
        for batch_size in [1, 2, 3, 100] {
            let n: usize = rows.clone().in_batches(2, batch_size).map(|batch| batch.batch_size).sum();
            assert_eq!(n, 2);
            let batches: Vec<_> = rows.clone().in_batches(1000, batch_size).collect();
            let n: usize = batches.iter().map(|batch| batch.batch_size).sum();
            assert_eq!(n, rows.n_rows());
            let weight: f64 = batches.iter().map(|batch| batch.packing.as_ref().unwrap().weight).sum();
            assert_eq!(weight, rows.examples.n_trained() as f64);
        }
    }

    #[test]
    fn batches_of_pairs_name_their_pairs() {
        let shape = StepShape { block_size: BLOCK, batch_size: 2, grad_accumulation: NonZeroUsize::MIN };
        let examples = examples(&[20, 30, 40, 61, 9, 8, 33, 34]);
        let reference: Arc<[f64]> = [0.5, 1.5, 2.5, 3.5].into();
        let mut rows = PackedRows::of_pairs(examples.clone(), shape, 7).unwrap().with_reference(reference);
        assert_eq!(rows.n_rows(), 3, "48, 99, 15 and 65 positions fit into 3 rows of 100");
        let mut found = Vec::new();
        for batch in rows.clone().in_batches(10, 2) {
            let packing = batch.packing.unwrap();
            assert_eq!(packing.weight, packing.pairs.len() as f64);
            let mut trained = packing.trained.iter().map(|&position| batch.targets[position]);
            for PackedPair { idx, n_trained, reference } in packing.pairs {
                assert_eq!(reference, idx as f64 + 0.5);
                for (of_pair, n) in n_trained.into_iter().enumerate() {
                    let example = examples.get(2 * idx + of_pair);
                    let expected = example.ids.iter().zip(example.trained).filter(|(_, trained)| **trained);
                    assert!(trained.by_ref().take(n).eq(expected.map(|(id, _)| id.cast_signed())));
                }
                found.push(idx);
            }
            assert_eq!(trained.next(), None);
        }
        found.sort_unstable();
        assert_eq!(found, [0, 1, 2, 3]);
        let weights: Vec<f64> = (0..3).map(|step| rows.batch(at(step, 0)).packing.unwrap().weight).collect();
        assert_eq!(weights, [1.0; 3], "a step of one batch has its own mean");
    }

    #[test]
    fn no_examples_are_an_error() {
        let shape = StepShape { block_size: 8, batch_size: 1, grad_accumulation: NonZeroUsize::MIN };
        assert!(matches!(PackedRows::new(Arc::default(), shape, 7), Err(Error::NoExamples)));
    }
}
