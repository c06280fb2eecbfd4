//! Event files of TensorBoard: scalars and texts, each at a step.
//!
//! An [`EventWriter`] makes one file, for one session of training. TensorBoard shows the files of a folder as one
//! run, so a run that is gone on with gets another file beside the first, by [`EventWriter::resume`], and no file is
//! ever appended to: what a crash tore off at the end of one stays there, and is left out by whoever reads it.
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
//! Values are f32 in a file, whatever they were before. `tensorboard --logdir FOLDER` shows every folder of events
//! below FOLDER as a run.

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
