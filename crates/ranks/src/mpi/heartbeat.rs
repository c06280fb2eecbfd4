//! Heartbeats: how ranks notice that another has died, is stopped or hangs.
//!
//! Ranks form a ring, in which each watches the next. Clocks and CPU times are arguments, so that tests need no waiting.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use crate::Phase;

/// Progress that a rank has reported.
#[derive(Debug, Default)]
pub(super) struct Progress {
    step: AtomicU64,
    phase: AtomicU64,
    n_reports: AtomicU64,
}

impl Progress {
    pub(super) fn set(&self, step: u64, phase: Phase) {
        self.step.store(step, Ordering::Relaxed);
        self.phase.store(phase as u64, Ordering::Relaxed);
        self.n_reports.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn beat(&self, n_started: u64, cpu: Duration) -> Beat {
        let [step, phase, n_reports] =
            [&self.step, &self.phase, &self.n_reports].map(|value| value.load(Ordering::Relaxed));
        let phase = Phase::ALL.into_iter().find(|it| *it as u64 == phase).unwrap_or_default();
        Beat { step, phase, n_reports, n_started, cpu }
    }
}

/// The state of a rank.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Beat {
    pub(super) step: u64,
    pub(super) phase: Phase,
    /// How often the rank has reported progress.
    pub(super) n_reports: u64,
    /// How many collectives the rank has started.
    pub(super) n_started: u64,
    /// CPU time of the process without the thread of MPI.
    pub(super) cpu: Duration,
}

impl Beat {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let cpu = u64::try_from(self.cpu.as_nanos()).unwrap_or(u64::MAX);
        [self.step, self.phase as u64, self.n_reports, self.n_started, cpu].map(u64::to_le_bytes).concat()
    }

    /// `None` if another program version has sent something else.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (values, []) = bytes.as_chunks() else { return None };
        let &[step, phase, n_reports, n_started, cpu] = values else { return None };
        let [step, phase, n_reports, n_started, cpu] =
            [step, phase, n_reports, n_started, cpu].map(u64::from_le_bytes);
        let phase = Phase::ALL.into_iter().find(|it| *it as u64 == phase)?;
        Some(Self { step, phase, n_reports, n_started, cpu: Duration::from_nanos(cpu) })
    }
}

/// A rank that uses less than this share of one core does not compute.
const IDLE_SHARE: f64 = 0.01;

/// Watches another rank.
#[derive(Debug)]
pub(super) struct Watch {
    timeout: Duration,
    /// When [`Self::problem`] was last called.
    checked: Instant,
    /// When the last heartbeat arrived.
    heard: Instant,
    last: Option<Beat>,
    /// When the rank last showed that it works, and the heartbeat with which it did.
    worked: Instant,
    worked_beat: Option<Beat>,
    /// Since when this rank waits for the other.
    waiting: Option<Instant>,
}

impl Watch {
    pub(super) fn start(timeout: Duration, now: Instant) -> Self {
        Self { timeout, checked: now, heard: now, last: None, worked: now, worked_beat: None, waiting: None }
    }

    pub(super) fn record(&mut self, beat: Beat, now: Instant) {
        self.heard = now;
        self.last = Some(beat);
        let works = self.worked_beat.is_none_or(|before| {
            let cpu = beat.cpu.saturating_sub(before.cpu).as_secs_f64();
            (beat.n_reports, beat.n_started) != (before.n_reports, before.n_started)
                || cpu > IDLE_SHARE * (now - self.worked).as_secs_f64()
        });
        if works {
            (self.worked, self.worked_beat) = (now, Some(beat));
        }
    }

