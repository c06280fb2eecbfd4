//! Event files of a run over several sessions.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking; clippy.toml sees no test in a helper")]

use std::{
    fs::{self, File},
    io::ErrorKind,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tensorboard::{Event, EventWriter, SessionLog, What, read_events};

const STARTED_SECONDS: u64 = 1_700_000_000;

fn started() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(STARTED_SECONDS)
}

fn write_losses(mut events: EventWriter, steps: &[u64]) {
    for &step in steps {
        events.scalar("loss/train", step, started(), 0.5).unwrap();
    }
}

/// The events of all files, in TensorBoard's order.
fn events_of(folder: &Path) -> Vec<Event> {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().flat_map(|path| read_events(path).unwrap()).collect()
}

/// The steps that TensorBoard shows: each session start but the first drops earlier events from its step on.
fn shown_steps(folder: &Path) -> Vec<u64> {
    let mut steps = Vec::new();
    let mut n_starts = 0;
    for event in events_of(folder) {
        match event.what {
            Some(What::SessionLog(SessionLog { status: SessionLog::START })) => {
                n_starts += 1;
                steps.retain(|&step| n_starts == 1 || step < event.step);
            }
            Some(What::Summary(_)) => steps.push(event.step),
            _ => {}
        }
    }
    steps
}

#[test]
fn a_resumed_run_shows_each_step_once() {
    let folder = tempfile::tempdir().unwrap();
    write_losses(EventWriter::create(folder.path(), started()).unwrap(), &[10, 20, 30]);
    assert_eq!(shown_steps(folder.path()), [10, 20, 30]);

    write_losses(EventWriter::resume(folder.path(), 20, started()).unwrap(), &[30, 40, 50]);
    assert_eq!(shown_steps(folder.path()), [10, 20, 30, 40, 50]);

    write_losses(EventWriter::resume(folder.path(), 40, started()).unwrap(), &[50]);
    assert_eq!(shown_steps(folder.path()), [10, 20, 30, 40, 50]);
}

#[test]
fn a_restarted_run_shows_nothing_of_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    write_losses(EventWriter::create(folder.path(), started()).unwrap(), &[0, 10, 20]);
    // A run that was evaluated at step 0 and stopped before the next line.
    write_losses(EventWriter::resume(folder.path(), 0, started()).unwrap(), &[]);
    assert_eq!(shown_steps(folder.path()), [0]);
    write_losses(EventWriter::create(folder.path(), started()).unwrap(), &[5]);
    assert_eq!(shown_steps(folder.path()), [5]);
}

#[test]
fn a_file_sorts_after_those_of_the_same_second_and_of_a_clock_that_was_ahead() {
    let folder = tempfile::tempdir().unwrap();
    let other = "events.out.tfevents.1700000000.elsewhere.4711.0";
    File::create(folder.path().join(other)).unwrap();
    File::create(folder.path().join("metrics.jsonl")).unwrap();

    let name = |writer: EventWriter| writer.path().file_name().unwrap().to_str().unwrap().to_owned();
    let first = name(EventWriter::create(folder.path(), started()).unwrap());
    assert!(first.starts_with("events.out.tfevents.1700000001."), "{first}");
    let hour_before = started() - Duration::from_secs(3600);
    let second = name(EventWriter::resume(folder.path(), 20, hour_before).unwrap());
    assert!(second.starts_with("events.out.tfevents.1700000002."), "{second}");
    let day_after = started() + Duration::from_secs(86_400);
    let third = name(EventWriter::resume(folder.path(), 20, day_after).unwrap());
    assert!(third.starts_with("events.out.tfevents.1700086400."), "{third}");
}

#[test]
fn a_torn_record_is_kept_and_hides_no_later_events() {
    let folder = tempfile::tempdir().unwrap();
    let first = EventWriter::create(folder.path(), started()).unwrap();
    let path = first.path().to_owned();
    write_losses(first, &[10, 20, 30]);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 3]).unwrap();
    assert_eq!(shown_steps(folder.path()), [10, 20]);

    write_losses(EventWriter::resume(folder.path(), 20, started()).unwrap(), &[30]);
    assert_eq!(shown_steps(folder.path()), [10, 20, 30]);
    assert_eq!(fs::read(&path).unwrap(), &whole[..whole.len() - 3]);
}

#[test]
fn the_error_for_a_damaged_record_has_its_offset() {
    let folder = tempfile::tempdir().unwrap();
    let writer = EventWriter::create(folder.path(), started()).unwrap();
    let path = writer.path().to_owned();
    let header_bytes = fs::read(&path).unwrap().len();
    write_losses(writer, &[10, 20]);
    let mut bytes = fs::read(&path).unwrap();
    bytes[header_bytes + 12] ^= 1; // The first byte of the event of step 10.
    fs::write(&path, bytes).unwrap();

    let error = read_events(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(error.to_string().contains(&format!("record at byte {header_bytes} of")), "{error}");
}

#[test]
fn a_file_is_readable_after_each_flush_and_after_drop() {
    let parent = tempfile::tempdir().unwrap();
    let mut events = EventWriter::create(&parent.path().join("new/folder"), started()).unwrap();
    let path = events.path().to_owned();
    assert_eq!(read_events(&path).unwrap().len(), 2);
    events.scalar("loss/valid", 0, started(), f64::NAN).unwrap();
    events.flush().unwrap();
    let written = read_events(&path).unwrap();
    let (tag, value) = written[2].scalar().unwrap();
    assert_eq!((tag, value.is_nan(), written[2].text()), ("loss/valid", true, None));

    events.text("sample", 10, started(), "ça").unwrap();
    drop(events);
    assert_eq!(read_events(&path).unwrap()[3].text(), Some(("sample", "ça")));
}
