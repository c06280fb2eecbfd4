//! TensorBoard event files.

use std::time::SystemTime;

use checkpoint::RunFolder;
use tensorboard::{EventWriter, verbatim};
use trainer::{Metrics, Split};

use crate::Result;

/// The event file of a session. `tensorboard --logdir runs` shows the files of all runs.
#[derive(Debug)]
pub struct EventLog(EventWriter);

impl EventLog {
    /// Creates an event file for a new run, or for a session that resumes after step `resumed_at`.
    ///
    /// # Errors
    ///
    /// If the file can't be written.
    pub fn open(folder: &RunFolder, resumed_at: Option<u64>) -> Result<Self> {
        let now = SystemTime::now();
        let writer = match resumed_at {
            None => EventWriter::create(folder.path(), now)?,
            Some(step) => EventWriter::resume(folder.path(), step, now)?,
        };
        Ok(Self(writer))
    }

    /// Logs a line of metrics as scalars.
    ///
    /// # Errors
    ///
    /// If the file can't be written.
    pub fn measured(&mut self, metrics: &Metrics) -> Result<()> {
        let split = match metrics.split {
            Split::Train => "train",
            Split::Valid => "valid",
        };
        let loss = format!("loss/{split}");
        let values = [
            (loss.as_str(), metrics.loss),
            ("accuracy/valid", metrics.accuracy),
            ("margin/valid", metrics.margin),
            ("learning_rate", metrics.learning_rate),
            ("grad_norm", metrics.grad_norm),
            ("tokens_per_second", metrics.tokens_per_second),
        ];
        let now = SystemTime::now();
        for (tag, value) in values {
            if let Some(value) = value {
                self.0.scalar(tag, metrics.step, now, value)?;
            }
        }
        if metrics.split == Split::Valid {
            self.0.flush()?;
        }
        Ok(())
    }

    /// Logs a sample as text.
    ///
    /// # Errors
    ///
    /// If the file can't be written.
    pub fn sampled(&mut self, step: u64, text: &str) -> Result<()> {
        self.0.text("sample", step, SystemTime::now(), &verbatim(text))?;
        Ok(self.0.flush()?)
    }
}
