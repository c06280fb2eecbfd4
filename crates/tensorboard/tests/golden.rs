//! Compares event files with those made by TensorBoard's own protobuf messages: `xtask/golden/tensorboard_events.py`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking; clippy.toml sees no test in a helper")]

use std::{
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tensorboard::{EventWriter, verbatim};

fn unix(seconds: f64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs_f64(seconds)
}

fn check(written: &EventWriter, expected: &[u8]) {
    let written = fs::read(written.path()).unwrap();
    assert_eq!(written.escape_ascii().to_string(), expected.escape_ascii().to_string());
}

#[test]
fn a_new_run_matches_tensorboard() {
    let folder = tempfile::tempdir().unwrap();
    let started = 1_700_000_000.25;
    let mut events = EventWriter::create(folder.path(), unix(started)).unwrap();
    events.scalar("loss/train", 20, unix(started + 1.0), 3.48).unwrap();
    events.scalar("learning_rate", 20, unix(started + 1.0), 0.0).unwrap();
    events.scalar("grad_norm", 300, unix(started + 1.5), f64::MAX).unwrap();
    events.text("sample", 300, unix(started + 2.0), &verbatim("To be,\nor not: ça 🙂")).unwrap();
    events.flush().unwrap();

    check(&events, include_bytes!("fixtures/begun.tfevents"));
}

#[test]
fn a_resumed_run_matches_tensorboard() {
    let folder = tempfile::tempdir().unwrap();
    let resumed = 1_700_000_100.5;
    let mut events = EventWriter::resume(folder.path(), 20, unix(resumed)).unwrap();
    events.scalar("loss/train", 40, unix(resumed + 1.0), -2.5e-3).unwrap();
    events.flush().unwrap();

    check(&events, include_bytes!("fixtures/resumed.tfevents"));
}
