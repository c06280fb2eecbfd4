//! Sums of vectors.

use super::{SimdLevel, parallel};

/// Adds `values` to `sum`, element by element.
///
/// # Panics
///
/// If the lengths differ.
pub fn add(level: SimdLevel, sum: &mut [f32], values: &[f32]) {
    assert_eq!(sum.len(), values.len(), "the vectors have different lengths");
    let shared = parallel::Shared::new(sum);
    parallel::pieces(shared.len(), 1, 2, |range| {
        // SAFETY: pieces do not overlap.
        let sum = unsafe { shared.part(range.clone()) };
        let values = &values[range];
        level.vectorize(
            #[inline(always)]
            || {
                for (sum, value) in sum.iter_mut().zip(values) {
                    *sum += value;
                }
            },
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_element_is_added_once() {
        for n in [0, 1, 17, 100_003] {
            let mut sum: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let values: Vec<f32> = (0..n).map(|i| 0.5 - i as f32).collect();
            add(SimdLevel::best(), &mut sum, &values);
            assert!(sum.iter().all(|&x| x == 0.5), "{n}");
        }
    }
}
