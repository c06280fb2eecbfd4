//! Loss charts and TensorBoard event files, updated during a run.

use checkpoint::RunFolder;
use console::warn;
use journal::{EventLog, update_loss_charts};
use trainer::{Metrics, Split};

/// The loss charts and the event file of a run.
pub struct ChartFiles {
    folder: RunFolder,
    events: Option<EventLog>,
    is_disabled: bool,
}

impl ChartFiles {
    /// For a new run, or for a session that resumes after step `resumed_at`. If an event file is requested but can't be
    /// created, this prints a warning and continues without one.
    pub fn open(folder: &RunFolder, resumed_at: Option<u64>, with_events: bool) -> Self {
        let events = match with_events {
            false => None,
            true => EventLog::open(folder, resumed_at)
                .map_err(|error| {
                    let path = folder.path().display();
                    warn(format_args!("cannot create a TensorBoard event file in {path}: {error}"));
                })
                .ok(),
        };
        Self { folder: folder.clone(), events, is_disabled: false }
    }

    /// Logs a line of metrics. After an evaluation, the charts are drawn again.
    ///
    /// # Errors
    ///
    /// If a file can't be written.
    pub fn measured(&mut self, metrics: &Metrics) -> journal::Result<()> {
        if self.is_disabled {
            return Ok(());
        }
        if let Some(events) = &mut self.events {
            events.measured(metrics)?;
        }
        if metrics.split == Split::Valid {
            update_loss_charts(&self.folder)?;
        }
        Ok(())
    }

    /// Logs a sample.
    ///
    /// # Errors
    ///
    /// If a file can't be written.
    pub fn sampled(&mut self, step: u64, text: &str) -> journal::Result<()> {
        match &mut self.events {
            Some(events) if !self.is_disabled => events.sampled(step, text),
            _ => Ok(()),
        }
    }

    /// Stops updating the files.
    pub fn disable(&mut self) {
        self.is_disabled = true;
    }
}
