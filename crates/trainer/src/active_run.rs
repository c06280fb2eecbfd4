//! A run during training: the state that the training loop uses.

use std::{iter, mem, sync::Arc, time::Instant};

use burn::prelude::*;
use checkpoint::{Checkpoint, Keep, RunFolder, RunLock, TrainerState};
use model::Gpt;
use ranks::Group;

use crate::{
    Control, Error, Recipe, Schedule, TrainingData,
    agreement::check_agreement,
    batches::Batches,
    event::{Ending, Event, Observer, Outcome, ending},
    guard::GuardMode,
    learner::GptLearner,
    local_steps::LocalSteps,
    process_group::Rank,
    reference::with_kept_reference,
    replicas::{Replica, Replicas},
    report::Report,
    step::PendingStep,
    validation::Validation,
    writer::Writer,
};

/// A run, ready to start or to resume.
pub struct Training {
    pub recipe: Recipe,
    /// The run folder. Recipe, configuration and tokenizer are already written.
    pub folder: RunFolder,
    /// The lock of the folder, held until the run ends.
    pub lock: RunLock,
    /// Initial weights. If the run resumes a checkpoint, its weights replace them.
    pub model: Gpt,
    pub data: TrainingData,
    /// SHA-256 of the training and validation part. Checkpoints store it.
    pub checksums: [String; 2],
    /// The checkpoint to resume; `None` for a new run.
    pub resume: Option<Checkpoint>,
    pub device: Device,
    /// Additional devices for data-parallel training. All devices get equal shares of each batch.
    pub more_devices: Vec<Device>,
    /// The processes that train together, each with one device. Only rank 0 writes checkpoints and weights.
    pub group: Arc<dyn Group>,
}

pub(crate) struct ActiveRun {
    pub(crate) recipe: Recipe,
    pub(crate) state: TrainerState,
    pub(crate) is_resumed: bool,
    pub(crate) learner: GptLearner,
    pub(crate) batches: Batches,
    pub(crate) validation: Validation,
    /// The autodiff device, which records gradients.
    pub(crate) device: Device,
    pub(crate) rank: Rank,
    pub(crate) group: Arc<dyn Group>,
    /// `None` if ranks exchange gradients.
    pub(crate) local_steps: Option<LocalSteps>,
    pub(crate) replicas: Replicas,
    pub(crate) guard_mode: GuardMode,
    /// Steps that the device has checked but the host has not read yet.
    pub(crate) pending: Vec<PendingStep>,
    /// The norm of the last gradient that the host has read.
    pub(crate) grad_norm: f64,
    pub(crate) writer: Writer,
    /// The steps whose checkpoints [`Control::save`] requested.
    pub(crate) asked: Vec<u64>,
    pub(crate) report: Report,
    /// The requests to this process.
    pub(crate) control: Control,
    /// The requests to any rank, on which all act. Of a process that trains alone, the same as `control`.
    pub(crate) agreed: Control,
    began: Instant,
    elapsed_before: f64,
}

