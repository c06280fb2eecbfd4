//! Runs that are stopped, and what they leave.

use std::{fs, path::Path};

use checkpoint::{RunFolder, TrainerState, WEIGHTS};
use trainer::{Control, Event, Outcome, Training, train};

use crate::support::{metrics, without_times};

/// Stops at the first event that is the one.
pub(crate) fn run_until(training: Training, is_it: impl Fn(&Event<'_>) -> bool + Send + 'static) -> Outcome {
    let control = Control::new();
    let stop = control.clone();
    let observer = move |event: Event<'_>| {
        if is_it(&event) {
            stop.stop();
        }
    };
    train(training, control, Box::new(observer)).unwrap()
}

/// All that a run leaves, but for times: its last checkpoint, byte for byte, the best weights, the metrics.
#[derive(Debug, PartialEq)]
pub(crate) struct Left {
    pub(crate) state: TrainerState,
    pub(crate) model: Vec<u8>,
    pub(crate) optimizer: Vec<u8>,
    pub(crate) best: Vec<u8>,
    pub(crate) metrics: Vec<trainer::Metrics>,
}

pub(crate) fn left(path: &Path) -> Left {
    let checkpoint = RunFolder::open(path).unwrap().load_checkpoint().unwrap().unwrap();
    Left {
        model: checkpoint.model().unwrap(),
        optimizer: checkpoint.optimizer().unwrap(),
        state: TrainerState { elapsed_seconds: 0.0, ..checkpoint.state },
        best: fs::read(path.join(WEIGHTS)).unwrap(),
        metrics: without_times(metrics(path)),
    }
}
