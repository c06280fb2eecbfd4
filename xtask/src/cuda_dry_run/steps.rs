//! Finds the training steps, the evaluation and the sample among the calls of the driver.

use std::{collections::BTreeMap, ops::Range};

use anyhow::{Context, bail};

use super::log::{Event, Log};

/// The last step of a dry run; an evaluation and a sample follow. During the first steps, kernels are compiled, and
/// the writer copies the first checkpoint.
pub(crate) const LAST_STEP: usize = 40;

/// Steps between two lines of metrics. The loop reads the losses of all steps since the last line together.
pub(crate) const LOG_INTERVAL: usize = 3;

/// Bytes of a step's loss and gradient norm.
const STEP_BYTES: usize = 8;

/// Launches of a generated token, at least.
const TOKEN_LAUNCHES: usize = 20;

/// Parts of a dry run, as ranges of [`Log::events`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    /// The last two ranges of [`LOG_INTERVAL`] steps. Each ends with the copy of its losses.
    pub(crate) steps: [Range<usize>; 2],
    /// The evaluation and the sample after the last step.
    pub(crate) rest: Range<usize>,
    /// A generated token, from one copy of logits to the next; `None` if no token was generated.
    pub(crate) token: Option<Range<usize>>,
    /// Generated tokens.
    pub(crate) n_tokens: usize,
}

impl Parts {
    /// # Errors
    ///
    /// If the program did not reach the last step.
    pub(crate) fn of(log: &Log) -> anyhow::Result<Self> {
        let all_of = |bytes: usize| {
            let wanted = Event::Download(bytes as u64);
            let found = log.events.iter().enumerate().filter(move |(_, event)| **event == wanted);
            found.map(|(at, _)| at + 1)
        };
        const N_LINES: usize = LAST_STEP / LOG_INTERVAL;
        let lines: Vec<usize> = all_of(LOG_INTERVAL * STEP_BYTES).take(N_LINES).collect();
        let (N_LINES, [.., first, second, third]) = (lines.len(), &lines[..]) else {
            bail!("the run has {} of {N_LINES} lines of metrics", lines.len());
        };
        let (first, second, third) = (*first, *second, *third);
        let end = all_of(LAST_STEP % LOG_INTERVAL * STEP_BYTES).find(|&at| at > third);
        let end = end.context("the run has not read the last step")?;
        let tokens = tokens(log, end);
        // In the middle, where most kernels are compiled.
        let middle = tokens.len() / 2;
        let token = middle.checked_sub(1).map(|before| tokens[before]..tokens[middle]);
        let rest = end..log.events.len();
        Ok(Self { steps: [first..second, second..third], rest, token, n_tokens: tokens.len() })
    }
}

/// Where a generated token ends, after `end`: its logits are copied to the host. Such copies follow many launches, and have the
/// most frequent size. Weights that are written to disk are copied one after another.
fn tokens(log: &Log, end: usize) -> Vec<usize> {
    let mut copies = BTreeMap::<u64, Vec<usize>>::new();
    let mut n_launches = 0;
    for (at, event) in log.events.iter().enumerate().skip(end) {
        match event {
            Event::Launch(_) => n_launches += 1,
            Event::Download(bytes) => {
                if n_launches >= TOKEN_LAUNCHES {
                    copies.entry(*bytes).or_default().push(at + 1);
                }
                n_launches = 0;
            }
            _ => {}
        }
    }
    copies.into_values().max_by_key(Vec::len).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_lie_between_the_copies_of_their_losses() {
        let step = [Event::Launch(0), Event::Launch(1)];
        let three = [&step[..], &step, &step, &[Event::Download(24)]].concat();
        let lines = three.repeat(LAST_STEP / LOG_INTERVAL);
        let last = [&step[..], &[Event::Download(8)]].concat();
        let token = [&[Event::Launch(2); TOKEN_LAUNCHES][..], &[Event::Download(260)]].concat();
        let weights = [Event::Download(96); 9];
        let sample = [&token[..]; 4].concat();
        let events = [&[Event::Download(4000)][..], &lines, &last, &weights, &sample].concat();
        let log = Log { events, ..Log::default() };
        let Parts { steps, rest, token: range, n_tokens } = Parts::of(&log).unwrap();
        let end = 1 + lines.len();
        assert_eq!(steps, [end - 14..end - 7, end - 7..end]);
        assert_eq!((rest, n_tokens), (end + 3..end + 96, 4));
        assert_eq!(log.events[range.unwrap()], token[..]);

        let log = Log { events: three, ..Log::default() };
        let error = Parts::of(&log).unwrap_err().to_string();
        assert_eq!(error, "the run has 1 of 13 lines of metrics");
    }
}
