//! Writes event files.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use prost::Message;

use crate::{
    Event, PluginData, SessionLog, Summary, SummaryMetadata, SummaryValue, Tensor, TensorShape, Value, What,
    record::write_record,
};

/// Prefix by which TensorBoard recognises event files. The number after it orders them.
const NAME: &str = "events.out.tfevents.";
/// The format version that supports [`SessionLog::START`].
const FILE_VERSION: &str = "brain.Event:2";

/// Writes the event file of one session.
///
/// Output is buffered: it reaches the file on `flush`, when the buffer is full, and on drop, which ignores errors.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: BufWriter<File>,
}

impl EventWriter {
    /// Creates the first file of a run. Creates the folder if it does not exist.
    ///
    /// If the folder has event files already, as when a run is restarted, TensorBoard drops their events. The name is
    /// `events.out.tfevents.SECONDS.HOST` with the Unix time of `started`. If that is not after all existing files,
    /// SECONDS is one more than the last one's, since TensorBoard reads files in the order of their names.
    pub fn create(folder: &Path, started: SystemTime) -> io::Result<Self> {
        Self::start_session(folder, 0, started)
    }

    /// Creates another file for a run that resumes after `step`, named as by [`create`](Self::create).
    ///
    /// It makes TensorBoard drop earlier events of steps after `step`. TensorBoard's fast loader ignores the marker: it
    /// drops the later values of a tag at the first value that is written again.
    pub fn resume(folder: &Path, step: u64, started: SystemTime) -> io::Result<Self> {
        Self::start_session(folder, step.saturating_add(1), started)
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a scalar as f32; a larger value becomes infinite.
    ///
    /// TensorBoard groups scalars by the part of the tag before the first `/`.
    pub fn scalar(&mut self, tag: &str, step: u64, wall_time: SystemTime, value: f64) -> io::Result<()> {
        #[expect(clippy::cast_possible_truncation, reason = "TensorBoard stores scalars as f32")]
        let value = Value::Scalar(value as f32);
        self.summary(
            step,
            wall_time,
            SummaryValue { tag: tag.to_owned(), metadata: None, value: Some(value) },
        )
    }

    /// Writes a text, which TensorBoard renders as Markdown. For plain text, use [`verbatim`](crate::verbatim).
    pub fn text(&mut self, tag: &str, step: u64, wall_time: SystemTime, markdown: &str) -> io::Result<()> {
        let plugin_data = PluginData { plugin_name: "text".to_owned() };
        let text = Tensor {
            dtype: Tensor::STRING,
            shape: Some(TensorShape {}),
            strings: vec![markdown.as_bytes().to_vec()],
        };
        let value = SummaryValue {
            tag: tag.to_owned(),
            metadata: Some(SummaryMetadata { plugin_data: Some(plugin_data) }),
            value: Some(Value::Tensor(text)),
        };
        self.summary(step, wall_time, value)
    }

    /// Writes buffered events to the file, so that a running TensorBoard sees them.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    /// Creates a file that makes TensorBoard drop earlier events from `first_step` on.
    fn start_session(folder: &Path, first_step: u64, started: SystemTime) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let path = folder.join(name(folder, started)?);
        let file = BufWriter::new(File::create_new(&path)?);
        let mut writer = Self { path, file };
        writer.write(0, started, What::FileVersion(FILE_VERSION.to_owned()))?;
        // Needed in every file: the first START that TensorBoard finds drops nothing, only later ones do.
        writer.write(first_step, started, What::SessionLog(SessionLog { status: SessionLog::START }))?;
        writer.flush()?;
        Ok(writer)
    }

    fn summary(&mut self, step: u64, wall_time: SystemTime, value: SummaryValue) -> io::Result<()> {
        self.write(step, wall_time, What::Summary(Summary { values: vec![value] }))
    }

    fn write(&mut self, step: u64, wall_time: SystemTime, what: What) -> io::Result<()> {
        let event = Event { wall_time: unix_seconds(wall_time), step, what: Some(what) };
        write_record(&mut self.file, &event.encode_to_vec())
    }
}

/// The name of a new file, which sorts after all existing ones.
fn name(folder: &Path, started: SystemTime) -> io::Result<String> {
    let mut seconds = started.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    for entry in fs::read_dir(folder)? {
        if let Some(earlier) = seconds_of_name(&entry?.file_name()) {
            seconds = seconds.max(earlier.saturating_add(1));
        }
    }
    let host = gethostname::gethostname();
    Ok(format!("{NAME}{seconds:010}.{}", host.display()))
}

fn seconds_of_name(name: &OsStr) -> Option<u64> {
    name.to_str()?.strip_prefix(NAME)?.split('.').next()?.parse().ok()
}

/// Unix time in seconds; negative before 1970.
fn unix_seconds(time: SystemTime) -> f64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_secs_f64(),
        Err(before) => -before.duration().as_secs_f64(),
    }
}