    /// Why the rank that is watched counts as failed; a clause such as "sent no heartbeat for 30 s".
    pub(super) fn problem(&mut self, n_started: u64, now: Instant) -> Option<String> {
        if now - self.checked > self.timeout / 2 {
            // This process was stopped itself, and so perhaps the whole job.
            (self.heard, self.worked) = (now, now);
            self.waiting = None;
        }
        self.checked = now;
        let is_behind = self.last.is_some_and(|beat| beat.n_started < n_started);
        self.waiting = is_behind.then(|| self.waiting.unwrap_or(now));

        let place = match self.last {
            Some(beat) => format!("it was {} after step {}", beat.phase, beat.step),
            None => "it has sent none".to_owned(),
        };
        let silent = now - self.heard;
        if silent > self.timeout {
            return Some(format!("sent no heartbeat for {:.1} s ({place})", silent.as_secs_f64()));
        }
        let idle = now - self.waiting?.max(self.worked);
        (idle > self.timeout).then(|| {
            let idle = idle.as_secs_f64();
            format!("has used no CPU time for {idle:.1} s while others wait for it ({place})")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    fn beat(n_started: u64, cpu_ms: u64) -> Beat {
        Beat { step: 7, phase: Phase::Saving, n_reports: 0, n_started, cpu: Duration::from_millis(cpu_ms) }
    }

    /// The problem, if any, within 100 s in which the rank sends `beat(second)` each second.
    fn problem(beat: impl Fn(u64) -> Option<Beat>, n_started: u64) -> Option<(u64, String)> {
        let start = Instant::now();
        let mut watch = Watch::start(TIMEOUT, start);
        (0..100).find_map(|second| {
            let now = start + Duration::from_secs(second);
            if let Some(beat) = beat(second) {
                watch.record(beat, now);
            }
            watch.problem(n_started, now).map(|problem| (second, problem))
        })
    }

    #[test]
    fn beats_survive_as_bytes() {
        let beat = Beat { n_reports: 3, ..beat(9, 1234) };
        assert_eq!(Beat::from_bytes(&beat.to_bytes()), Some(beat));
        assert_eq!(Beat::from_bytes(&[0; 39]), None);
        assert_eq!(Beat::from_bytes(&[]), None);
    }

    #[test]
    fn a_silent_rank_is_reported_with_its_last_place() {
        let (second, text) = problem(|second| (second < 10).then(|| beat(0, 0)), 0).unwrap();
        assert_eq!((second, &*text), (40, "sent no heartbeat for 31.0 s (it was saving after step 7)"));
        let (second, text) = problem(|_| None, 0).unwrap();
        assert_eq!((second, &*text), (31, "sent no heartbeat for 31.0 s (it has sent none)"));
    }

    #[test]
    fn an_idle_rank_hangs_only_if_others_wait_for_it() {
        assert_eq!(problem(|_| Some(beat(4, 500)), 4), None);
        assert_eq!(problem(|_| Some(beat(5, 500)), 4), None, "it waits itself");
        let (second, text) = problem(|_| Some(beat(3, 500)), 4).unwrap();
        assert_eq!(second, 31);
        assert!(text.starts_with("has used no CPU time for 31.0 s while others wait"), "{text}");
    }

    #[test]
    fn a_slow_rank_is_alive_while_it_computes_or_reports() {
        assert_eq!(problem(|second| Some(beat(3, 20 * second)), 4), None, "2 % of a core");
        assert!(problem(|second| Some(beat(3, second)), 4).is_some(), "0.1 % of a core");
        let bursts = |second: u64| Some(beat(3, second / 20 * 1000));
        assert_eq!(problem(bursts, 4), None);
        let reports = |second| Some(Beat { n_reports: second / 20, ..beat(3, 0) });
        assert_eq!(problem(reports, 4), None);
    }

    #[test]
    fn a_rank_that_was_stopped_itself_waits_again() {
        let start = Instant::now();
        let mut watch = Watch::start(TIMEOUT, start);
        let later = start + Duration::from_secs(100);
        assert_eq!(watch.problem(0, later), None);
        assert_eq!(watch.problem(0, later + Duration::from_secs(15)), None);
        assert_eq!(watch.problem(0, later + Duration::from_secs(30)), None);
        assert!(watch.problem(0, later + Duration::from_secs(45)).is_some());
    }
}
