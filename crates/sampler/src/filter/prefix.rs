use std::cmp::Ordering;

/// Number of items sorted first. It usually suffices: a trained model spreads 95% of the probability over a few dozen
/// tokens.
const FIRST_SORTED: usize = 64;

/// Moves the first items in `order` to the front, sorted, and returns how many reach a total probability of `p`.
///
/// Only a prefix is sorted. It starts at [`FIRST_SORTED`] items and grows fourfold until it reaches `p`.
pub(super) fn len_with_mass<T>(
    items: &mut [T],
    p: f64,
    prob: impl Fn(&T) -> f64,
    order: impl Fn(&T, &T) -> Ordering,
) -> usize {
    let mut mass = 0.0;
    let mut n_sorted = 0;
    while n_sorted < items.len() {
        let end = (4 * n_sorted).max(FIRST_SORTED).min(items.len());
        sort_first(&mut items[n_sorted..], end - n_sorted, &order);
        for (idx, item) in items.iter().enumerate().take(end).skip(n_sorted) {
            mass += prob(item);
            if mass >= p {
                return idx + 1;
            }
        }
        n_sorted = end;
    }
    n_sorted
}

/// Moves the first `n` items in `order` to the front, sorted.
fn sort_first<T>(items: &mut [T], n: usize, order: impl Fn(&T, &T) -> Ordering) {
    if n < items.len() {
        items.select_nth_unstable_by(n, &order);
    }
    items[..n].sort_unstable_by(order);
}
