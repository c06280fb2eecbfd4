//! The collectives as values, which a rank passes to the thread that carries them out.

use std::sync::mpsc::{Receiver, Sender, channel};

use crate::{Error, Parts, Precision};

/// A collective, with the contribution of this rank.
#[derive(Debug, Clone)]
pub enum Call {
    /// Replies with the mean over the ranks.
    Mean { values: Vec<f32>, precision: Precision },
    /// Replies with the owned elements of the mean over the ranks.
    Reduce { values: Vec<f32>, parts: Parts, precision: Precision },
    /// Replies with the whole vector.
    Gather { owned: Vec<f32>, parts: Parts, precision: Precision },
    /// Replies with the bytes of the root. Those of other ranks are ignored.
    Broadcast { bytes: Vec<u8>, root: usize },
    /// Replies with the bytes of all ranks.
    GatherBytes(Vec<u8>),
}

/// The result of a [`Call`].
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    Values(Vec<f32>),
    Bytes(Vec<u8>),
    /// By rank.
    AllBytes(Vec<Vec<u8>>),
}

/// A collective in progress. Dropping it does not cancel the exchange.
#[derive(Debug)]
#[must_use = "wait for the result"]
pub struct Pending(Receiver<Result<Reply, Error>>);

/// Where the result of a call is sent.
pub(crate) type ReplySender = Sender<Result<Reply, Error>>;

impl Pending {
    pub(crate) fn new() -> (ReplySender, Self) {
        let (sender, receiver) = channel();
        (sender, Self(receiver))
    }

    pub(crate) fn ready(reply: Result<Reply, Error>) -> Self {
        let (sender, pending) = Self::new();
        let _ = sender.send(reply); // `pending` has the receiver.
        pending
    }

    /// Waits for the vector of f32.
    ///
    /// # Errors
    ///
    /// If a rank fails; the error names it.
    ///
    /// # Panics
    ///
    /// If the call has no such reply, or if the thread that carries it out has panicked.
    pub fn wait(self) -> Result<Vec<f32>, Error> {
        match self.reply()? {
            Reply::Values(values) => Ok(values),
            other => panic!("the reply is not a vector of f32: {other:?}"),
        }
    }

    /// Waits for any reply.
    pub(crate) fn reply(self) -> Result<Reply, Error> {
        self.0.recv().expect("the exchanging thread has panicked; its message is above")
    }
}
