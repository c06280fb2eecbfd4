//! The trend of the losses at the end of a run: whether more steps, more text or another model would help.

use trainer::{Metrics, Split};

use crate::History;

/// Differences between evaluations below this share of the loss count as noise.
const NOISE: f64 = 0.03;

/// Number of last evaluations whose mean is the loss at the end.
const LAST_EVALUATIONS: usize = 3;

/// The trend of a run's losses. `last` is the mean of the last validation losses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LossTrend {
    /// The untrained weights have the lowest validation loss.
    NeverImproved {
        last: f64,
    },
    LastIsBest,
    /// The validation loss has hardly changed since its lowest value.
    Plateau {
        best_step: u64,
        last: f64,
    },
    /// The training loss kept falling while the validation loss rose.
    Overfitting {
        best_step: u64,
        best: f64,
        last: f64,
    },
}

/// The trend of a run's losses; `None` with fewer than two evaluations.
pub fn loss_trend(history: &History) -> Option<LossTrend> {
    let losses = |split: Split| -> Vec<(u64, f64)> {
        history.metrics_of(split).filter_map(|line: &Metrics| Some((line.step, line.loss?))).collect()
    };
    trend(&losses(Split::Valid), losses(Split::Train).last().map(|last| last.1))
}

/// `valid` has steps and validation losses in order; `training` is the last training loss.
fn trend(valid: &[(u64, f64)], training: Option<f64>) -> Option<LossTrend> {
    let &[(first_step, _), .., (last_step, _)] = valid else { return None };
    let (best_idx, &(best_step, best)) = valid.iter().enumerate().min_by(|a, b| a.1.1.total_cmp(&b.1.1))?;
    let since: Vec<f64> =
        valid[best_idx + 1..].iter().rev().take(LAST_EVALUATIONS).map(|&(_, loss)| loss).collect();
    let last = since.iter().sum::<f64>() / since.len().max(1) as f64;
    let is_memorising = training.is_none_or(|training| training < last * (1.0 - NOISE));
    Some(match best_step {
        _ if best_step == last_step => LossTrend::LastIsBest,
        0 if first_step == 0 => LossTrend::NeverImproved { last },
        _ if last > best * (1.0 + NOISE) && is_memorising => LossTrend::Overfitting { best_step, best, last },
        _ => LossTrend::Plateau { best_step, last },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_have_a_trend() {
        assert_eq!(trend(&[], None), None);
        assert_eq!(trend(&[(0, 4.0)], Some(3.0)), None);
        let of = |valid: &[f64], training| {
            let valid: Vec<(u64, f64)> = (0..).step_by(10).zip(valid.iter().copied()).collect();
            trend(&valid, Some(training)).unwrap()
        };
        assert_eq!(of(&[4.0, 3.0, 2.0], 2.0), LossTrend::LastIsBest);
        assert_eq!(of(&[4.0, 5.0], 1.0), LossTrend::NeverImproved { last: 5.0 });
        assert_eq!(of(&[4.0, 2.0, 3.0], 1.0), LossTrend::Overfitting { best_step: 10, best: 2.0, last: 3.0 });
        // The lowest of several noisy values is not a turning point.
        let noisy = [4.0, 2.01, 1.96, 2.02, 1.99, 2.0, 2.01];
        assert_eq!(of(&noisy, 1.5), LossTrend::Plateau { best_step: 20, last: (1.99 + 2.0 + 2.01) / 3.0 });
        // Nor is a rise of both losses.
        assert_eq!(of(&[4.0, 2.0, 3.0], 3.0), LossTrend::Plateau { best_step: 10, last: 3.0 });
    }
}
