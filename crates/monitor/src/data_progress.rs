//! The progress of preparing data: a progress bar on a terminal, otherwise plain lines.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use console::{progress_bar, progress_style, report};
use dataset::{OnProgress, Phase, Progress};
use journal::summary::count;

/// Minimum time between lines if stderr is not a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Template of the bar for phases measured in bytes.
const BYTES: &str = "{msg} {bar:24} {bytes}/{total_bytes}  {eta} left";

/// Template of the bar for learning BPE merges.
const MERGES: &str = "{msg} {bar:24} {human_pos}/{human_len}  {eta} left";

/// Runs `work` and shows the progress that it reports.
pub fn with_progress<T, E>(work: impl FnOnce(OnProgress<'_>) -> Result<T, E>) -> Result<T, E> {
    let bar = progress_bar(BYTES);
    let lines = Mutex::new(LineSchedule::default());
    let shown = Mutex::new(None);
    let show = |progress: Progress| {
        let phase = progress.phase;
        if shown.lock().expect("no holder of the lock panics").replace(phase) != Some(phase) {
            bar.reset();
            bar.set_style(progress_style(if phase == Phase::LearnMerges { MERGES } else { BYTES }));
            bar.set_message(phase.to_string());
        }
        match progress.total {
            Some(total) => bar.set_length(total),
            None => bar.unset_length(),
        }
        bar.set_position(progress.done);
        if bar.is_hidden() {
            let line = lines.lock().expect("no holder of the lock panics").line(progress, Instant::now());
            if let Some(line) = line {
                report(format_args!("{line}"));
            }
        }
    };
    let done = work(&show);
    bar.finish_and_clear();
    done
}

/// Decides when to print a progress line.
#[derive(Default)]
struct LineSchedule {
    /// The phase, the time of its start or last line, and the tenths done at that time.
    last: Option<(Phase, Instant, u64)>,
}

impl LineSchedule {
    /// Returns one line per tenth of a phase, at most one per interval. Short phases have none.
    fn line(&mut self, progress: Progress, now: Instant) -> Option<String> {
        let Progress { phase, done, total } = progress;
        let tenth = total.map(|total| 10 * done / total.max(1));
        let Some((_, time, last_tenth)) = self.last.filter(|&(last, ..)| last == phase) else {
            self.last = Some((phase, now, 0));
            return None;
        };
        if now.duration_since(time) < LINE_INTERVAL || tenth.is_some_and(|tenth| tenth <= last_tenth) {
            return None;
        }
        self.last = Some((phase, now, tenth.unwrap_or_default()));
        Some(match total {
            Some(total) => {
                format!("{phase}: {}% of {} {}", 100 * done / total.max(1), count(total), phase.unit())
            }
            None => format!("{phase}: {} {}", count(done), phase.unit()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of a phase that reports its progress every second.
    fn lines(phase: Phase, total: Option<u64>, done: impl Iterator<Item = u64>) -> Vec<String> {
        let start = Instant::now();
        let mut lines = LineSchedule::default();
        let second = |idx: usize| start + Duration::from_secs(idx as u64);
        done.enumerate()
            .filter_map(|(idx, done)| lines.line(Progress { phase, done, total }, second(idx)))
            .collect()
    }

    #[test]
    fn a_long_phase_has_a_line_for_each_tenth() {
        let found = lines(Phase::Encode, Some(4_000_000_000), (0..=100).map(|idx| idx * 40_000_000));
        assert_eq!(found.len(), 10, "{found:?}");
        assert_eq!(found[0], "encoding: 10% of 4.0G bytes");
        assert_eq!(found[9], "encoding: 100% of 4.0G bytes");
    }

    #[test]
    fn lines_are_never_close_together() {
        let found = lines(Phase::Read, Some(100), (0..=20).map(|idx| idx * 5));
        assert_eq!(found, ["reading: 50% of 100 bytes", "reading: 100% of 100 bytes"]);
        assert!(lines(Phase::Read, Some(100), (0..=9).map(|idx| idx * 11)).is_empty(), "a short phase");
        assert_eq!(lines(Phase::Fetch, None, 0..=10), ["fetching: 10 bytes"]);
    }

    #[test]
    fn merges_are_counted_as_merges() {
        let found = lines(Phase::LearnMerges, Some(3839), (0..=20).map(|idx| idx * 100));
        assert_eq!(found, ["learning merges: 26% of 3.8k merges", "learning merges: 52% of 3.8k merges"]);
    }
}
