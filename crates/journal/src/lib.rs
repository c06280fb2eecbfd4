//! Records of a training run: its history, samples, charts, TensorBoard event files and the model card.
//!
//! This crate does not print. All files go to the run folder.
//!
//! ```
//! use journal::summary;
//!
//! assert_eq!(summary::plural(summary::count(804_096), "parameter"), "804k parameters");
//! ```

mod answers;
mod architecture;
mod card;
mod charts;
mod events;
mod history;
mod loss_trend;
mod samples;

mod error;
pub mod summary;

pub use answers::{ANSWER_TOKENS, Answer, N_QUESTIONS, Questions};
pub use architecture::{architecture_options, describe_options};
pub use card::write_card;
pub use charts::{ImageFormat, Metric, chart, update_loss_charts};
pub use error::{Error, Result};
pub use events::EventLog;
pub use history::History;
pub use loss_trend::{LossTrend, loss_trend};
pub use samples::{LAST_SAMPLE_TOKENS, SAMPLE_TOKENS, SampleLog, sample};
