//! Ctrl-C while samples are generated, and signals to a server.

use std::{
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context;

/// The exit code of a process that Ctrl-C ended: 128 + SIGINT.
pub(crate) const INTERRUPTED: u8 = 130;

/// The first Ctrl-C after [`CtrlC::begin_samples`] ends the samples; any other ends the process.
pub(crate) struct CtrlC {
    is_pressed: Arc<AtomicBool>,
    is_generating: Arc<AtomicBool>,
}

impl CtrlC {
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let ctrl_c = Self { is_pressed: Arc::default(), is_generating: Arc::default() };
        let (is_pressed, is_generating) = (ctrl_c.is_pressed.clone(), ctrl_c.is_generating.clone());
        ctrlc::set_handler(move || {
            let is_second = is_pressed.swap(true, Ordering::SeqCst);
            if is_second || !is_generating.load(Ordering::SeqCst) {
                process::exit(INTERRUPTED.into());
            }
        })
        .context("cannot listen for Ctrl-C")?;
        Ok(ctrl_c)
    }

    pub(crate) fn is_pressed(&self) -> bool {
        self.is_pressed.load(Ordering::SeqCst)
    }

    pub(crate) fn begin_samples(&self) {
        self.is_pressed.store(false, Ordering::SeqCst);
        self.is_generating.store(true, Ordering::SeqCst);
    }

    pub(crate) fn end_samples(&self) {
        self.is_generating.store(false, Ordering::SeqCst);
    }
}

/// Calls a function with the exit code 128 + N for each Ctrl-C or SIGTERM, on a thread of its own.
#[cfg(all(feature = "serve", unix))]
pub(crate) fn on_each_stop_signal(mut act: impl FnMut(u8) + Send + 'static) -> anyhow::Result<()> {
    use signal_hook::{
        consts::{SIGINT, SIGTERM},
        iterator::Signals,
    };

    let mut arriving = Signals::new([SIGINT, SIGTERM]).context("cannot listen for signals")?;
    let listen = move || {
        for signal in arriving.forever() {
            act(128 + u8::try_from(signal).expect("these signals have small numbers"));
        }
    };
    let thread = std::thread::Builder::new().name("signals".to_owned());
    thread.spawn(listen).context("cannot listen for signals")?;
    Ok(())
}

/// Calls a function with the exit code for each Ctrl-C.
#[cfg(all(feature = "serve", not(unix)))]
pub(crate) fn on_each_stop_signal(mut act: impl FnMut(u8) + Send + 'static) -> anyhow::Result<()> {
    ctrlc::set_handler(move || act(INTERRUPTED)).context("cannot listen for Ctrl-C")
}
