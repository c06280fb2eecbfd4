//! The requests of one HTTP call, on the engine thread.

use std::{ops::ControlFlow, time::Instant};

use engine::{Output, Request, RequestId, SampledToken};
use tokio::sync::{OwnedSemaphorePermit, mpsc::UnboundedSender};

use crate::{error::ApiError, metrics::Metrics};

/// The requests of one HTTP call.
#[derive(Debug)]
pub(super) struct Job {
    /// In the order of the requests. Empty until they are submitted to the scheduler.
    ids: Vec<RequestId>,
    /// By request and sample.
    samples: Vec<Vec<Progress>>,
    outputs: UnboundedSender<Result<(usize, Output), ApiError>>,
    began: Instant,
    deadline: Instant,
    n_sampled: u64,
    /// One permit for each incomplete sample.
    permit: OwnedSemaphorePermit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// In the queue, or processing the prompt.
    Waiting,
    Generating,
    Complete,
}

impl Job {
    pub(super) fn new(
        requests: &[Request],
        outputs: UnboundedSender<Result<(usize, Output), ApiError>>,
        deadline: Instant,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let samples =
            requests.iter().map(|request| request.samples.clone().map(|_| Progress::Waiting).collect());
        Self {
            ids: Vec::new(),
            samples: samples.collect(),
            outputs,
            began: Instant::now(),
            deadline,
            n_sampled: 0,
            permit,
        }
    }

    /// Adds the id of the next request.
    pub(super) fn push_id(&mut self, id: RequestId) {
        self.ids.push(id);
    }

    pub(super) fn ids(&self) -> &[RequestId] {
        &self.ids
    }

    /// The index of a request with this id.
    pub(super) fn position(&self, id: RequestId) -> Option<usize> {
        self.ids.iter().position(|&own| own == id)
    }

    pub(super) fn n_incomplete(&self) -> usize {
        self.samples.iter().flatten().filter(|&&progress| progress != Progress::Complete).count()
    }

    /// Whether the client no longer waits for outputs.
    pub(super) fn is_abandoned(&self) -> bool {
        self.outputs.is_closed()
    }

    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        now >= self.deadline
    }

    /// Passes an output on to the client. Breaks at the end of the job: a failed request ends all of it.
    pub(super) fn pass_on(
        &mut self,
        request_idx: usize,
        output: Output,
        metrics: &Metrics,
    ) -> ControlFlow<()> {
        let mut flow = ControlFlow::Continue(());
        match &output {
            Output::Prompt(_) => {}
            Output::Token(token) => flow = self.record(request_idx, token, metrics),
            Output::Failed(_) => flow = ControlFlow::Break(()),
        }
        // A client that has left is noticed before the next step.
        _ = self.outputs.send(Ok((request_idx, output)));
        flow
    }

    fn record(&mut self, request_idx: usize, token: &SampledToken, metrics: &Metrics) -> ControlFlow<()> {
        if token.id.is_some() {
            if self.n_sampled == 0 {
                metrics.first_token(self.began.elapsed().as_secs_f64());
            }
            self.n_sampled += 1;
        }
        let progress = &mut self.samples[request_idx][token.sample];
        if token.stopped_by.is_none() {
            *progress = Progress::Generating;
            return ControlFlow::Continue(());
        }
        *progress = Progress::Complete;
        drop(self.permit.split(1));
        if self.n_incomplete() > 0 {
            return ControlFlow::Continue(());
        }
        metrics.finished(self.n_sampled, self.began.elapsed().as_secs_f64());
        ControlFlow::Break(())
    }

    /// Whether a sample has no token yet.
    pub(super) fn waits(&self) -> bool {
        self.samples.iter().flatten().any(|&progress| progress == Progress::Waiting)
    }

    /// Ends the job with an error.
    pub(super) fn fail(self, error: ApiError) {
        let Self { outputs, permit, .. } = self;
        drop(permit); // The client may send its next request at once.
        _ = outputs.send(Err(error));
    }
}
