use std::{env, error::Error, path::Path, sync::Arc, time::Duration};

use axum::http::StatusCode;
use engine::Models;
use sampler::{Constraint, Options, StoppedBy};

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn worker(n_slots: usize, queue: usize) -> Worker {
    let root = env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    let folder = Path::new(&root).join("../engine/tests/fixtures/story");
    let model = Models::default().open(&folder).unwrap().load(&kernels::testing::test_device()).unwrap();
    Worker::start(vec![Arc::new(model)], n_slots, queue, Metrics::new(["story"], n_slots))
}

fn request(max_tokens: usize, samples: u64) -> Request {
    Request { samples: 0..samples, ..Request::new(vec![4], Options { max_tokens, ..Options::default() }) }
}

fn submit(worker: &Worker, request: Request, time_limit: Duration) -> Outputs {
    worker.submit(0, vec![request], Instant::now() + time_limit).unwrap()
}

fn tokens(mut outputs: Outputs) -> Result<Vec<engine::SampledToken>, ApiError> {
    let mut tokens = Vec::new();
    while let Some(output) = outputs.blocking_recv() {
        match output? {
            (0, Output::Token(token)) => tokens.push(token),
            other => panic!("{other:?}"),
        }
    }
    Ok(tokens)
}

fn status(outputs: Outputs) -> StatusCode {
    tokens(outputs).unwrap_err().status
}

/// A constraint with an error in its code.
#[derive(Debug)]
struct Broken;

impl Constraint for Broken {
    fn restrict(&mut self, _: &mut [f32]) -> Result<(), Box<dyn Error + Send + Sync>> {
        panic!("this is a test");
    }

    fn accept(&mut self, _: u32) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(())
    }

    fn is_complete(&self) -> bool {
        false
    }

    fn fork(&self) -> Box<dyn Constraint> {
        Box::new(Self)
    }
}

#[test]
fn a_panic_fails_the_requests_that_run_and_no_later_one() {
    let worker = worker(2, 2);
    let mut running = submit(&worker, request(100_000, 1), HOUR);
    running.blocking_recv().unwrap().unwrap();
    let broken = submit(&worker, Request { constraint: Some(Box::new(Broken)), ..request(3, 1) }, HOUR);
    assert_eq!(status(broken), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(status(running), StatusCode::INTERNAL_SERVER_ERROR);
    for _ in 0..3 {
        assert_eq!(tokens(submit(&worker, request(3, 4), HOUR)).unwrap().len(), 12, "all permits are back");
    }
}

#[test]
fn a_call_that_still_waits_at_its_deadline_fails_with_503() {
    let worker = worker(1, 2);
    let mut running = submit(&worker, request(100_000, 1), HOUR);
    running.blocking_recv().unwrap().unwrap();
    assert_eq!(status(submit(&worker, request(1, 1), Duration::ZERO)), StatusCode::SERVICE_UNAVAILABLE);
    drop(running);
    // One sample runs and one waits: the call has no answer yet.
    assert_eq!(
        status(submit(&worker, request(100_000, 2), Duration::from_millis(50))),
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(tokens(submit(&worker, request(1, 3), HOUR)).unwrap().len(), 3);
}

#[test]
fn samples_that_run_at_their_deadline_are_interrupted() {
    let worker = worker(2, 0);
    let tokens = tokens(submit(&worker, request(100_000, 2), Duration::from_millis(50))).unwrap();
    let ends: Vec<_> = tokens.iter().filter(|token| token.stopped_by.is_some()).collect();
    assert_eq!(ends.iter().map(|end| end.sample).collect::<Vec<usize>>(), [0, 1]);
    assert!(ends.iter().all(|end| end.id.is_none() && end.stopped_by == Some(StoppedBy::Interrupted)));
    assert!(tokens.len() < 200_000);
}

#[test]
fn a_shutdown_refuses_what_waits_and_completes_what_runs() {
    let worker = worker(1, 2);
    let mut running = submit(&worker, request(3000, 1), HOUR);
    running.blocking_recv().unwrap().unwrap();
    let waiting = submit(&worker, request(1, 2), HOUR);
    worker.drain();
    let refused = worker.submit(0, vec![request(1, 1)], Instant::now() + HOUR).unwrap_err();
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(status(waiting), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(tokens(running).unwrap().len(), 3000 - 1);
}

#[test]
fn a_failed_request_fails_its_call_and_no_other() {
    let worker = worker(3, 0);
    let invalid = Request::new(vec![4], Options { temperature: -1.0, ..Options::default() });
    let call = worker.submit(0, vec![request(100_000, 1), invalid], Instant::now() + HOUR).unwrap();
    assert_eq!(status(call), StatusCode::BAD_REQUEST);
    assert_eq!(tokens(submit(&worker, request(1, 3), HOUR)).unwrap().len(), 3);
}
