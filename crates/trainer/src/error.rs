//! Errors of a run.

use std::{io, path::PathBuf};

use burn::store::RecordError;

use crate::process_group::Left;

/// Why a run ended before its time. Checkpoints written before are intact.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The data can't be used as the recipe says.
    #[error(transparent)]
    Dataset(#[from] dataset::Error),
    /// The run folder can't be read or written.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// Weights or optimizer state can't be read.
    #[error("cannot read the training state of a checkpoint")]
    Record(#[from] RecordError),
    /// Metrics can't be written.
    #[error("cannot write {}; if the disk is full, free some space and resume from the last checkpoint with --resume", .path.display())]
    Metrics {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another device has stopped.
    #[error(
        "another training device failed (see the error above); continue from the last checkpoint with --resume, on one \
         device if another is broken"
    )]
    DeviceLeft,
    /// Devices can't have equal shares of a batch.
    #[error(
        "a batch of {batch_size} windows has no equal shares for {n_devices} devices; make optimizer.batch_size a multiple \
         of {n_devices}"
    )]
    Shares {
        /// Windows of a batch.
        batch_size: usize,
        /// Devices that share it.
        n_devices: usize,
    },
    /// The loss is no number any more.
    #[error(
        "training has diverged at step {step}: loss {loss}, gradient norm {grad_norm}, learning rate \
         {learning_rate:.2e}; the best weights are kept, those of step {best_step}. Continue from the last checkpoint with \
         --resume and a lower optimizer.learning_rate or optimizer.grad_clip. If that diverges at once, start a new run \
         with these, with more schedule.warmup_steps, or from the best weights with --init-from"
    )]
    Diverged {
        /// The step it was noticed at.
        step: u64,
        /// The rate of that step.
        learning_rate: f64,
        /// Its loss, or NaN if the weights themselves are lost.
        loss: f64,
        /// The norm of its gradient.
        grad_norm: f64,
        /// The step of the best weights.
        best_step: u64,
    },
}

impl From<Left> for Error {
    fn from(Left: Left) -> Self {
        Self::DeviceLeft
    }
}
