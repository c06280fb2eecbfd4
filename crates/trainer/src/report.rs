//! Reports events to the observer, and metrics also to the run folder.

use std::fs::File;

use checkpoint::{RunFolder, TrainerState};

use crate::{
    Error, Metrics,
    event::{Event, Observer},
    metrics::MetricsLog,
};

pub(crate) struct Report {
    observer: Observer,
    log: MetricsLog,
}

impl Report {
    /// Opens the metrics of a run. Lines after `state` are removed.
    ///
    /// # Errors
    ///
    /// If the file can't be read or written.
    pub(crate) fn open(folder: &RunFolder, state: &TrainerState, observer: Observer) -> Result<Self, Error> {
        let path = folder.metrics_path();
        let log = MetricsLog::open(&path, state).map_err(|source| Error::Metrics { path, source })?;
        Ok(Self { observer, log })
    }

    /// A handle of the metrics file, to flush it to disk.
    ///
    /// # Errors
    ///
    /// If the system has no more file handles.
    pub(crate) fn log_file(&self) -> Result<File, Error> {
        self.log.file().map_err(|source| self.failure(source))
    }

    pub(crate) fn event(&mut self, event: Event<'_>) {
        (self.observer)(event);
    }

    /// Writes a line of metrics and reports it to the observer.
    ///
    /// # Errors
    ///
    /// If the line can't be written.
    pub(crate) fn metrics(&mut self, metrics: &Metrics) -> Result<(), Error> {
        self.log.write(metrics).map_err(|source| self.failure(source))?;
        self.event(Event::Metrics(metrics));
        Ok(())
    }

    fn failure(&self, source: std::io::Error) -> Error {
        Error::Metrics { path: self.log.path().to_owned(), source }
    }
}
