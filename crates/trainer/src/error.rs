//! Errors of training.

use std::{io, path::PathBuf};

use burn::store::RecordError;

/// An error that ends a run. Earlier checkpoints are intact.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(transparent)]
    Dataset(#[from] dataset::Error),
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    #[error("cannot read the training state of a checkpoint")]
    Record(#[from] RecordError),
    #[error("cannot write {}; if the disk is full, free some space and resume from the last checkpoint with --resume", .path.display())]
    Metrics { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Ranks(#[from] ranks::Error),
    #[error(transparent)]
    Gpus(#[from] kernels::GpuGroupError),
    #[error(
        "another training device failed (see the error above); continue from the last checkpoint with --resume, on one \
         device if another is broken"
    )]
    DeviceFailed,
    /// The batch can't be divided equally among the devices.
    #[error(
        "a batch of {batch_size} windows can't be divided equally among {n_devices} devices; make optimizer.batch_size \
         a multiple of {n_devices}"
    )]
    UnevenBatch { batch_size: usize, n_devices: usize },
    #[error(
        "run.shard_optimizer divides optimizer states over processes, but this process trains on {n_devices} devices; start \
         one process for each device with mpirun, or add --set run.shard_optimizer=false"
    )]
    ShardsOfDevices { n_devices: usize },
    #[error(
        "run.sync_interval lets processes train alone between synchronisations, but this process trains on {n_devices} \
         devices; start one process for each device with mpirun, or add --set run.sync_interval=1"
    )]
    LocalStepsOfDevices { n_devices: usize },
    #[error("devices of one process exchange gradients in f32; add --set run.gradient_precision=f32")]
    CollectivePrecision,
    /// The loss or the weights are not finite.
    #[error(
        "training diverged at step {step}: loss {loss}, gradient norm {grad_norm}, learning rate {learning_rate:.2e}; \
         the best weights, of step {best_step}, are kept. Resume from the last checkpoint with --resume and a lower \
         optimizer.learning_rate or optimizer.grad_clip. If it diverges again immediately, start a new run with these \
         settings, with more schedule.warmup_steps, or from the best weights with --init-from"
    )]
    Diverged {
        /// The step at which it was detected.
        step: u64,
        learning_rate: f64,
        /// NaN if the weights are not finite.
        loss: f64,
        grad_norm: f64,
        best_step: u64,
    },
}
