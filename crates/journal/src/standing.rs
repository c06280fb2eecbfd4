//! Where a run stands at its end: what its validation losses say of more steps, more text or another model.

use trainer::{Metrics, Split};

use crate::History;

/// Evaluations differ by as much from one to the next, as a share of their loss.
const NOISE: f64 = 0.03;

/// Evaluations whose mean counts as the loss at the end.
const LAST_EVALUATIONS: usize = 3;

/// How the losses of a run stand to each other at its end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Standing {
    /// No evaluation was better than that of the untrained weights.
    Untrained {
        /// The mean of the last losses.
        last: f64,
    },
    /// The last weights are the best.
    LastIsBest,
    /// The loss has hardly changed since its best.
    Levelled {
        /// The step of the best.
        best_step: u64,
        /// The mean of the last losses.
        last: f64,
    },
    /// The training loss went on falling while the validation loss rose.
    OverFitting {
        /// The step of the best.
        best_step: u64,
        /// The best loss.
        best: f64,
        /// The mean of the last losses.
        last: f64,
    },
}

/// How the losses of a run stand at its end. Fewer than two evaluations say nothing.
pub fn standing(history: &History) -> Option<Standing> {
    let losses = |split: Split| -> Vec<(u64, f64)> {
        history.of(split).filter_map(|line: &Metrics| Some((line.step, line.loss?))).collect()
    };
    by_losses(&losses(Split::Valid), losses(Split::Train).last().map(|last| last.1))
}

/// Steps and validation losses, in order, and the last training loss.
fn by_losses(valid: &[(u64, f64)], training: Option<f64>) -> Option<Standing> {
    let &[(first_step, _), .., (last_step, _)] = valid else { return None };
    let (best_idx, &(best_step, best)) = valid.iter().enumerate().min_by(|a, b| a.1.1.total_cmp(&b.1.1))?;
    let since: Vec<f64> =
        valid[best_idx + 1..].iter().rev().take(LAST_EVALUATIONS).map(|&(_, loss)| loss).collect();
    let last = since.iter().sum::<f64>() / since.len().max(1) as f64;
    let learns_by_heart = training.is_none_or(|training| training < last * (1.0 - NOISE));
    Some(match best_step {
        _ if best_step == last_step => Standing::LastIsBest,
        0 if first_step == 0 => Standing::Untrained { last },
        _ if last > best * (1.0 + NOISE) && learns_by_heart => {
            Standing::OverFitting { best_step, best, last }
        }
        _ => Standing::Levelled { best_step, last },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_stands_where_its_losses_say() {
        assert_eq!(by_losses(&[], None), None);
        assert_eq!(by_losses(&[(0, 4.0)], Some(3.0)), None);
        let of = |valid: &[f64], training| {
            let valid: Vec<(u64, f64)> = (0..).step_by(10).zip(valid.iter().copied()).collect();
            by_losses(&valid, Some(training)).unwrap()
        };
        assert_eq!(of(&[4.0, 3.0, 2.0], 2.0), Standing::LastIsBest);
        assert_eq!(of(&[4.0, 5.0], 1.0), Standing::Untrained { last: 5.0 });
        assert_eq!(of(&[4.0, 2.0, 3.0], 1.0), Standing::OverFitting { best_step: 10, best: 2.0, last: 3.0 });
        // The lowest of many that differ by chance is no turn.
        let noisy = [4.0, 2.01, 1.96, 2.02, 1.99, 2.0, 2.01];
        assert_eq!(of(&noisy, 1.5), Standing::Levelled { best_step: 20, last: (1.99 + 2.0 + 2.01) / 3.0 });
        // Nor is a rise that the training loss shares.
        assert_eq!(of(&[4.0, 2.0, 3.0], 3.0), Standing::Levelled { best_step: 10, last: 3.0 });
    }
}
