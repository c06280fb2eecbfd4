//! TensorBoard event files: scalars and texts, each at a step.
//!
//! An [`EventWriter`] writes one file for one training session. TensorBoard shows all files of a folder as one run, so
//! [`EventWriter::resume`] adds a file for a resumed run. No file is ever appended to: a record cut off by a crash
//! stays at the end of its file, and readers skip it.
//!
//! ```
//! use std::time::SystemTime;
//! use tensorboard::{EventWriter, What, read_events};
//!
//! # let run = tempfile::tempdir()?;
//! # let run = run.path();
//! let now = SystemTime::now();
//! let mut events = EventWriter::create(run, now)?;
//! events.scalar("loss/train", 20, now, 3.5)?;
//! events.text("sample", 20, now, &tensorboard::verbatim("To be,\nor not"))?;
//! events.flush()?;
//!
//! let written = read_events(events.path())?;
//! assert_eq!(written[0].what, Some(What::FileVersion("brain.Event:2".to_owned())));
//! assert_eq!((written[2].step, written[2].scalar()), (20, Some(("loss/train", 3.5))));
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Values are stored as f32. `tensorboard --logdir FOLDER` shows every folder with event files below FOLDER as a run.

mod event;
mod reader;
mod record;
mod text;
mod writer;

pub use event::{
    Event, PluginData, SessionLog, Summary, SummaryMetadata, SummaryValue, Tensor, TensorShape, Value, What,
};
pub use reader::read_events;
pub use text::verbatim;
pub use writer::EventWriter;
