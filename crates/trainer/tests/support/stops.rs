//! Runs that are stopped, and the files that they write.

use std::{fs, path::Path};

use checkpoint::{RunFolder, TrainerState, WEIGHTS};
use trainer::{Control, Event, Outcome, Training, train};

use crate::support::{metrics, without_times};

/// Trains until the first event for which `should_stop` is true.
pub(crate) fn run_until(
    training: Training,
    should_stop: impl Fn(&Event<'_>) -> bool + Send + 'static,
) -> Outcome {
    let control = Control::new();
    let stop = control.clone();
    let observer = move |event: Event<'_>| {
        if should_stop(&event) {
            stop.stop();
        }
    };
    train(training, control, Box::new(observer)).unwrap()
}

/// The files of a run without times: the last checkpoint, the best weights and the metrics.
#[derive(Debug, PartialEq)]
pub(crate) struct Artifacts {
    pub(crate) state: TrainerState,
    pub(crate) model: Vec<u8>,
    pub(crate) optimizer: Vec<u8>,
    pub(crate) best: Vec<u8>,
    pub(crate) metrics: Vec<trainer::Metrics>,
}

pub(crate) fn artifacts(path: &Path) -> Artifacts {
    let checkpoint = RunFolder::open(path).unwrap().load_checkpoint().unwrap().unwrap();
    Artifacts {
        model: checkpoint.model().unwrap(),
        optimizer: checkpoint.optimizer().unwrap(),
        state: TrainerState { elapsed_seconds: 0.0, ..checkpoint.state },
        best: fs::read(path.join(WEIGHTS)).unwrap(),
        metrics: without_times(metrics(path)),
    }
}
