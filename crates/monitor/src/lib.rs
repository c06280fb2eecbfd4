//! Displays a training run as progress lines or as a live view, and the progress of preparing data. During a run, it
//! updates the loss charts and TensorBoard event files.

mod chart_files;
mod data_progress;
mod lines;
mod live_view;
mod observer;
mod run_end;
mod run_start;
mod screen;

pub use chart_files::ChartFiles;
pub use data_progress::with_progress;
pub use lines::{BarGuard, Lines};
pub use live_view::{Key, LiveView, TerminalGuard};
pub use observer::Observer;
pub use run_end::{conclude, longer_run_options, print_resume_hint, resume_command};
pub use run_start::{
    announce, report_ambiguous_name, report_data, warn_of_chats, warn_of_epochs, warn_of_precision,
    warn_of_special_tokens,
};
pub use screen::Screen;
