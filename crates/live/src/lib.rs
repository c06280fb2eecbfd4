//! A live view of a training run on a terminal.
//!
//! A [`Dashboard`] is plain data: curves, formatted values and texts. [`Live`] draws it full-screen from its own
//! thread, a few times a second, and reports key presses. The terminal is restored when the view closes, when the
//! drawing thread panics, and by [`restore`] before a process exits.
//!
//! ```
//! use live::Dashboard;
//! use ratatui::{Terminal, backend::TestBackend};
//!
//! let mut dashboard = Dashboard::new("runs/tiny", "804k parameters");
//! dashboard.training.push(1.0, 4.2);
//! dashboard.training.push(2.0, 3.9);
//! dashboard.say("saved after step 2");
//! let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
//! terminal.draw(|frame| live::draw(&dashboard, frame)).unwrap();
//! ```

mod curve;
mod dashboard;
mod draw;
mod terminal;

pub use curve::Curve;
pub use dashboard::{Dashboard, Sample, Strip};
pub use draw::{draw, sparkline};
pub use terminal::{Key, Live, restore};
