//! A run in training: everything the loop works with.

use std::{iter, mem, sync::Arc, time::Instant};

use burn::prelude::*;
use checkpoint::{Checkpoint, Keep, RunFolder, RunLock, TrainerState};
use dataset::{Stream, Tokens, Windows};
use model::Gpt;

use crate::{
    Control, Error, Recipe, Schedule,
    batches::Batches,
    event::{Ending, Observer, Outcome, ending},
    guard::Judging,
    learner::GptLearner,
    process_group::Rank,
    replicas::{Replica, Replicas},
    report::Report,
    step::PendingStep,
    validation::Validation,
    writer::Writer,
};

/// A run, ready to start or to resume.
pub struct Training {
    /// What it does.
    pub recipe: Recipe,
    /// Where it keeps everything. Its description is written already.
    pub folder: RunFolder,
    /// Holds that folder until the run ends.
    pub lock: RunLock,
    /// The weights it starts from. A checkpoint to resume replaces them.
    pub model: Gpt,
    /// The part of the corpus to train on.
    pub train: Arc<Tokens>,
    /// The part to validate on.
    pub valid: Arc<Tokens>,
    /// Sha256 of the tokens of both parts, which a checkpoint remembers.
    pub data: [String; 2],
    /// The checkpoint to resume; a new run has none.
    pub resume: Option<Checkpoint>,
    /// Where it runs.
    pub device: Device,
    /// Further devices, which with the first one have equal shares of each batch.
    pub more_devices: Vec<Device>,
}

/// A run between its start and its end.
pub(crate) struct ActiveRun {
    pub(crate) recipe: Recipe,
    pub(crate) state: TrainerState,
    pub(crate) is_resumed: bool,
    pub(crate) learner: GptLearner,
    pub(crate) batches: Batches,
    pub(crate) validation: Validation,
    /// Where gradients are recorded.
    pub(crate) device: Device,
    pub(crate) rank: Rank,
    pub(crate) replicas: Replicas,
    pub(crate) judging: Judging,
    /// Steps that the device has judged and nobody has read.
    pub(crate) pending: Vec<PendingStep>,
    /// The norm of the last gradient that was read.
    pub(crate) grad_norm: f64,
    pub(crate) writer: Writer,
    /// The steps whose checkpoint was asked for.
    pub(crate) asked: Vec<u64>,
    pub(crate) report: Report,
    pub(crate) control: Control,
    began: Instant,
    elapsed_before: f64,
}

impl ActiveRun {
    /// Loads the checkpoint to resume, if there is one, and starts the threads: batches, replicas, writer.
    ///
    /// # Errors
    ///
    /// If a split is shorter than a block, devices have no equal shares of a batch, or a file can't be read or written.
    pub(crate) fn begin(training: Training, control: Control, observer: Observer) -> Result<Self, Error> {
        let Training { recipe, folder, lock, model, train, valid, data, resume, device, more_devices } =
            training;
        let state = match &resume {
            Some(checkpoint) => checkpoint.state.clone(),
            None => TrainerState { data, evaluation_pending: true, ..TrainerState::default() },
        };
        let report = Report::open(&folder, &state, observer)?;

        let devices: Vec<Device> = iter::once(&device).chain(&more_devices).cloned().collect();
        recipe.check_shares(devices.len())?;
        let (block_size, batch_size) = (recipe.model.block_size, recipe.optimizer.batch_size.get());
        let windows = Windows::new(train, block_size, batch_size, recipe.run.seed, Stream::Train)?;
        let steps = state.step..recipe.schedule.max_steps.max(state.step);
        let schedule = Schedule::new(&recipe.optimizer, &recipe.schedule);
        // Each has a learner of its own: its optimizers take no orders but its own.
        let replica = |(rank, device): (Rank, Device)| {
            let gpt = if rank.index == 0 { model.clone() } else { model.clone().to_device(&device) };
            let (schedule, device) = (schedule.clone(), device.autodiff());
            let mut learner =
                GptLearner::new(gpt, &recipe, Arc::new(move |step| schedule.at(step)), state.step);
            if let Some(checkpoint) = &resume {
                learner.load(checkpoint)?;
            }
            let share = windows.clone().share(rank.index, rank.size);
            let n_micro_batches = recipe.optimizer.grad_accumulation.get();
            let batches = Batches::of_steps(share, steps.clone(), n_micro_batches, &device);
            Ok(Replica { rank, device, learner, batches })
        };
        let ranks = Rank::group(&devices).into_iter();
        let mut replicas = ranks.zip(devices).map(replica).collect::<Result<Vec<_>, Error>>()?;
        let Replica { rank, device: autodiff, learner, batches } = replicas.remove(0);

        let judging = if replicas.is_empty() { Judging::best(&device) } else { Judging::OnDevice };
        let validation = Validation::new(valid, &recipe, &device)?;
        let keep = Keep { last: recipe.schedule.keep_last, every: recipe.schedule.keep_every };
        let writer = Writer::start((folder, lock), report.log_file()?, keep);
        Ok(Self {
            elapsed_before: state.elapsed_seconds,
            state,
            is_resumed: resume.is_some(),
            learner,
            batches,
            validation,
            device: autodiff,
            rank,
            replicas: Replicas::start(replicas, &recipe),
            recipe,
            judging,
            pending: Vec::new(),
            grad_norm: f64::NAN,
            writer,
            asked: Vec::new(),
            report,
            control,
            began: Instant::now(),
        })
    }

    /// Whether the run is over, and why.
    pub(crate) fn ending(&self) -> Option<Ending> {
        ending(&self.recipe, &self.state)
    }

    /// Brings the state's time up to date.
    pub(crate) fn update_clock(&mut self) {
        self.state.elapsed_seconds = self.elapsed_before + self.began.elapsed().as_secs_f64();
    }

    /// The error of a run whose loss or weights are no numbers any more.
    pub(crate) fn diverged(&self, loss: f64, grad_norm: f64) -> Error {
        Error::Diverged {
            step: self.state.step,
            learning_rate: self.learner.learning_rate(),
            loss,
            grad_norm,
            best_step: self.state.best_step,
        }
    }

    /// Stops the other devices and waits for the disk; gives the last checkpoints written and how the run ended.
    ///
    /// # Errors
    ///
    /// If the loop failed, or else if a file can't be written.
    pub(crate) fn finish(mut self, ended: Result<Ending, Error>) -> Result<Outcome, Error> {
        // Replicas that wait for this device are told that it is gone, and end.
        drop(mem::replace(&mut self.rank, Rank::alone()));
        drop(self.replicas);
        let written = self.writer.finish();
        let ending = ended?; // The first error is the one to tell.
        for step in written? {
            self.report.event(crate::Event::Saved { step, asked: self.asked.contains(&step) });
        }
        Ok(Outcome { state: self.state, ending })
    }
}
