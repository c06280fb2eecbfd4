//! What the system asks of a run: to stop, to save.
//!
//! | signal | meaning |
//! |---|---|
//! | SIGINT (Ctrl-C), SIGTERM | finish the step, save, end; a second one ends at once |
//! | SIGUSR1 | save and go on; batch systems send it some time before they stop a job |
//!
//! Windows has Ctrl-C only.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use anyhow::Context;
use trainer::Control;

use crate::console::report;

/// The exit code of a run that Ctrl-C stopped and that can go on: 128 + 2, the number of SIGINT.
const INTERRUPTED: u8 = 130;

/// Which signal stopped the run, if any has.
#[derive(Clone, Default)]
pub(crate) struct Stopped(Arc<AtomicU8>);

impl Stopped {
    /// The exit code that says by what.
    pub(crate) fn exit_code(&self) -> u8 {
        self.by_signal().unwrap_or(INTERRUPTED)
    }

    /// The exit code, if there was a signal.
    pub(crate) fn by_signal(&self) -> Option<u8> {
        Some(self.0.load(Ordering::SeqCst)).filter(|&code| code != 0)
    }

    /// Stops the run, or ends the process if it is being stopped already.
    fn stop(&self, control: &Control, code: u8) {
        if self.0.swap(code, Ordering::SeqCst) != 0 {
            std::process::exit(i32::from(code));
        }
        report(format_args!("\nstopping after this step; once more to stop at once and lose it"));
        control.stop();
    }
}

/// Passes signals on to a run, from a thread of its own.
#[cfg(unix)]
pub(crate) fn pass_on(control: &Control) -> anyhow::Result<Stopped> {
    use signal_hook::{
        consts::{SIGINT, SIGTERM, SIGUSR1},
        iterator::Signals,
    };

    let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1]).context("listen for signals")?;
    let stopped = Stopped::default();
    let (control, told) = (control.clone(), stopped.clone());
    let listen = move || {
        for signal in signals.forever() {
            if signal == SIGUSR1 {
                report(format_args!("saving after this step"));
                control.save();
            } else {
                let number = u8::try_from(signal).expect("the two signals have small numbers");
                told.stop(&control, 128 + number);
            }
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(listen).context("listen for signals")?;
    Ok(stopped)
}

/// Passes Ctrl-C on to a run.
#[cfg(not(unix))]
pub(crate) fn pass_on(control: &Control) -> anyhow::Result<Stopped> {
    let stopped = Stopped::default();
    let (control, told) = (control.clone(), stopped.clone());
    ctrlc::set_handler(move || told.stop(&control, INTERRUPTED)).context("listen for Ctrl-C")?;
    Ok(stopped)
}
