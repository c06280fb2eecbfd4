//! Ctrl-C while samples are generated.

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
