//! Stopping a server from another thread.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::watch;

/// Stops a server. A clone controls the same server.
#[derive(Debug, Clone, Default)]
pub struct Control(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_stopping: watch::Sender<bool>,
    n_running: AtomicUsize,
}

impl Control {
    /// Stops accepting connections. The server ends when the requests that run are complete.
    pub fn stop(&self) {
        self.0.is_stopping.send_replace(true);
    }

    /// The number of requests whose response is not complete.
    pub fn n_running(&self) -> usize {
        self.0.n_running.load(Ordering::Relaxed)
    }

    /// Waits until the server is stopping.
    pub(crate) async fn stopping(&self) {
        // `self` owns the sender, so waiting can't fail.
        let _ = self.0.is_stopping.subscribe().wait_for(|&is_stopping| is_stopping).await;
    }

    /// Counts a request until the result is dropped.
    pub(crate) fn begin_request(&self) -> RunningRequest {
        self.0.n_running.fetch_add(1, Ordering::Relaxed);
        RunningRequest(self.clone())
    }
}

/// A request whose response is not complete.
#[derive(Debug)]
pub(crate) struct RunningRequest(Control);

impl Drop for RunningRequest {
    fn drop(&mut self) {
        self.0.0.n_running.fetch_sub(1, Ordering::Relaxed);
    }
}
