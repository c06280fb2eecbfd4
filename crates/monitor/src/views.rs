//! Pictures of a run's losses and TensorBoard's event files, while the run goes on.

use checkpoint::RunFolder;
use console::warn;
use journal::{EventLog, update_pictures};
use trainer::{Metrics, Split};

/// Pictures and events of one run, until they are ended.
pub struct Views {
    folder: RunFolder,
    events: Option<EventLog>,
    has_ended: bool,
}

impl Views {
    /// For a new run, or for a session that resumes after a step. Without event files, if none are wanted or none can be made.
    pub fn open(folder: &RunFolder, resumed_at: Option<u64>, has_events: bool) -> Self {
        let events = match has_events {
            false => None,
            true => EventLog::open(folder, resumed_at)
                .map_err(|error| {
                    let path = folder.path().display();
                    warn(format_args!("there is no event file for TensorBoard in {path}: {error}"));
                })
                .ok(),
        };
        Self { folder: folder.clone(), events, has_ended: false }
    }

    /// Adds a line of metrics; after an evaluation the pictures are drawn again.
    ///
    /// # Errors
    ///
    /// If a file can't be written.
    pub fn measured(&mut self, metrics: &Metrics) -> journal::Result<()> {
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
    ///
    /// # Errors
    ///
    /// If a file can't be written.
    pub fn sampled(&mut self, step: u64, text: &str) -> journal::Result<()> {
        match &mut self.events {
            Some(events) if !self.has_ended => events.sampled(step, text),
            _ => Ok(()),
        }
    }

    /// Leaves everything as it is from now on.
    pub fn end(&mut self) {
        self.has_ended = true;
    }
}
