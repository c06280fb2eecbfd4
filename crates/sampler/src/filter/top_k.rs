use std::cmp::Ordering;

/// Smallest buffer, in logits. It keeps selections rare when `k` is small.
const MIN_BUFFER: usize = 64;

/// Keeps the `k` largest logits, each with the id of its token ([Fan et al. 2018](https://arxiv.org/abs/1805.04833),
/// section 5.1), in ascending order of id. `k` must be at least 1, and no logit may be NaN.
///
/// The result does not depend on the temperature. The time is linear in the number of logits: most are compared once,
/// with the smallest of the `k` largest so far.
pub fn top_k(logits: impl IntoIterator<Item = (u32, f32)>, k: usize) -> Vec<(u32, f32)> {
    let buffer_size = k.saturating_mul(2).max(MIN_BUFFER);
    let mut largest = Vec::new();
    let mut at_least = f32::NEG_INFINITY;
    for (id, logit) in logits {
        if logit >= at_least {
            largest.push((id, logit));
        }
        if largest.len() == buffer_size {
            keep_largest(&mut largest, k);
            at_least = largest[k - 1].1;
        }
    }
    keep_largest(&mut largest, k);
    largest.sort_unstable_by_key(|&(id, _)| id);
    largest
}

/// Keeps the `k` largest logits, with the smallest of them last.
fn keep_largest(logits: &mut Vec<(u32, f32)>, k: usize) {
    if k < logits.len() {
        logits.select_nth_unstable_by(k - 1, largest_first);
        logits.truncate(k);
    }
}

/// Descending logit, then ascending id.
fn largest_first(a: &(u32, f32), b: &(u32, f32)) -> Ordering {
    // `total_cmp` would order 0 and -0, which have the same probability.
    b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal).then(a.0.cmp(&b.0))
}
