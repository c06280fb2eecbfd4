//! Integration tests of chat templates.

mod golden;
mod hostile;
