//! What a person sees of long work: a training run as lines or as a live view, and the progress of data that is prepared.
//! Beside a run, its pictures and event files are kept up to date.

mod after;
mod before;
mod data;
mod lines;
mod live_view;
mod observer;
mod screen;
mod views;

pub use after::{conclude, further, print_resume_hint, resume_command};
pub use before::{announce, report_data, report_name, warn_of_epochs, warn_of_precision};
pub use data::with_progress;
pub use lines::{AboveBar, Lines};
pub use live_view::{Key, LiveView, OnTerminal};
pub use observer::Observer;
pub use screen::Screen;
pub use views::Views;
