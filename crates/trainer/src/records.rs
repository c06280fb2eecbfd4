//! From burn-train's checkpointers to a [`Checkpoint`] of the run folder, and back.
//!
//! burn-train hands weights, optimizer and schedule to three checkpointers, each on a thread of its own.
//! Here they become bytes and come together again, so that the folder is written as a whole.

use std::sync::mpsc::{Receiver, Sender, channel};

use burn::{
    store::RecordError,
    tensor::Bytes,
    train::{
        checkpoint::{
            Checkpoint as Record, Checkpointer, CheckpointerError, CheckpointingAction, CheckpointingStrategy,
        },
        metric::store::EventStoreClient,
    },
};
use burn_pack::{Reader, Writer};
use checkpoint::{Checkpoint, TrainerState};

/// One of the three parts of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Model,
    Optimizer,
    Scheduler,
}

/// Turns the records of one part into bytes and back.
pub(crate) struct PartCheckpointer {
    part: Part,
    saved: Sender<(Part, Result<Vec<u8>, RecordError>)>,
    /// What to restore, when resuming.
    restore: Option<Vec<u8>>,
}

/// Where the parts of a checkpoint arrive.
pub(crate) struct Parts {
    saved: Receiver<(Part, Result<Vec<u8>, RecordError>)>,
}

/// The three checkpointers, and where what they save arrives. `resume` is what they restore.
pub(crate) fn checkpointers(resume: Option<Checkpoint>) -> (Parts, [PartCheckpointer; 3]) {
    let (sender, saved) = channel();
    let [model, optimizer, scheduler] = match resume {
        Some(checkpoint) => [Some(checkpoint.model), Some(checkpoint.optimizer), Some(checkpoint.scheduler)],
        None => [None, None, None],
    };
    let part = |part, restore| PartCheckpointer { part, saved: sender.clone(), restore };
    let checkpointers =
        [part(Part::Model, model), part(Part::Optimizer, optimizer), part(Part::Scheduler, scheduler)];
    (Parts { saved }, checkpointers)
}

impl Parts {
    /// Waits for all three parts of one checkpoint.
    ///
    /// # Errors
    ///
    /// If a record can't become bytes.
    pub(crate) fn collect(&self, state: TrainerState) -> Result<Checkpoint, RecordError> {
        let mut checkpoint =
            Checkpoint { model: Vec::new(), optimizer: Vec::new(), scheduler: Vec::new(), state };
        for _ in 0..3 {
            let (part, bytes) = self.saved.recv().expect("each checkpointer holds a sender");
            let place = match part {
                Part::Model => &mut checkpoint.model,
                Part::Optimizer => &mut checkpoint.optimizer,
                Part::Scheduler => &mut checkpoint.scheduler,
            };
            *place = bytes?;
        }
        Ok(checkpoint)
    }
}

impl<R: Record> Checkpointer<R> for PartCheckpointer {
    fn save(&self, _step: usize, record: R) -> Result<(), CheckpointerError> {
        let bytes = record.checkpoint_into_bytes().and_then(|bytes| match self.part {
            Part::Optimizer => in_order(bytes),
            Part::Model | Part::Scheduler => Ok(bytes),
        });
        let bytes = bytes.map(|bytes| bytes.try_into_vec().unwrap_or_else(|bytes| bytes.to_vec()));
        self.saved
            .send((self.part, bytes))
            .map_err(|_| CheckpointerError::Unknown("training has ended".to_owned()))
    }

    fn delete(&self, _step: usize) -> Result<(), CheckpointerError> {
        Ok(()) // The run folder decides how many it keeps.
    }

    fn restore(&self, _step: usize) -> Result<R, CheckpointerError> {
        let bytes = self.restore.clone().expect("restoring is asked for only with a checkpoint");
        R::checkpoint_from_bytes(Bytes::from_bytes_vec(bytes)).map_err(CheckpointerError::Record)
    }
}

/// A record with its tensors in the order of their names. The optimizer lists them in that of a hash table, which is
/// another one each time, and files of the same state should be the same.
fn in_order(record: Bytes) -> Result<Bytes, RecordError> {
    let reader = Reader::from_bytes(record)?;
    let (scalars, metadata) = (reader.scalars().clone(), reader.metadata().clone());
    let mut tensors = reader.into_tensors()?;
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let writer = Writer::new(tensors);
    let writer = scalars.iter().fold(writer, |writer, (key, value)| writer.with_scalar(key, *value));
    let writer = metadata.iter().fold(writer, |writer, (key, value)| writer.with_metadata(key, value));
    Ok(writer.into_bytes()?)
}

/// Saves whenever it is asked; the strategy of training asks when it is time.
pub(crate) struct SaveAlways;

impl CheckpointingStrategy for SaveAlways {
    fn checkpointing(&mut self, _step: usize, _store: &EventStoreClient) -> Vec<CheckpointingAction> {
        vec![CheckpointingAction::Save]
    }
}
