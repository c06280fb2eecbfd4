//! Pictures of a run's losses and TensorBoard's event files, while the run goes on.

use checkpoint::RunFolder;
use clap::ValueEnum;
use journal::{EventLog, update_pictures};
use trainer::{Metrics, Split};

use crate::console::warn;

/// A form of log beside `metrics.jsonl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Log {
    /// Event files in the run's folder, which `tensorboard --logdir runs` shows.
    Tensorboard,
    /// None.
    None,
}

/// Pictures and events of one run, until they are ended.
pub(crate) struct Views {
    folder: RunFolder,
    events: Option<EventLog>,
    has_ended: bool,
}

impl Views {
    /// For a new run, or for a session that resumes after a step. Without an event file, if none can be made.
    pub(crate) fn open(folder: &RunFolder, resumed_at: Option<u64>, log: Log) -> Self {
        let events = match log {
            Log::None => None,
            Log::Tensorboard => EventLog::open(folder, resumed_at)
                .map_err(|error| {
                    let path = folder.path().display();
                    warn(format_args!("there is no event file for TensorBoard in {path}: {error}"));
                })
                .ok(),
        };
        Self { folder: folder.clone(), events, has_ended: false }
    }

    /// Adds a line of metrics; after an evaluation the pictures are drawn again.
    pub(crate) fn measured(&mut self, metrics: &Metrics) -> journal::Result<()> {
        if self.has_ended {
            return Ok(());
        }
        if let Some(events) = &mut self.events {
            events.measured(metrics)?;
        }
        if metrics.split == Split::Valid {
            update_pictures(&self.folder)?;
        }
        Ok(())
    }

    /// Adds a sample.
    pub(crate) fn sampled(&mut self, step: u64, text: &str) -> journal::Result<()> {
        match &mut self.events {
            Some(events) if !self.has_ended => events.sampled(step, text),
            _ => Ok(()),
        }
    }

    /// Leaves everything as it is from now on.
    pub(crate) fn end(&mut self) {
        self.has_ended = true;
    }
}
