//! Direct preference optimisation ([Rafailov et al., 2023](https://arxiv.org/abs/2305.18290)): the loss of pairs of a
//! preferred and another answer.

use std::iter;

use dataset::PackedPair;

/// Figures of the pairs of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PreferenceFigures {
    pub n_pairs: usize,
    /// The share of pairs whose preferred answer has gained more than the other one, from 0 to 1.
    pub accuracy: f64,
    /// The mean of beta times that gain, in nats.
    pub margin: f64,
}

/// Sums over pairs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct PreferenceSums {
    n_pairs: usize,
    n_preferred: usize,
    loss: f64,
    margin: f64,
}

impl PreferenceSums {
    /// The sums over pairs with margins as [`margins`] returns them. The loss of a pair is `-ln sigmoid(margin)`.
    pub(crate) fn of(margins: &[f64]) -> Self {
        Self {
            n_pairs: margins.len(),
            n_preferred: margins.iter().filter(|&&margin| margin > 0.0).count(),
            loss: margins.iter().map(|&margin| f64::max(-margin, 0.0) + (-margin.abs()).exp().ln_1p()).sum(),
            margin: margins.iter().sum(),
        }
    }

    /// The sums as numbers, which ranks exchange.
    pub(crate) fn to_values(self) -> [f64; 4] {
        [self.n_pairs as f64, self.n_preferred as f64, self.loss, self.margin]
    }

    /// The sums from [`Self::to_values`].
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "they were counts")]
    pub(crate) fn from_values([n_pairs, n_preferred, loss, margin]: [f64; 4]) -> Self {
        Self { n_pairs: n_pairs as usize, n_preferred: n_preferred as usize, loss, margin }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.n_pairs += other.n_pairs;
        self.n_preferred += other.n_preferred;
        self.loss += other.loss;
        self.margin += other.margin;
    }

    /// The mean loss, in nats.
    pub(crate) fn loss(&self) -> f64 {
        self.loss / self.n_pairs as f64
    }

    pub(crate) fn figures(&self) -> PreferenceFigures {
        PreferenceFigures {
            n_pairs: self.n_pairs,
            accuracy: self.n_preferred as f64 / self.n_pairs as f64,
            margin: self.margin / self.n_pairs as f64,
        }
    }
}

/// The log-probability of the preferred answer less that of the other one, for each pair. `logprobs` has one value
/// for each trained target, `[N]`.
pub(crate) fn differences(logprobs: &[f32], pairs: &[PackedPair]) -> Vec<f64> {
    let mut rest = logprobs.iter();
    let mut sum = |n: usize| rest.by_ref().take(n).map(|&logprob| f64::from(logprob)).sum::<f64>();
    pairs.iter().map(|pair| sum(pair.n_trained[0]) - sum(pair.n_trained[1])).collect()
}

/// Beta times what the preferred answer of each pair has gained over the other one since the reference model.
pub(crate) fn margins(logprobs: &[f32], pairs: &[PackedPair], beta: f64) -> Vec<f64> {
    let differences = differences(logprobs, pairs).into_iter().zip(pairs);
    differences.map(|(difference, pair)| beta * (difference - pair.reference)).collect()
}

/// The derivatives of the mean loss by the negative log-probabilities of the trained targets, `[N]`: all targets of an
/// answer have the same.
#[expect(clippy::cast_possible_truncation, reason = "gradients are f32")]
pub(crate) fn derivatives(margins: &[f64], pairs: &[PackedPair], beta: f64) -> Vec<f32> {
    let of_pair = |(&margin, pair): (&f64, &PackedPair)| {
        let slope = (beta / (1.0 + margin.exp()) / pairs.len() as f64) as f32;
        let [preferred, other] = pair.n_trained;
        iter::repeat_n(slope, preferred).chain(iter::repeat_n(-slope, other))
    };
    margins.iter().zip(pairs).flat_map(of_pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs() -> [PackedPair; 2] {
        [([2, 1], 0.5), ([1, 3], -1.0)].map(|(n_trained, reference)| PackedPair {
            idx: 0,
            n_trained,
            reference,
        })
    }

    const LOGPROBS: [f32; 7] = [-1.0, -2.0, -4.0, -0.5, -0.25, -0.5, -0.75];

    #[test]
    fn a_pair_that_equals_the_reference_has_a_loss_of_ln_2() {
        let sums = PreferenceSums::of(&[0.0, 0.0]);
        assert!((sums.loss() - 2f64.ln()).abs() < 1e-12);
        assert_eq!(sums.figures(), PreferenceFigures { n_pairs: 2, accuracy: 0.0, margin: 0.0 });
    }

    #[test]
    fn margins_are_gains_over_the_reference() {
        assert_eq!(differences(&LOGPROBS, &pairs()), [1.0, 1.0]);
        assert_eq!(margins(&LOGPROBS, &pairs(), 0.5), [0.25, 1.0]);
        let figures = PreferenceSums::of(&[0.25, 1.0, -0.5]).figures();
        assert_eq!(figures, PreferenceFigures { n_pairs: 3, accuracy: 2.0 / 3.0, margin: 0.25 });
    }

    #[test]
    fn derivatives_are_finite_differences() {
        let (pairs, beta, step) = (pairs(), 0.5, 1.0 / 64.0);
        let loss = |logprobs: &[f32]| PreferenceSums::of(&margins(logprobs, &pairs, beta)).loss();
        let found = derivatives(&margins(&LOGPROBS, &pairs, beta), &pairs, beta);
        for (idx, found) in found.iter().enumerate() {
            let [mut lower, mut higher] = [LOGPROBS; 2];
            lower[idx] += step;
            higher[idx] -= step;
            let expected = (loss(&higher) - loss(&lower)) / f64::from(2.0 * step);
            assert!((f64::from(*found) - expected).abs() < 1e-5, "{idx}: {found} is not {expected}");
        }
    }

    #[test]
    fn a_large_margin_is_finite() {
        for margin in [-1e4, 1e4] {
            assert!(PreferenceSums::of(&[margin]).loss().is_finite());
            assert!(derivatives(&[margin], &pairs()[..1], 0.1).iter().all(|it| it.is_finite()));
        }
    }
}
