//! From burn-train's checkpointers to a [`Checkpoint`] of the run folder, and back.
//!
//! burn-train hands weights, optimizer and schedule to three checkpointers, each on a thread of its own.
//! Here they become bytes and come together again, so that the folder is written as a whole.

use std::sync::{
    Mutex,
    mpsc::{Receiver, Sender, channel},
};

use burn::{
    module::Module,
    prelude::Device,
    store::{ModuleRecord, RecordError},
    tensor::Bytes,
    train::{
        checkpoint::{
            Checkpoint as Record, Checkpointer, CheckpointerError, CheckpointingAction, CheckpointingStrategy,
        },
        metric::store::EventStoreClient,
    },
};
use burn_pack::{Reader, Writer};
use checkpoint::{Checkpoint, RunFolder, TrainerState};
use model::Gpt;

use crate::{Error, trainee::Trainee};

/// A record as bytes, and the step that it was made at.
type Saved = (usize, Result<Vec<u8>, RecordError>);

/// Turns the records of one part into bytes and back.
pub(crate) struct PartCheckpointer {
    /// Whether its tensors have to be put in order.
    in_order: bool,
    saved: Sender<Saved>,
    /// What to restore, when resuming; once, since it takes as much memory as the model.
    restore: Mutex<Option<Vec<u8>>>,
}

/// Where the parts of checkpoints arrive: weights, optimizer, schedule. Each has a channel of its own, since their
/// threads do not wait for each other, and one may be a checkpoint ahead.
pub(crate) struct Parts([Receiver<Saved>; 3]);

/// The three checkpointers, and where what they save arrives. `resume` is what they restore.
pub(crate) fn checkpointers(resume: Option<Checkpoint>) -> (Parts, [PartCheckpointer; 3]) {
    let restore = match resume {
        Some(Checkpoint { model, optimizer, scheduler, .. }) => {
            [Some(model), Some(optimizer), Some(scheduler)]
        }
        None => [None, None, None],
    };
    let [model, optimizer, scheduler] = restore.map(|restore| {
        let (saved, arrives) = channel();
        (arrives, PartCheckpointer { in_order: false, saved, restore: Mutex::new(restore) })
    });
    let parts = Parts([model.0, optimizer.0, scheduler.0]);
    (parts, [model.1, PartCheckpointer { in_order: true, ..optimizer.1 }, scheduler.1])
}

impl Parts {
    /// Waits for all three parts of the next checkpoint.
    ///
    /// # Errors
    ///
    /// If a record can't become bytes.
    ///
    /// # Panics
    ///
    /// If the next checkpoint is of another step.
    pub(crate) fn collect(&self, state: TrainerState) -> Result<Checkpoint, RecordError> {
        let [model, optimizer, scheduler] = self.0.each_ref().map(|part| {
            let (step, bytes) = part.recv().expect("each checkpointer holds a sender");
            assert_eq!(step as u64, state.step, "parts arrive in the order of checkpoints");
            bytes
        });
        Ok(Checkpoint { model: model?, optimizer: optimizer?, scheduler: scheduler?, state })
    }
}

impl<R: Record> Checkpointer<R> for PartCheckpointer {
    fn save(&self, step: usize, record: R) -> Result<(), CheckpointerError> {
        let bytes = record.checkpoint_into_bytes();
        let bytes = if self.in_order { bytes.and_then(in_order) } else { bytes };
        let bytes = bytes.map(|bytes| bytes.try_into_vec().unwrap_or_else(|bytes| bytes.to_vec()));
        self.saved
            .send((step, bytes))
            .map_err(|_| CheckpointerError::Unknown("training has ended".to_owned()))
    }

    fn delete(&self, _step: usize) -> Result<(), CheckpointerError> {
        Ok(()) // The run folder decides how many it keeps.
    }

    fn restore(&self, _step: usize) -> Result<R, CheckpointerError> {
        let bytes = self.restore.lock().expect("nothing panics while it is held").take();
        let bytes = bytes.expect("restoring is asked for once, and only with a checkpoint");
        R::checkpoint_from_bytes(Bytes::from_bytes_vec(bytes)).map_err(CheckpointerError::Record)
    }
}

/// The model with the weights of the checkpoint of a step, in place of those that the run's folder keeps.
///
/// # Errors
///
/// If there is no such checkpoint, or it is damaged.
pub fn checkpoint_model(folder: &RunFolder, step: u64, device: &Device) -> Result<Gpt, Error> {
    let config = folder.config()?;
    let bytes = Bytes::from_bytes_vec(folder.checkpoint_weights(step)?);
    let record = ModuleRecord::checkpoint_from_bytes(bytes)?;
    let zeros = config
        .zeros(device)
        .map_err(|source| checkpoint::Error::Sizes { path: folder.path().to_owned(), source })?;
    Ok(Trainee::new(zeros, 1).load_record(record).into_gpt())
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

#[cfg(test)]
mod tests {
    use burn::{optim::lr_scheduler::LrSchedulerRecord, train::checkpoint::Checkpointer};

    use super::*;

    /// The scheduler's record stands for each part.
    fn record(step: usize) -> LrSchedulerRecord {
        LrSchedulerRecord::new().with_scalar("step", step as u64)
    }

    fn step_of(bytes: &[u8]) -> u64 {
        let record = LrSchedulerRecord::checkpoint_from_bytes(Bytes::from_bytes_vec(bytes.to_vec())).unwrap();
        record.scalar("step").unwrap()
    }

    #[test]
    fn a_part_that_is_ahead_gets_into_no_other_checkpoint() {
        let (parts, [model, optimizer, scheduler]) = checkpointers(None);
        let save = |part: &PartCheckpointer, step| Checkpointer::save(part, step, record(step)).unwrap();
        save(&model, 5);
        save(&model, 10);
        save(&scheduler, 5);
        save(&optimizer, 5);
        save(&scheduler, 10);
        save(&optimizer, 10);
        for step in [5, 10] {
            let state = TrainerState { step, ..TrainerState::default() };
            let checkpoint = parts.collect(state).unwrap();
            let parts = [checkpoint.model, checkpoint.optimizer, checkpoint.scheduler];
            assert!(parts.iter().all(|part| step_of(part) == step));
        }
    }
}
