//! Signals that stop or save a training run.
//!
//! | signal | meaning |
//! |---|---|
//! | SIGINT (Ctrl-C), SIGTERM | finish the step, save and exit; before training, exit immediately |
//! | SIGHUP: the terminal was closed | the same, unless ignored, as under `nohup` |
//! | SIGQUIT | restore the terminal and exit immediately |
//! | SIGUSR1 | save and continue; batch systems send it some time before they stop a job |
//!
//! Signals within a second of the first count as the same request, since `timeout` and terminals send several. A later
//! one exits immediately.
//!
//! Windows has only Ctrl-C.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::Context;
use console::report;
use trainer::Control;

/// The exit code of a resumable run that Ctrl-C stopped: 128 + 2, the number of SIGINT.
const INTERRUPTED: u8 = 130;

/// Signals within this time of the first count as the same request.
const SAME_REQUEST: Duration = Duration::from_secs(1);

/// Receives signals and forwards them to the run.
#[derive(Clone, Default)]
pub(crate) struct Signals {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The run, once it has started.
    control: Option<Control>,
    first: Option<Request>,
}

/// The first request to stop.
#[derive(Clone, Copy)]
struct Request {
    exit_code: u8,
    arrived: Instant,
}

/// The response to a request to stop.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    FinishStep,
    /// Part of the first request.
    Ignore,
    ExitNow,
}

impl State {
    fn answer(&self, now: Instant) -> Answer {
        match (self.first, &self.control) {
            (Some(first), _) if now.duration_since(first.arrived) < SAME_REQUEST => Answer::Ignore,
            (None, Some(_)) => Answer::FinishStep,
            _ => Answer::ExitNow,
        }
    }
}

impl Signals {
    /// Starts listening for signals.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let signals = Self::default();
        signals.clone().start()?;
        Ok(signals)
    }

    /// Forwards signals to a run from now on.
    pub(crate) fn forward_to(&self, control: &Control) {
        self.state().control = Some(control.clone());
    }

    /// The exit code for the signal, or the equivalent key, that stopped the run.
    pub(crate) fn exit_code(&self) -> u8 {
        self.by_signal().unwrap_or(INTERRUPTED)
    }

    /// The exit code, if a signal arrived.
    pub(crate) fn by_signal(&self) -> Option<u8> {
        self.state().first.map(|first| first.exit_code)
    }

    /// Acts like Ctrl-C.
    pub(crate) fn interrupt(&self) {
        self.stop(INTERRUPTED);
    }

    /// Acts like the first Ctrl-C, however often it is called: the run is always saved.
    pub(crate) fn stop_gently(&self) {
        if self.by_signal().is_none() {
            self.stop(INTERRUPTED);
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it is held")
    }

    /// Stops the run. Exits the process if no run has started, or if it is already stopping.
    fn stop(&self, exit_code: u8) {
        let arrived = Instant::now();
        let mut state = self.state();
        let answer = state.answer(arrived);
        state.first.get_or_insert(Request { exit_code, arrived });
        match (answer, &state.control) {
            (Answer::FinishStep, Some(control)) => {
                report(format_args!(
                    "\nfinishing this step and saving; press Ctrl-C again after a second to quit without saving"
                ));
                control.stop();
            }
            (Answer::Ignore, _) => {}
            (Answer::ExitNow | Answer::FinishStep, _) => {
                live::restore();
                std::process::exit(i32::from(exit_code));
            }
        }
    }

    /// Saves a checkpoint of the run, if it has started.
    #[cfg(unix)]
    fn save(&self) {
        match &self.state().control {
            Some(control) => {
                report(format_args!("saving after this step"));
                control.save();
            }
            None => report(format_args!("training has not started: nothing to save")),
        }
    }

    /// Starts the thread that listens.
    #[cfg(unix)]
    fn start(self) -> anyhow::Result<()> {
        use signal_hook::{
            consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1},
            iterator,
            low_level::emulate_default_handler,
        };

        let mut arriving = iterator::Signals::new([SIGINT, SIGQUIT, SIGTERM, SIGUSR1])
            .context("cannot listen for signals")?;
        if !is_hangup_ignored() {
            arriving.add_signal(SIGHUP).context("cannot listen for signals")?;
        }
        let listen = move || {
            for signal in arriving.forever() {
                match signal {
                    SIGUSR1 => self.save(),
                    SIGQUIT => {
                        live::restore();
                        let _ = emulate_default_handler(SIGQUIT); // It does not return.
                    }
                    _ => self.stop(128 + u8::try_from(signal).expect("these signals have small numbers")),
                }
            }
        };
        let thread = std::thread::Builder::new().name("signals".to_owned());
        thread.spawn(listen).context("cannot listen for signals")?;
        Ok(())
    }

    /// Starts listening for Ctrl-C.
    #[cfg(not(unix))]
    fn start(self) -> anyhow::Result<()> {
        ctrlc::set_handler(move || self.stop(INTERRUPTED)).context("cannot listen for Ctrl-C")
    }
}

/// Whether this process was started with SIGHUP ignored, as `nohup` does.
#[cfg(unix)]
#[expect(unsafe_code, reason = "the action of a signal can only be read through the C library")]
fn is_hangup_ignored() -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action, the call writes the current one to `action`, which is valid for it, and changes
    // nothing else. A zeroed action is a valid one.
    unsafe {
        libc::sigaction(libc::SIGHUP, std::ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_within_a_second_are_one_request_and_a_later_one_exits() {
        let start = Instant::now();
        let mut state = State { control: Some(Control::new()), first: None };
        assert_eq!(state.answer(start), Answer::FinishStep);
        state.first = Some(Request { exit_code: INTERRUPTED, arrived: start });
        for (later_ms, answer) in [(0, Answer::Ignore), (999, Answer::Ignore), (1000, Answer::ExitNow)] {
            assert_eq!(state.answer(start + Duration::from_millis(later_ms)), answer, "{later_ms} ms");
        }
    }

    #[test]
    fn before_training_a_signal_exits_immediately() {
        assert_eq!(State::default().answer(Instant::now()), Answer::ExitNow);
    }
}