impl ActiveRun {
    /// Loads the checkpoint to resume, if any, and starts the threads for batches, replicas and the writer. Before the first
    /// step of preference tuning it computes the reference; returns `None` if a stop is requested meanwhile.
    ///
    /// # Errors
    ///
    /// If a split is shorter than a block, the batch can't be divided equally among the devices, or a file can't be
    /// read or written. If ranks would train differently, or another has failed.
    ///
    /// # Panics
    ///
    /// If a process of several has several devices.
    pub(crate) fn begin(
        training: Training,
        control: Control,
        observer: Observer,
    ) -> Result<Option<Self>, Error> {
        let Training { recipe, folder, lock, model, data, checksums, resume, device, more_devices, group } =
            training;
        let state = match &resume {
            Some(checkpoint) => checkpoint.state.clone(),
            None => {
                TrainerState { data: checksums.clone(), evaluation_pending: true, ..TrainerState::default() }
            }
        };
        let mut report = Report::open(&folder, &state, observer)?;

        let devices: Vec<Device> = iter::once(&device).chain(&more_devices).cloned().collect();
        recipe.check_device_count(devices.len() * group.size())?;
        let steps = state.step..recipe.schedule.max_steps.max(state.step);
        let schedule = Schedule::new(&recipe.optimizer, &recipe.schedule);
        // Each device has its own learner, because a learner shares its command cell with its own optimizers only.
        let learner = |(rank, device): (Rank, Device)| {
            let gpt = model.clone().to_device(&device);
            let (schedule, device) = (schedule.clone(), device.autodiff());
            let mut learner =
                GptLearner::new(gpt, &recipe, Arc::new(move |step| schedule.at(step)), state.step);
            if let Some(checkpoint) = &resume {
                learner.load(checkpoint)?;
            }
            Ok((rank, device, learner))
        };
        let mut ranks = match group.size() {
            1 => Rank::group(&devices),
            _ => vec![Rank::process(group.clone())],
        };
        assert_eq!(ranks.len(), devices.len(), "a process of several has one device");
        ranks[0].connect_gpus(&device, &recipe.run)?;
        let learners = ranks.into_iter().zip(devices).map(learner).collect::<Result<Vec<_>, Error>>()?;
        let (rank, ..) = &learners[0];
        rank.check_exchange(&recipe.run)?;
        let (_, _, first) = &learners[0];
        check_agreement(&*group, &recipe, (&folder, &device), &checksums, first)?;
        let kept = (&folder, &checksums, state.step);
        let starts = |n_pairs| report.event(Event::Reference { n_pairs });
        let data = with_kept_reference(data, &recipe, kept, &first.gpt(), (&control, &*group), starts)?;
        let Some(data) = data else { return Ok(None) };
        let samples = data.training_samples(&recipe)?;
        let replica = |(rank, device, learner): (Rank, Device, GptLearner)| {
            let share = samples.clone().share(rank.index, rank.size);
            let n_micro_batches = recipe.optimizer.grad_accumulation.get();
            let batches = Batches::for_steps(share, steps.clone(), n_micro_batches, &device);
            Replica { rank, device, learner, batches }
        };
        let mut replicas: Vec<Replica> = learners.into_iter().map(replica).collect();
        let Replica { mut rank, device: autodiff, mut learner, batches } = replicas.remove(0);
        if group.size() > 1 && recipe.run.shard_optimizer {
            rank.divide_optimizer(&group, &recipe, &mut learner);
        }

        let local_steps = LocalSteps::begin(&recipe, &group, &learner, resume.as_ref())?;
        let guard_mode = GuardMode::best(&device);
        let validation = Validation::new(&data, &recipe, &device, group.clone())?;
        let keep = Keep { last: recipe.schedule.keep_last, every: recipe.schedule.keep_every };
        let writer = match group.index() {
            0 => Writer::start((folder, lock), report.log_file()?, keep, group.clone()),
            _ => Writer::idle(group.clone()),
        };
        let agreed = if group.size() == 1 { control.clone() } else { Control::new() };
        Ok(Some(Self {
            elapsed_before: state.elapsed_seconds,
            state,
            is_resumed: resume.is_some(),
            learner,
            batches,
            validation,
            device: autodiff,
            rank,
            group,
            local_steps,
            replicas: Replicas::start(replicas, &recipe, guard_mode),
            recipe,
            guard_mode,
            pending: Vec::new(),
            grad_norm: f64::NAN,
            writer,
            asked: Vec::new(),
            report,
            control,
            agreed,
            began: Instant::now(),
        }))
    }

    /// Why the run has ended; `None` while it has steps left.
    pub(crate) fn ending(&self) -> Option<Ending> {
        ending(&self.recipe, &self.state)
    }

    /// Whether all ranks have the same weights and states.
    pub(crate) fn is_synchronised(&self) -> bool {
        self.local_steps.as_ref().is_none_or(LocalSteps::is_synchronised)
    }

    /// Updates the elapsed time in the state.
    pub(crate) fn update_clock(&mut self) {
        self.state.elapsed_seconds = self.elapsed_before + self.began.elapsed().as_secs_f64();
    }

    /// Whether a request to save has been met at the last possible step before `step`. A signal to all ranks may reach one of them
    /// a step later than the others.
    pub(crate) fn has_just_saved(&self, step: u64) -> bool {
        let interval = self.recipe.run.sync_interval();
        self.group.size() > 1 && self.asked.last().is_some_and(|asked| asked + interval >= step)
    }

    /// The error for a loss or weights that are not finite.
    pub(crate) fn diverged(&self, loss: f64, grad_norm: f64) -> Error {
        Error::Diverged {
            step: self.state.step,
            learning_rate: self.learner.learning_rate(),
            loss,
            grad_norm,
            best_step: self.state.best_step,
        }
    }

    /// Stops the other devices, waits for the writer, reports the last checkpoints and returns how the run ended.
    ///
    /// # Errors
    ///
    /// The error of the loop, or else the error of the writer.
    pub(crate) fn finish(mut self, ended: Result<Ending, Error>) -> Result<Outcome, Error> {
        // Dropping the rank makes replicas that wait for this device fail and end.
        drop(mem::replace(&mut self.rank, Rank::alone()));
        drop(self.replicas);
        let written = self.writer.finish();
        let ending = ended?; // The first error is the cause.
        for step in written? {
            self.report.event(Event::Saved { step, asked: self.asked.contains(&step) });
        }
        Ok(Outcome { state: self.state, ending })
    }
}
