//! From a recipe to a trained model in a run folder.

use std::{
    io, iter,
    path::PathBuf,
    sync::{Arc, mpsc::channel},
};

use burn::{
    data::dataset::DatasetError,
    module::Module,
    prelude::*,
    store::RecordError,
    train::{Learner, SupervisedTraining, TrainingStrategy, logger::InMemoryMetricLogger},
};
use checkpoint::{Checkpoint, Keep, RunFolder, RunLock, TrainerState};
use dataset::{Stream, Tokens, Windows};
use model::Gpt;

use crate::{
    Control, EvaluationSize, Metrics, Observer, Recipe, SkipReason,
    batches::WindowLoader,
    metrics::MetricsLog,
    optimizer::optimizer,
    quiet::Quiet,
    records::{SaveAlways, checkpointers},
    replicas::Place,
    schedule::{Rate, Schedule, SchedulePosition},
    strategy::{Judging, Loop, StepStrategy},
    team::{Left, Seat},
    trainee::Trainee,
    writer::Writer,
};

/// A run, ready to start or to go on.
pub struct Training {
    /// What it does.
    pub recipe: Recipe,
    /// Where it keeps everything. Its description is written already.
    pub folder: RunFolder,
    /// Holds that folder until the run ends.
    pub lock: RunLock,
    /// The weights it starts from. A checkpoint to go on from replaces them.
    pub model: Gpt,
    /// The part of the corpus to train on.
    pub train: Arc<Tokens>,
    /// The part to validate on.
    pub valid: Arc<Tokens>,
    /// Sha256 of the tokens of both parts, which a checkpoint remembers.
    pub data: [String; 2],
    /// What to go on from; a new run has none.
    pub resume: Option<Checkpoint>,
    /// Where it runs.
    pub device: Device,
    /// Further devices, which with the first one have equal shares of each batch.
    pub more_devices: Vec<Device>,
}

/// What happens in a run, as it happens.
#[derive(Debug)]
pub enum Event<'a> {
    /// It begins, after `step` steps of earlier sessions.
    Started {
        /// Steps done.
        step: u64,
        /// Steps there will be.
        max_steps: u64,
    },
    /// A step is done.
    Step {
        /// Steps done.
        step: u64,
    },
    /// Enough steps are done to tell the first of a session apart from the usual: on a GPU it compiles kernels. Comes with
    /// the first line of training metrics, unless each step has one.
    FirstStep {
        /// What it took.
        seconds: f64,
        /// What those after it take.
        usual_seconds: f64,
    },
    /// Something was measured, and is in `metrics.jsonl`.
    Metrics(&'a Metrics),
    /// A step was done that left the weights as they were.
    Skipped {
        /// Steps done, with this one.
        step: u64,
        /// Why.
        reason: SkipReason,
        /// Its loss, in nats per token.
        loss: f64,
    },
    /// It is time to see what the model writes.
    Sample {
        /// Steps done.
        step: u64,
        /// The model, on a device that does not record gradients.
        model: &'a Gpt,
        /// Whether the run ends here.
        last: bool,
    },
    /// A checkpoint is on disk. It was made some steps before.
    Saved {
        /// Steps done when it was made.
        step: u64,
        /// Whether [`Control::save`] asked for it.
        asked: bool,
    },
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Where it stands; its last checkpoint says the same.
    pub state: TrainerState,
    /// Why it ended.
    pub ending: Ending,
}

/// Why a run ended, when nothing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All its steps are done.
    Finished,
    /// The loss did not get better for as many evaluations as `guards.patience` says.
    StoppedEarly,
    /// It was asked to stop, and can go on.
    Interrupted,
}

/// Why a run ended before its time. Checkpoints written before are intact.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The data can't be used as the recipe says.
    #[error(transparent)]
    Dataset(#[from] dataset::Error),
    /// A batch could not be read.
    #[error("cannot read the next batch")]
    Batch(#[from] DatasetError),
    /// The run folder can't be written.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// Weights or optimizer state can't be put into bytes.
    #[error("cannot record the training state")]
    Record(#[from] RecordError),
    /// Metrics can't be written.
    #[error("cannot write {}; if the disk is full, free some space and go on from the last checkpoint by --resume", .path.display())]
    Metrics {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another device has stopped.
    #[error(
        "a device that trains along has stopped; what is above may say why. Go on from the last checkpoint by --resume, on \
         one device if another is broken"
    )]
    DeviceLeft,
    /// Devices can't have equal shares of a batch.
    #[error(
        "a batch of {batch_size} windows has no equal shares for {n_devices} devices; make optimizer.batch_size a multiple \
         of {n_devices}"
    )]
    Shares {
        /// Windows of a batch.
        batch_size: usize,
        /// Devices that share it.
        n_devices: usize,
    },
    /// The loss is no number any more.
    #[error(
        "training has diverged at step {step}: loss {loss}, gradient norm {grad_norm}, learning rate \
         {learning_rate:.2e}; the best weights are kept, those of step {best_step}. Continue from the last checkpoint with \
         --resume and a lower optimizer.learning_rate or optimizer.grad_clip. If that diverges at once, start a new run \
         with these, with more schedule.warmup_steps, or from the best weights with --init-from"
    )]
    Diverged {
        /// The step it was noticed at.
        step: u64,
        /// The rate of that step.
        learning_rate: f64,
        /// Its loss, or NaN if the weights themselves are lost.
        loss: f64,
        /// The norm of its gradient.
        grad_norm: f64,
        /// The step of the best weights.
        best_step: u64,
    },
}

