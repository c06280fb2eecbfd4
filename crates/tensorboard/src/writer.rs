//! A new event file, and what is written into it.

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

/// TensorBoard takes a file for one of events by this, and the older of two by the number behind it.
const NAME: &str = "events.out.tfevents.";
/// The format in which [`SessionLog::START`] has a meaning.
const FILE_VERSION: &str = "brain.Event:2";

/// Writes the event file of one session.
///
/// What is written goes to the file when it is flushed, when there is much of it, and when the writer is dropped,
/// which ignores errors.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: BufWriter<File>,
}

impl EventWriter {
    /// Begins the first file of a run, in a folder that is made if it is not there.
    ///
    /// If the folder has files already, as when a run is begun anew, TensorBoard drops all that they say. The name
    /// is `events.out.tfevents.SECONDS.HOST` with the seconds from 1970 to `started`, or with the second behind the
    /// last of the files that are there, since TensorBoard reads them in the order of their names.
    pub fn create(folder: &Path, started: SystemTime) -> io::Result<Self> {
        Self::begin(folder, 0, started)
    }

    /// Begins another file, for a run that goes on after `step`, named as by [`create`](Self::create).
    ///
    /// It has TensorBoard drop what the earlier files say of later steps; what they say of `step` and of those
    /// before it stays. TensorBoard's fast loader takes no notice of that: it drops the later values of a tag when
    /// it gets to the first one that was written again.
    pub fn resume(folder: &Path, step: u64, started: SystemTime) -> io::Result<Self> {
        Self::begin(folder, step.saturating_add(1), started)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one value of a curve, as f32: one that is too large for it is infinite in the file.
    ///
    /// TensorBoard groups curves by what stands before the first `/` of their tags.
    pub fn scalar(&mut self, tag: &str, step: u64, wall_time: SystemTime, value: f64) -> io::Result<()> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "TensorBoard has f32 for scalars, which is said above"
        )]
        let value = Value::Scalar(value as f32);
        self.summary(
            step,
            wall_time,
            SummaryValue { tag: tag.to_owned(), metadata: None, value: Some(value) },
        )
    }

    /// Writes a text, which TensorBoard takes for Markdown; [`verbatim`](crate::verbatim) is for one that is none.
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

    /// Hands what was written to the system, so that a TensorBoard that runs meanwhile sees it.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    /// Begins a file that drops what is known of `first_step` and the steps behind it.
    fn begin(folder: &Path, first_step: u64, started: SystemTime) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let path = folder.join(name(folder, started)?);
        let file = BufWriter::new(File::create_new(&path)?);
        let mut writer = Self { path, file };
        writer.write(0, started, What::FileVersion(FILE_VERSION.to_owned()))?;
        // In every file: the first start that TensorBoard finds drops nothing, only those after it do.
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

/// The name of a new file: behind all that are there, in the order in which TensorBoard reads them.
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

/// Seconds since the beginning of 1970; negative before it.
fn unix_seconds(time: SystemTime) -> f64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_secs_f64(),
        Err(before) => -before.duration().as_secs_f64(),
    }
}
