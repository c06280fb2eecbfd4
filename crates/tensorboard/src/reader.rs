//! Reads event files.

use std::{
    fs,
    io::{self, ErrorKind},
    path::Path,
};

use prost::Message;

use crate::{
    Event,
    record::{Record, read_record},
};

/// Reads all events of one file, in order.
///
/// Like TensorBoard, it skips a last record that a crash cut off.
///
/// # Errors
///
/// If the file can't be read; of kind `InvalidData` if a record before the end is damaged or not an event.
pub fn read_events(path: &Path) -> io::Result<Vec<Event>> {
    let bytes = fs::read(path)?;
    let mut left = bytes.as_slice();
    let mut events = Vec::new();
    loop {
        let damaged = |what: &str| {
            let offset = bytes.len() - left.len();
            let message = format!("the record at byte {offset} of {} {what}", path.display());
            io::Error::new(ErrorKind::InvalidData, message)
        };
        match read_record(left) {
            Record::Whole { payload, rest } => {
                events.push(
                    Event::decode(payload).map_err(|error| damaged(&format!("is not an event: {error}")))?,
                );
                left = rest;
            }
            Record::Torn => return Ok(events),
            Record::Damaged => return Err(damaged("is damaged: checksum mismatch")),
        }
    }
}
