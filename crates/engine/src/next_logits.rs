//! Copies the logits that the sampler needs from the device.
//!
//! On a GPU, copying the logits of the whole vocabulary in every step is slow. If only the largest count, the device
//! selects candidates that include them, and only the candidates are copied.
//!
//! The device's own top-k compares each token with k others, and its sort runs on the host. So the vocabulary is split
//! into many groups, and the device selects the few largest logits of all groups in parallel. In the rare case that one
//! group may contain more of the k largest, all logits are copied.

use burn::{
    prelude::*,
    tensor::{DataError, Transaction, ops::PadMode},
};
use sampler::{Logits, top_k};

/// Number of groups of the vocabulary. With `k` as large as this, a group contains eight of the `k` largest once in 200
/// steps.
const N_GROUPS: usize = 512;
/// Maximum number of logits copied per group.
const MAX_PER_GROUP: usize = 8;

/// The logits of the first `n_tokens` tokens of each row. If only the `n_best` largest count and selecting them on the
/// device saves time, only candidates that include these are returned.
///
/// # Shapes
///
/// - `logits`: `[B, V]`, with V ≥ `n_tokens`
pub(crate) fn read(
    logits: Tensor<2>,
    n_tokens: usize,
    n_best: Option<usize>,
) -> Result<Vec<Logits>, DataError> {
    let [_, n_vocab] = logits.dims();
    let logits = if n_tokens < n_vocab { logits.narrow(1, 0, n_tokens) } else { logits };
    if let Some(k) = n_best.filter(|&k| logits.device() != Device::flex() && saves_time(n_tokens, k))
        && let Some(rows) = read_best(logits.clone(), k)
    {
        return Ok(rows.into_iter().map(Logits::Best).collect());
    }
    let logits: Vec<f32> = logits.into_data().try_into_vec()?;
    Ok(logits.chunks_exact(n_tokens).map(|row| Logits::All(row.to_vec())).collect())
}

/// Whether selecting candidates saves time: it rarely fails, and at most half as many bytes are copied. A candidate has
/// two values, its logit and its row in the group.
fn saves_time(n_tokens: usize, k: usize) -> bool {
    k <= N_GROUPS && 2 * (2 * N_GROUPS * per_group(k)) <= n_tokens
}

/// For a small `k`, one more than needed: the last one shows whether the group may contain more of the `k` largest.
fn per_group(k: usize) -> usize {
    MAX_PER_GROUP.min(k.saturating_add(1))
}

/// The `k` largest logits of each row with their ids; ties keep the lower ids. `None` if a group may contain more of
/// them than were copied, or a logit is not finite.
fn read_best(logits: Tensor<2>, k: usize) -> Option<Vec<Vec<(u32, f32)>>> {
    let [batch, n_tokens] = logits.dims();
    let n_rows = n_tokens.div_ceil(N_GROUPS);
    let n_each = per_group(k).min(n_rows);
    let sums = logits.clone().sum_dim(1); // Finite only if every logit is.
    // Adjacent tokens are in different groups, so that adjacent GPU threads read adjacent memory.
    let padding = [(0, 0), (0, n_rows * N_GROUPS - n_tokens)];
    let groups = logits.pad(padding, PadMode::Constant(f32::NEG_INFINITY)).reshape([batch, n_rows, N_GROUPS]);
    let (values, rows) = groups.topk_with_indices(n_each, 1); // [B, n_each, N_GROUPS]

    let read = Transaction::default().register(sums).register(values).register(rows).execute();
    let [sums, values, rows] = <[TensorData; 3]>::try_from(read).ok()?;
    if !sums.iter::<f32>().all(f32::is_finite) {
        return None;
    }
    let (values, rows): (Vec<f32>, Vec<i64>) = (values.iter().collect(), rows.iter().collect());
    let n = n_each * N_GROUPS;
    let best = values.chunks(n).zip(rows.chunks(n)).map(|(values, rows)| {
        let best = top_k(candidates(values, rows, n_tokens), k);
        let smallest = best.iter().map(|&(_, logit)| logit).fold(f32::INFINITY, f32::min);
        let last_of_groups = &values[n - N_GROUPS..];
        let all_are_copied = n_each == n_rows || last_of_groups.iter().all(|&last| last < smallest);
        all_are_copied.then_some(best)
    });
    best.collect()
}

