//! The training loop: one optimizer step after another.

use std::{
    sync::{Arc, Mutex, mpsc::Sender},
    time::{Duration, Instant},
};

use burn::{
    data::{
        dataloader::{DataLoader, DataLoaderIterator},
        dataset::DatasetError,
    },
    module::Module,
    optim::GradientsAccumulator,
    prelude::*,
    train::{
        Interrupter, Learner, LearningCheckpointer, SupervisedLearningStrategy,
        SupervisedTrainingEventProcessor, TrainLoader, TrainingComponents, ValidLoader,
    },
};
use checkpoint::{RunFolder, TrainerState};
use model::device_seed;

use crate::{
    Error, Event, Metrics, Outcome, Recipe, Split,
    batches::TokenBatch,
    gradients,
    metrics::{MetricsLog, finite},
    records::Parts,
    trainee::Trainee,
};

/// Who is told what happens.
pub type Observer = Box<dyn FnMut(Event<'_>) + Send>;

/// Everything the loop needs beside the learner and the data.
pub(crate) struct Loop {
    pub(crate) recipe: Recipe,
    pub(crate) folder: RunFolder,
    pub(crate) state: TrainerState,
    pub(crate) parts: Parts,
    pub(crate) log: MetricsLog,
    pub(crate) observer: Observer,
    /// Whether it goes on from a checkpoint.
    pub(crate) resumed: bool,
    /// Where gradients are recorded.
    pub(crate) device: Device,
}

/// burn-train's way in: counts steps where its own strategies count epochs.
pub(crate) struct StepStrategy {
    training: Mutex<Loop>,
    outcome: Sender<Result<Outcome, Error>>,
}

impl StepStrategy {
    pub(crate) fn new(training: Loop, outcome: Sender<Result<Outcome, Error>>) -> Arc<Self> {
        Arc::new(Self { training: Mutex::new(training), outcome })
    }
}

impl SupervisedLearningStrategy<Trainee> for StepStrategy {
    fn fit(
        &self,
        components: TrainingComponents<Trainee>,
        mut learner: Learner<Trainee>,
        train: TrainLoader<Trainee>,
        valid: ValidLoader<Trainee>,
        _starting_epoch: usize,
    ) -> (Trainee, SupervisedTrainingEventProcessor<Trainee>) {
        let TrainingComponents { checkpointer, interrupter, event_processor, event_store, .. } = components;
        let mut checkpointer = checkpointer.expect("training always sets checkpointers");
        let mut save = |learner: &Learner<Trainee>, step: u64| {
            let step = usize::try_from(step).expect("a run has fewer steps than memory has addresses");
            LearningCheckpointer::checkpoint(&mut checkpointer, learner, step, &event_store);
        };
        let mut training = self.training.lock().expect("training runs once");
        let outcome = training.run(&mut learner, &*train, &*valid, &interrupter, &mut save);
        // Whoever asked for the outcome waits for it.
        let _ = self.outcome.send(outcome);
        (learner.model(), event_processor)
    }
}

/// Hands the learner's records to the checkpointers, for the step given.
type Save<'a> = &'a mut dyn FnMut(&Learner<Trainee>, u64);

/// What has been measured since the last line of training metrics. Losses stay on the device until then.
struct Interval {
    loss_sum: Tensor<1>,
    n_steps: u64,
    started: Instant,
    /// Time in it that was not training.
    paused: Duration,
}

impl Interval {
    fn start(device: &Device) -> Self {
        let loss_sum = Tensor::zeros([1], &device.clone().inner());
        Self { loss_sum, n_steps: 0, started: Instant::now(), paused: Duration::ZERO }
    }

    fn mean_loss(&self) -> f64 {
        scalar(self.loss_sum.clone()) / self.n_steps.max(1) as f64
    }
}

impl Loop {
    fn run(
        &mut self,
        learner: &mut Learner<Trainee>,
        train: &dyn DataLoader<TokenBatch>,
        valid: &dyn DataLoader<TokenBatch>,
        interrupter: &Interrupter,
        save: Save<'_>,
    ) -> Result<Outcome, Error> {
        let schedule = self.recipe.schedule.clone();
        let elapsed_before = self.state.elapsed_seconds;
        let session = Instant::now();
        // A new run has nothing on disk to go on from, not even at step 0.
        let mut saved_step = self.resumed.then_some(self.state.step);
        (self.observer)(Event::Started { step: self.state.step, max_steps: schedule.max_steps });
        if !self.resumed {
            self.evaluate(learner, valid, interrupter)?;
        }

        let mut batches = train.iter();
        let mut interval = Interval::start(&self.device);
        let mut norm = Tensor::zeros([1], &self.device.clone().inner());
        while self.state.step < schedule.max_steps && !interrupter.should_stop() {
            let (loss, grad_norm) =
                optimizer_step(learner, &mut *batches, &self.recipe, self.state.step, &self.device)?;
            self.state.step += 1;
            self.state.tokens += self.recipe.tokens_per_step();
            self.state.elapsed_seconds = elapsed_before + session.elapsed().as_secs_f64();
            interval.loss_sum = interval.loss_sum + loss;
            interval.n_steps += 1;
            norm = grad_norm;

            let step = self.state.step;
            let last = step == schedule.max_steps;
            let due = |every: u64| step.is_multiple_of(every) || last;
            (self.observer)(Event::Step { step });
            if due(schedule.log_interval.get()) {
                self.log_training(learner, &interval, &norm)?;
                interval = Interval::start(&self.device);
            }

            let pause = Instant::now();
            if due(schedule.eval_interval.get()) {
                self.evaluate(learner, valid, interrupter)?;
            }
            if due(schedule.checkpoint_interval.get()) {
                self.check_finite(learner, &interval, &norm)?;
                self.save(learner, save)?;
                saved_step = Some(step);
            }
            if last || schedule.sample_interval.is_some_and(|every| step.is_multiple_of(every.get())) {
                (self.observer)(Event::Sample { step, model: learner.model().valid().gpt() });
            }
            interval.paused += pause.elapsed();
        }

        self.state.elapsed_seconds = elapsed_before + session.elapsed().as_secs_f64();
        if saved_step != Some(self.state.step) {
            self.check_finite(learner, &interval, &norm)?;
            self.save(learner, save)?;
        }
        let interrupted = self.state.step < schedule.max_steps;
        Ok(Outcome { state: self.state.clone(), interrupted })
    }

    fn log_training(
        &mut self,
        learner: &Learner<Trainee>,
        interval: &Interval,
        norm: &Tensor<1>,
    ) -> Result<(), Error> {
        let loss = interval.mean_loss(); // Waits for the device.
        let training = interval.started.elapsed().saturating_sub(interval.paused);
        let tokens = interval.n_steps * self.recipe.tokens_per_step();
        self.write(Metrics {
            step: self.state.step,
            split: Split::Train,
            loss: finite(loss),
            perplexity: finite(loss.exp()),
            learning_rate: Some(learner.lr_current().base()),
            grad_norm: finite(scalar(norm.clone())),
            tokens: self.state.tokens,
            tokens_per_second: finite(tokens as f64 / training.as_secs_f64()),
            elapsed_seconds: self.state.elapsed_seconds,
        })?;
        self.check_finite(learner, interval, norm)
    }

    /// Measures the validation loss, and keeps the weights if it is the lowest so far. A run that is being
    /// stopped measures nothing.
    fn evaluate(
        &mut self,
        learner: &Learner<Trainee>,
        valid: &dyn DataLoader<TokenBatch>,
        interrupter: &Interrupter,
    ) -> Result<(), Error> {
        let trainee = learner.model().valid();
        let mut sum = 0.0;
        let mut n_batches = 0_u32;
        for batch in valid.iter() {
            if interrupter.should_stop() {
                return Ok(());
            }
            let loss = burn::train::InferenceStep::step(&trainee, batch?);
            sum += scalar(loss.0);
            n_batches += 1;
        }
        let loss = sum / f64::from(n_batches);
        self.write(Metrics {
            step: self.state.step,
            split: Split::Valid,
            loss: finite(loss),
            perplexity: finite(loss.exp()),
            learning_rate: None,
            grad_norm: None,
            tokens: self.state.tokens,
            tokens_per_second: None,
            elapsed_seconds: self.state.elapsed_seconds,
        })?;
        if !loss.is_finite() {
            return Err(self.diverged(learner));
        }
        if self.state.best_loss.is_none_or(|best| loss < best) {
            self.folder.save_weights(trainee.gpt())?;
            self.state.best_loss = Some(loss);
            self.state.best_step = self.state.step;
        }
        Ok(())
    }

    fn save(&mut self, learner: &Learner<Trainee>, save: Save<'_>) -> Result<(), Error> {
        save(learner, self.state.step);
        let checkpoint = self.parts.collect(self.state.clone())?;
        self.folder.save_checkpoint(&checkpoint)?;
        (self.observer)(Event::Saved { step: self.state.step });
        Ok(())
    }

    fn write(&mut self, metrics: Metrics) -> Result<(), Error> {
        self.log
            .write(&metrics)
            .map_err(|source| Error::Metrics { path: self.log.path().to_owned(), source })?;
        (self.observer)(Event::Metrics(&metrics));
        Ok(())
    }

    /// Refuses to go on with weights that are lost.
    fn check_finite(
        &self,
        learner: &Learner<Trainee>,
        interval: &Interval,
        norm: &Tensor<1>,
    ) -> Result<(), Error> {
        if interval.mean_loss().is_finite() && scalar(norm.clone()).is_finite() {
            return Ok(());
        }
        Err(self.diverged(learner))
    }

    fn diverged(&self, learner: &Learner<Trainee>) -> Error {
        Error::Diverged { step: self.state.step, learning_rate: learner.lr_current().base() }
    }
}

/// One optimizer step, the one after `step` others. Returns the mean loss of its micro-batches and the norm of
/// its gradient before clipping, `[1]` both, still on the device.
///
/// # Errors
///
/// If a batch can't be read.
///
/// # Panics
///
/// If the loader has no batch left.
pub(crate) fn optimizer_step(
    learner: &mut Learner<Trainee>,
    batches: &mut dyn DataLoaderIterator<TokenBatch>,
    recipe: &Recipe,
    step: u64,
    autodiff: &Device,
) -> Result<(Tensor<1>, Tensor<1>), DatasetError> {
    let n_batches = recipe.optimizer.grad_accumulation.get();
    let plain = autodiff.clone().inner();
    let model = learner.model();

    let mut loss_sum = Tensor::zeros([1], &plain);
    let mut accumulator = GradientsAccumulator::new();
    for micro_batch in 0..n_batches {
        let batch = batches.next().expect("the loader has a batch for each step")?;
        autodiff.seed(device_seed(recipe.run.seed, step, micro_batch));
        let output = learner.train_step(batch);
        loss_sum = loss_sum + output.item.0;
        accumulator.accumulate(&model, output.grads);
    }
    let mut grads = accumulator.grads();
    let norm = gradients::global_norm(&model, &grads, &plain);
    if let Some(limit) = recipe.optimizer.grad_clip {
        gradients::clip(&model, &mut grads, norm.clone(), limit);
    }
    drop(model); // The last other owner of the weights, which can then be updated in place.
    learner.lr_step();
    learner.optimizer_step(grads);
    Ok((loss_sum / n_batches as f64, norm))
}

/// The one number of a tensor; waits for the device.
fn scalar(tensor: Tensor<1>) -> f64 {
    f64::from(tensor.into_scalar::<f32>())
}
