//! What the system asks of a run: to stop, to save.
//!
//! | signal | meaning |
//! |---|---|
//! | SIGINT (Ctrl-C), SIGTERM | finish the step, save, end; a second one, or one before training, ends at once |
//! | SIGHUP, on a terminal: it was closed | the same |
//! | SIGQUIT | ends at once, and gives the terminal back first |
//! | SIGUSR1 | save and go on; batch systems send it some time before they stop a job |
//!
//! Windows has Ctrl-C only.

use std::{
    io::{self, IsTerminal},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
};

use anyhow::Context;
use trainer::Control;

use crate::console::report;

/// The exit code of a run that Ctrl-C stopped and that can go on: 128 + 2, the number of SIGINT.
const INTERRUPTED: u8 = 130;

/// Listens for signals, and passes them on.
#[derive(Clone, Default)]
pub(crate) struct Signals {
    /// The run, once there is one.
    control: Arc<Mutex<Option<Control>>>,
    /// The exit code of the signal that stopped it, or 0.
    code: Arc<AtomicU8>,
}

impl Signals {
    /// From now on.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let signals = Self::default();
        signals.clone().start()?;
        Ok(signals)
    }

    /// Passes them on to a run.
    pub(crate) fn pass_on(&self, control: &Control) {
        *self.control.lock().expect("nothing panics while it is held") = Some(control.clone());
    }

    /// The exit code that says by which signal the run was stopped, or by a key that means the same.
    pub(crate) fn exit_code(&self) -> u8 {
        self.by_signal().unwrap_or(INTERRUPTED)
    }

    /// The exit code, if there was a signal.
    pub(crate) fn by_signal(&self) -> Option<u8> {
        Some(self.code.load(Ordering::SeqCst)).filter(|&code| code != 0)
    }

    /// As Ctrl-C.
    pub(crate) fn interrupt(&self) {
        self.stop(INTERRUPTED);
    }

    /// As Ctrl-C, but however often it is asked for, what is done is saved.
    pub(crate) fn stop_gently(&self) {
        if self.by_signal().is_none() {
            self.stop(INTERRUPTED);
        }
    }

    /// Stops the run. If there is none yet, or it is being stopped already, ends the process.
    fn stop(&self, code: u8) {
        let is_second = self.code.swap(code, Ordering::SeqCst) != 0;
        match &*self.control.lock().expect("nothing panics while it is held") {
            Some(control) if !is_second => {
                report(format_args!("\nstopping after this step; once more to stop at once"));
                control.stop();
            }
            _ => {
                live::restore();
                std::process::exit(i32::from(code));
            }
        }
    }

    /// Has the run saved, if there is one.
    #[cfg(unix)]
    fn save(&self) {
        match &*self.control.lock().expect("nothing panics while it is held") {
            Some(control) => {
                report(format_args!("saving after this step"));
                control.save();
            }
            None => report(format_args!("training has not begun: there is nothing to save")),
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

        let mut arriving =
            iterator::Signals::new([SIGINT, SIGQUIT, SIGTERM, SIGUSR1]).context("listen for signals")?;
        // Without a terminal it is `nohup` that has it ignored, and so it stays.
        if io::stderr().is_terminal() {
            arriving.add_signal(SIGHUP).context("listen for signals")?;
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
        std::thread::Builder::new().name("signals".to_owned()).spawn(listen).context("listen for signals")?;
        Ok(())
    }

    /// Starts listening for Ctrl-C.
    #[cfg(not(unix))]
    fn start(self) -> anyhow::Result<()> {
        ctrlc::set_handler(move || self.stop(INTERRUPTED)).context("listen for Ctrl-C")
    }
}