/// The candidates with their ids. `values` are the largest logits of all groups, then the second largest, and so on;
/// `rows` are their rows in the groups. Padding is left out; a device may return any row for it.
fn candidates<'a>(
    values: &'a [f32],
    rows: &'a [i64],
    n_tokens: usize,
) -> impl Iterator<Item = (u32, f32)> + 'a {
    values.iter().zip(rows).enumerate().filter_map(move |(idx, (&logit, &row))| {
        let id = usize::try_from(row).ok()?.checked_mul(N_GROUPS)? + idx % N_GROUPS;
        (id < n_tokens).then(|| Some((u32::try_from(id).ok()?, logit)))?
    })
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, ops::ControlFlow};

    use burn::tensor::Distribution;
    use sampler::{Options, Sample, generate_batch};

    use super::*;

    const BATCH: usize = 3;

    /// Samples of two tokens, one sample for each row of logits.
    fn sampled(options: &Options, logits: &[Logits]) -> Vec<Sample> {
        let options = Options { max_tokens: 2, ..options.clone() };
        generate_batch(
            &options,
            0..logits.len() as u64,
            &[0],
            |_, _| String::new(),
            |running, _| Ok::<_, Infallible>(running.iter().map(|&row| logits[row].clone()).collect()),
            |_, _| ControlFlow::Continue(()),
        )
        .unwrap()
    }

    fn check(logits: &Tensor<2>, k: usize, is_read: bool) {
        let [_, n_tokens] = logits.dims();
        let all = read(logits.clone(), n_tokens, None).unwrap();
        let best = read_best(logits.clone(), k);
        assert_eq!(best.is_some(), is_read, "{k} of {n_tokens}");
        let Some(best) = best else { return };
        let best: Vec<_> = best.into_iter().map(Logits::Best).collect();
        for temperature in [0.0, 0.8, 3.0] {
            let options = Options { temperature, top_k: Some(k), ..Options::default() };
            assert_eq!(
                sampled(&options, &best),
                sampled(&options, &all),
                "{k} of {n_tokens}, at {temperature}"
            );
        }
    }

    /// Random logits, and the same rounded so that many are equal.
    fn random(n_tokens: usize) -> [Tensor<2>; 2] {
        let device = kernels::testing::test_device();
        device.seed(7);
        let logits = Tensor::random([BATCH, n_tokens], Distribution::Normal(0.0, 3.0), &device);
        [logits.clone(), (logits * 4.0).round() / 4.0]
    }

    #[test]
    fn candidates_give_the_same_samples_as_all_logits() {
        for n_tokens in [1, 511, 512, 513, 5000, 50_257] {
            let [logits, _] = random(n_tokens);
            for k in [1, 2, 7, 8, 40, 200] {
                check(&logits, k, true);
            }
        }
    }

    #[test]
    fn ties_keep_the_lowest_ids_or_copy_all_logits() {
        let [_, logits] = random(5000);
        for k in [1, 2, 7, 40] {
            check(&logits, k, read_best(logits.clone(), k).is_some());
        }
        let even = logits.zeros_like();
        check(&even, 1, false);
        let two = even.clone().slice_fill(s![.., 1700..1702], 1.0);
        check(&two, 1, true); // In two groups.
        let same_group = two.slice_fill(s![.., 1700 + 512..1701 + 512], 1.0);
        check(&same_group, 1, false);
        check(&same_group, 2, true);
    }

    #[test]
    fn a_crowded_group_copies_all_logits() {
        let [logits, _] = random(20 * N_GROUPS);
        let rows: [usize; 9] = std::array::from_fn(|row| 2 * row);
        let mut crowded = logits;
        for row in rows {
            let id = row * N_GROUPS + 5;
            crowded = crowded.slice_fill(s![1, id..id + 1], 50.0 + row as f32);
        }
        check(&crowded, 7, true);
        check(&crowded, 8, false);
        check(&crowded, 9, false);
    }

    #[test]
    fn logits_that_are_not_finite_are_left_to_the_sampler() {
        let [logits, _] = random(5000);
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            check(&logits.clone().slice_fill(s![2, 4000..4001], wrong), 3, false);
        }
    }

    #[test]
    fn padding_is_not_a_candidate() {
        let (values, rows) = ([f32::MIN; N_GROUPS], |row| [row; N_GROUPS]);
        for row in [-1, u32::MAX.into(), i64::MAX, 2] {
            assert_eq!(candidates(&values, &rows(row), 2 * N_GROUPS).count(), 0, "{row}");
        }
        assert_eq!(candidates(&values, &rows(1), N_GROUPS + 3).count(), 3);
    }

    #[test]
    fn padding_of_the_vocabulary_is_left_out() {
        let logits =
            Tensor::<2>::from_data([[1.0, 2.0, 9.0], [4.0, 3.0, 9.0]], &kernels::testing::test_device());
        let rows = read(logits, 2, Some(1)).unwrap();
        assert_eq!(rows, [vec![1.0, 2.0], vec![4.0, 3.0]].map(Logits::All));
    }

    #[test]
    fn a_small_vocabulary_copies_all_logits() {
        assert!(saves_time(50_257, 1) && saves_time(50_257, 200) && saves_time(32_000, 512));
        assert!(!saves_time(256, 1) && !saves_time(8000, 40) && !saves_time(50_257, 513));
    }
}