impl From<Left> for Error {
    fn from(Left: Left) -> Self {
        Self::DeviceLeft
    }
}

/// A learner at the first step of a recipe.
pub(crate) fn learner(model: Gpt, recipe: &Recipe) -> Learner<Trainee> {
    let schedule = Schedule::new(&recipe.optimizer, &recipe.schedule);
    learner_at(model, recipe, Arc::new(move |step| schedule.at(step)))
}

/// As [`learner`], with learning rates that are not the recipe's.
pub(crate) fn learner_at(model: Gpt, recipe: &Recipe, rate: Rate) -> Learner<Trainee> {
    let trainee = Trainee::new(
        model.with_precision(recipe.run.precision).train(),
        recipe.optimizer.grad_accumulation.get(),
    );
    let optimizer = optimizer(&recipe.optimizer, &recipe.model);
    Learner::new(trainee, optimizer, SchedulePosition::start(rate))
}

/// The windows of an evaluation: the same ones each time, so that losses compare.
fn evaluation(valid: Arc<Tokens>, recipe: &Recipe, device: &Device) -> Result<WindowLoader, Error> {
    let (block_size, batch_size) = (recipe.model.block_size, recipe.optimizer.batch_size.get());
    let windows = |n_rows: usize| Windows::new(valid, block_size, n_rows, recipe.run.seed, Stream::Evaluate);
    Ok(match recipe.schedule.evaluation_size() {
        EvaluationSize::Windows(n_windows) => {
            let n_windows = usize::try_from(n_windows.get()).unwrap_or(usize::MAX);
            WindowLoader::once(windows(n_windows)?, batch_size, device)
        }
        // Those of "step 0", as runs had them before there was `eval_windows`.
        EvaluationSize::Batches(n_batches) => {
            WindowLoader::new(windows(batch_size)?, 0..1, n_batches.get(), device)
        }
    })
}

/// Trains to the last step of the recipe, or until `control` says stop; then the step in hand is
/// finished and saved.
///
/// # Errors
///
/// If a split is shorter than a block, devices have no equal shares of a batch, a file can't be written, the loss diverges or
/// another device stops.
pub fn train(training: Training, control: Control, observer: Observer) -> Result<Outcome, Error> {
    let Training { recipe, folder, lock, model, train, valid, data, resume, device, more_devices } = training;
    let state = match &resume {
        Some(checkpoint) => checkpoint.state.clone(),
        None => TrainerState { data, evaluation_pending: true, ..TrainerState::default() },
    };
    let metrics_path = folder.metrics_path();
    let (log, log_file) = MetricsLog::open(&metrics_path, &state)
        .and_then(|log| log.file().map(|file| (log, file)))
        .map_err(|source| Error::Metrics { path: metrics_path, source })?;

    let (block_size, batch_size) = (recipe.model.block_size, recipe.optimizer.batch_size.get());
    let devices: Vec<Device> = iter::once(&device).chain(&more_devices).cloned().collect();
    recipe.check_shares(devices.len())?;
    let autodiff = device.clone().autodiff();
    let n_micro_batches = recipe.optimizer.grad_accumulation.get();
    let windows = |tokens, stream| Windows::new(tokens, block_size, batch_size, recipe.run.seed, stream);
    let steps = state.step..recipe.schedule.max_steps.max(state.step);
    let train_windows = windows(train, Stream::Train)?;
    let place = |(seat, device): (Seat, Device)| {
        let (share, device) = (train_windows.clone().share(seat.rank, seat.size), device.autodiff());
        Place { seat, loader: WindowLoader::new(share, steps.clone(), n_micro_batches, &device), device }
    };
    let seats = Seat::of(&devices);
    let mut places: Vec<Place> = seats.into_iter().zip(devices).map(place).collect();
    let Place { seat, loader: train_loader, .. } = places.remove(0);
    let valid_loader = evaluation(valid, &recipe, &device)?;

    let resume_step = resume.as_ref().map(|_| usize::try_from(state.step).unwrap_or(usize::MAX));
    let (parts, [model_records, optimizer_records, scheduler_records]) = checkpointers(resume);
    let learner = learner(model, &recipe);

    let (sender, outcome) = channel();
    let directory = folder.path().to_owned();
    let resumed = resume_step.is_some();
    let keep = Keep { last: recipe.schedule.keep_last, every: recipe.schedule.keep_every };
    let writer = Writer::start((folder, lock), parts, log_file, keep);
    let interrupter = control.interrupter.clone();
    let training = Loop {
        recipe,
        state,
        writer,
        log,
        observer,
        control,
        resumed,
        device: autodiff,
        judging: if places.is_empty() { Judging::best(&device) } else { Judging::OnDevice },
        seat,
        places,
        replicas: None,
        unread: Vec::new(),
        grad_norm: f64::NAN,
        asked: Vec::new(),
    };
    let mut supervised = SupervisedTraining::new(directory, Arc::new(train_loader), Arc::new(valid_loader))
        .with_application_logger(None)
        .with_metric_logger(InMemoryMetricLogger::default())
        .renderer(Box::new(Quiet))
        .with_interrupter(interrupter)
        .with_custom_checkpointers(model_records, optimizer_records, scheduler_records)
        .with_checkpointing_strategy(SaveAlways)
        .with_training_strategy(TrainingStrategy::Custom(StepStrategy::new(training, sender)));
    if let Some(step) = resume_step {
        supervised = supervised.checkpoint(step);
    }
    supervised.launch(learner);
    outcome.recv().expect("the strategy reports how it ended")
}
