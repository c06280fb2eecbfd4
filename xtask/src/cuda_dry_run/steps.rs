//! Finds the training steps, the evaluation and the sample among the calls of the driver.

use std::{collections::BTreeMap, ops::Range};

use anyhow::{Context, bail};

use super::log::{Event, Log};

/// The last step of a dry run; an evaluation and a sample follow.
pub(crate) const LAST_STEP: usize = 10;

/// Steps between two lines of metrics. The loop reads the losses of all steps since the last line together.
pub(crate) const LOG_INTERVAL: usize = 3;

/// Bytes of a step's loss and gradient norm.
const STEP_BYTES: usize = 8;

/// Parts of a dry run, as ranges of [`Log::events`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    /// Two ranges of [`LOG_INTERVAL`] steps each, after the first ones, which compile and tune kernels. Each ends with the
    /// copy of its losses.
    pub(crate) steps: [Range<usize>; 2],
    /// The evaluation and the sample after the last step, and checkpoints.
    pub(crate) rest: Range<usize>,
    /// A generated token, from one copy of logits to the next; `None` if no token was generated.
    pub(crate) token: Option<Range<usize>>,
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
        let lines: Vec<usize> = all_of(LOG_INTERVAL * STEP_BYTES).take(3).collect();
        let [first, second, third] = lines[..] else {
            bail!("the run has {} of {} lines of metrics", lines.len(), LAST_STEP / LOG_INTERVAL);
        };
        let end = all_of(LAST_STEP % LOG_INTERVAL * STEP_BYTES).find(|&at| at > third);
        let end = end.context("the run has not read the last step")?;
        let token = token(log, end);
        Ok(Self { steps: [first..second, second..third], rest: end..log.events.len(), token })
    }
}

/// From one copy of logits to the next: copies of the size that is most frequent after `end`.
fn token(log: &Log, end: usize) -> Option<Range<usize>> {
    let mut copies = BTreeMap::<u64, Vec<usize>>::new();
    for (at, event) in log.events.iter().enumerate().skip(end) {
        if let Event::Download(bytes) = event {
            copies.entry(*bytes).or_default().push(at + 1);
        }
    }
    let logits = copies.into_values().max_by_key(Vec::len)?;
    // In the middle, where all kernels are compiled.
    let middle = logits.len() / 2;
    Some(*logits.get(middle.checked_sub(1)?)?..*logits.get(middle)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_lie_between_the_copies_of_their_losses() {
        let step = [Event::Launch(0), Event::Launch(1)];
        let three = [&step[..], &step, &step, &[Event::Download(24)]].concat();
        let last = [&step[..], &[Event::Download(8)]].concat();
        let token = [Event::Launch(2), Event::Download(260)];
        let sample = [token; 4].concat();
        let events = [&[Event::Download(4000)][..], &three, &three, &three, &last, &sample].concat();
        let log = Log { events, ..Log::default() };
        let Parts { steps, rest, token } = Parts::of(&log).unwrap();
        assert_eq!((steps, rest), ([8..15, 15..22], 25..33));
        assert_eq!(log.events[token.unwrap()], [Event::Launch(2), Event::Download(260)]);

        let log = Log { events: three, ..Log::default() };
        let error = Parts::of(&log).unwrap_err().to_string();
        assert_eq!(error, "the run has 1 of 3 lines of metrics");
    }
}
