//! What a run leaves for its readers: its history, samples, charts, TensorBoard's event files and the model card.
//!
//! Nothing here prints; what is written goes into the run's folder.
//!
//! ```
//! use journal::words;
//!
//! assert_eq!(words::plural(words::count(804_096), "parameter"), "804k parameters");
//! ```

mod card;
mod charts;
mod events;
mod history;
mod parts;
mod samples;
mod standing;

mod error;
pub mod words;

pub use card::write_card;
pub use charts::{Metric, Picture, chart, update_pictures};
pub use error::{Error, Result};
pub use events::EventLog;
pub use history::History;
pub use parts::{in_words as parts_in_words, parts};
pub use samples::{LAST_SAMPLE_TOKENS, SAMPLE_TOKENS, SampleLog, sample};
pub use standing::{Standing, standing};
