//! What a run leaves for those who look at it with other eyes: pictures of its losses, and TensorBoard's events.

use std::time::SystemTime;

use checkpoint::RunFolder;
use clap::ValueEnum;
use tensorboard::{EventWriter, verbatim};
use trainer::{Metrics, Split};

use crate::{console::warn, plot::update_pictures};

/// A form of log beside `metrics.jsonl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Log {
    /// Event files in the run's folder, which `tensorboard --logdir runs` shows.
    Tensorboard,
    /// None.
    None,
}

/// Pictures and events of one run, while it goes on.
pub(crate) struct Views {
    folder: RunFolder,
    events: Option<EventWriter>,
    has_ended: bool,
}

impl Views {
    /// For a session that goes on from a step, or for a new run. Without an event file, if none can be made.
    pub(crate) fn open(folder: &RunFolder, resumed_at: Option<u64>, log: Log) -> Self {
        let now = SystemTime::now();
        let writer = match (log, resumed_at) {
            (Log::None, _) => Ok(None),
            (Log::Tensorboard, None) => EventWriter::create(folder.path(), now).map(Some),
            (Log::Tensorboard, Some(step)) => EventWriter::resume(folder.path(), step, now).map(Some),
        };
        let events = writer.unwrap_or_else(|error| {
            let path = folder.path().display();
            warn(format_args!("there is no event file for TensorBoard in {path}: {error}"));
            None
        });
        Self { folder: folder.clone(), events, has_ended: false }
    }

    /// Takes in a line of metrics; after an evaluation the pictures are drawn again.
    pub(crate) fn measured(&mut self, metrics: &Metrics) -> anyhow::Result<()> {
        if self.has_ended {
            return Ok(());
        }
        if let Some(events) = &mut self.events {
            let split = match metrics.split {
                Split::Train => "train",
                Split::Valid => "valid",
            };
            let loss = format!("loss/{split}");
            let values = [
                (loss.as_str(), metrics.loss),
                ("learning_rate", metrics.learning_rate),
                ("grad_norm", metrics.grad_norm),
                ("tokens_per_second", metrics.tokens_per_second),
            ];
            let now = SystemTime::now();
            for (tag, value) in values {
                if let Some(value) = value {
                    events.scalar(tag, metrics.step, now, value)?;
                }
            }
        }
        if metrics.split == Split::Valid {
            if let Some(events) = &mut self.events {
                events.flush()?;
            }
            update_pictures(&self.folder)?;
        }
        Ok(())
    }

    /// Takes in a sample.
    pub(crate) fn sampled(&mut self, step: u64, text: &str) -> anyhow::Result<()> {
        match &mut self.events {
            Some(events) if !self.has_ended => {
                events.text("sample", step, SystemTime::now(), &verbatim(text))?;
                Ok(events.flush()?)
            }
            _ => Ok(()),
        }
    }

    /// Leaves everything as it is from now on.
    pub(crate) fn end(&mut self) {
        self.has_ended = true;
    }
}
