//! The training loop: one optimizer step after another.

use std::{
    num::NonZeroU64,
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
        Learner, LearningCheckpointer, SupervisedLearningStrategy, SupervisedTrainingEventProcessor,
        TrainLoader, TrainingComponents, ValidLoader,
    },
};
use checkpoint::{Interval, TrainerState};
use model::device_seed;

use crate::{
    Control, Ending, Error, Event, Metrics, Outcome, Recipe, Split,
    batches::TokenBatch,
    gradients,
    guard::judge,
    metrics::{MetricsLog, finite},
    optimizer::GradientScale,
    trainee::Trainee,
    writer::Writer,
};

/// Who is told what happens.
pub type Observer = Box<dyn FnMut(Event<'_>) + Send>;

/// Everything the loop needs beside the learner and the data.
pub(crate) struct Loop {
    pub(crate) recipe: Recipe,
    pub(crate) state: TrainerState,
    pub(crate) writer: Writer,
    pub(crate) log: MetricsLog,
    pub(crate) observer: Observer,
    pub(crate) control: Control,
    /// Whether it goes on from a checkpoint.
    pub(crate) resumed: bool,
    /// Where gradients are recorded.
    pub(crate) device: Device,
    pub(crate) gradient_scale: GradientScale,
    /// The steps whose checkpoint was asked for.
    pub(crate) asked: Vec<u64>,
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
        let TrainingComponents { checkpointer, event_processor, event_store, .. } = components;
        let mut checkpointer = checkpointer.expect("training always sets checkpointers");
        let mut save = |learner: &Learner<Trainee>, step: u64| {
            let step = usize::try_from(step).expect("a run has fewer steps than memory has addresses");
            LearningCheckpointer::checkpoint(&mut checkpointer, learner, step, &event_store);
        };
        let mut training = self.training.lock().expect("training runs once");
        let outcome = training.run(&mut learner, &*train, &*valid, &mut save);
        // Whoever asked for the outcome waits for it.
        let _ = self.outcome.send(outcome);
        (learner.model(), event_processor)
    }
}

/// Hands the learner's records to the checkpointers, for the step given.
type Save<'a> = &'a mut dyn FnMut(&Learner<Trainee>, u64);

/// The time since the last line of training metrics.
struct Stopwatch {
    started: Instant,
    /// Time that was not training.
    paused: Duration,
    n_steps: u64,
}

impl Stopwatch {
    fn start() -> Self {
        Self { started: Instant::now(), paused: Duration::ZERO, n_steps: 0 }
    }
}

impl Loop {
    fn run(
        &mut self,
        learner: &mut Learner<Trainee>,
        train: &dyn DataLoader<TokenBatch>,
        valid: &dyn DataLoader<TokenBatch>,
        save: Save<'_>,
    ) -> Result<Outcome, Error> {
        let ending = self.steps(learner, train, valid, save);
        // What is being written gets to the disk, however it ended; the first error is the one to tell.
        let written = self.writer.finish();
        let ending = ending?;
        self.tell_saved(written?);
        Ok(Outcome { state: self.state.clone(), ending })
    }

    fn steps(
        &mut self,
        learner: &mut Learner<Trainee>,
        train: &dyn DataLoader<TokenBatch>,
        valid: &dyn DataLoader<TokenBatch>,
        save: Save<'_>,
    ) -> Result<Ending, Error> {
        let schedule = self.recipe.schedule.clone();
        let elapsed_before = self.state.elapsed_seconds;
        let session = Instant::now();
        (self.observer)(Event::Started { step: self.state.step, max_steps: schedule.max_steps });
        // The checkpoint of a new run comes before anything that takes its time, so that there always is one.
        let mut saved_step = self.resumed.then_some(self.state.step);
        if saved_step.is_none() {
            saved_step = Some(self.save(learner, save)?);
            let first = self.writer.wait()?;
            self.tell_saved(vec![first]);
        }
        if self.state.evaluation_pending {
            self.finish_step(learner, valid)?;
            saved_step = None;
        }

        let mut batches = train.iter();
        let mut stopwatch = Stopwatch::start();
        while self.ending().is_none() && !self.control.should_stop() {
            let Step { loss, grad_norm } = self.step(learner, &mut *batches)?;
            self.state.elapsed_seconds = elapsed_before + session.elapsed().as_secs_f64();
            stopwatch.n_steps += 1;

            let step = self.state.step;
            let due = |every: NonZeroU64| step.is_multiple_of(every.get()) || step == schedule.max_steps;
            (self.observer)(Event::Step { step });
            if self.state.not_finite_in_a_row > self.recipe.guards.max_not_finite {
                return Err(self.diverged(learner, loss, grad_norm));
            }
            if due(schedule.log_interval) {
                self.log_training(learner, &stopwatch, grad_norm)?;
                stopwatch = Stopwatch::start();
            }

            let pause = Instant::now();
            self.state.evaluation_pending = due(schedule.eval_interval);
            self.finish_step(learner, valid)?;
            // Last: what belongs to a step is done before a checkpoint says so.
            let asked = self.control.take_save();
            if due(schedule.checkpoint_interval) || asked {
                saved_step = Some(self.save(learner, save)?);
            }
            self.asked.extend(asked.then_some(step));
            stopwatch.paused += pause.elapsed();
            let saved = self.writer.saved()?;
            self.tell_saved(saved);
        }

        self.state.elapsed_seconds = elapsed_before + session.elapsed().as_secs_f64();
        if saved_step != Some(self.state.step) {
            self.save(learner, save)?;
        }
        Ok(self.ending().unwrap_or(Ending::Interrupted))
    }

    /// Whether the run is over, and why.
    fn ending(&self) -> Option<Ending> {
        ending(&self.recipe, &self.state)
    }

    /// Does what is due after a step beside training: the evaluation, then the sample, due or asked for. If a stop is asked for
    /// meanwhile, both stay pending.
    fn finish_step(
        &mut self,
        learner: &Learner<Trainee>,
        valid: &dyn DataLoader<TokenBatch>,
    ) -> Result<(), Error> {
        if self.state.evaluation_pending {
            self.evaluate(learner, valid)?;
        }
        let step = self.state.step;
        let every = self.recipe.schedule.sample_interval;
        let due = step > 0 && every.is_some_and(|every| step.is_multiple_of(every.get()));
        let last = self.ending().is_some();
        let asked = self.control.take_sample();
        if !self.state.evaluation_pending && (due || last || asked) {
            (self.observer)(Event::Sample { step, model: learner.model().valid().gpt(), last });
        }
        Ok(())
    }

    /// One optimizer step, unless its loss or gradient is not to be used.
    fn step(
        &mut self,
        learner: &mut Learner<Trainee>,
        batches: &mut dyn DataLoaderIterator<TokenBatch>,
    ) -> Result<Step, Error> {
        let Self { recipe, state, observer, device, gradient_scale, .. } = self;
        let index = state.step;
        state.step += 1;
        state.tokens += recipe.tokens_per_step();
        let mut verdict = Ok(());
        let step = optimizer_step((learner, gradient_scale), batches, recipe, index, device, |step| {
            verdict = judge(state, &recipe.guards, step.loss, step.grad_norm);
            verdict.is_ok()
        })?;
        match verdict {
            Ok(()) => {
                state.interval.loss_sum += step.loss;
                state.interval.n_losses += 1;
            }
            Err(reason) => observer(Event::Skipped { step: state.step, reason, loss: step.loss }),
        }
        Ok(step)
    }

    fn log_training(
        &mut self,
        learner: &Learner<Trainee>,
        stopwatch: &Stopwatch,
        grad_norm: f64,
    ) -> Result<(), Error> {
        let Interval { loss_sum, n_losses } = std::mem::take(&mut self.state.interval);
        let loss = loss_sum / n_losses as f64; // Not a number if no step was used.
        let training = stopwatch.started.elapsed().saturating_sub(stopwatch.paused);
        let tokens = stopwatch.n_steps * self.recipe.tokens_per_step();
        self.write(Metrics {
            step: self.state.step,
            split: Split::Train,
            loss: finite(loss),
            perplexity: finite(loss.exp()),
            learning_rate: Some(learner.lr_current().base()),
            grad_norm: finite(grad_norm),
            tokens: self.state.tokens,
            skipped_steps: self.state.skipped_steps,
            tokens_per_second: finite(tokens as f64 / training.as_secs_f64()),
            elapsed_seconds: self.state.elapsed_seconds,
        })
    }

    /// Measures the validation loss, and keeps the weights if it is the lowest so far. In a run that is being
    /// stopped it stays pending.
    fn evaluate(
        &mut self,
        learner: &Learner<Trainee>,
        valid: &dyn DataLoader<TokenBatch>,
    ) -> Result<(), Error> {
        let trainee = learner.model().valid();
        let mut sum = 0.0;
        let mut n_batches = 0_u32;
        for batch in valid.iter() {
            if self.control.should_stop() {
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
            skipped_steps: self.state.skipped_steps,
            tokens_per_second: None,
            elapsed_seconds: self.state.elapsed_seconds,
        })?;
        if !loss.is_finite() {
            return Err(self.diverged(learner, loss, f64::NAN));
        }
        if self.state.best_loss.is_none_or(|best| loss < best) {
            self.writer.weights(trainee.gpt().clone());
            self.state.best_loss = Some(loss);
            self.state.best_step = self.state.step;
            self.state.evaluations_since_best = 0;
        } else {
            self.state.evaluations_since_best += 1;
        }
        self.state.evaluation_pending = false;
        Ok(())
    }

    /// Has a checkpoint written, unless the weights are lost. Returns its step.
    fn save(&mut self, learner: &Learner<Trainee>, save: Save<'_>) -> Result<u64, Error> {
        let weights_norm =
            scalar(gradients::weights_norm(&learner.model().valid(), &self.device.clone().inner()));
        if !weights_norm.is_finite() {
            return Err(self.diverged(learner, f64::NAN, f64::NAN));
        }
        save(learner, self.state.step);
        self.writer.checkpoint(self.state.clone());
        Ok(self.state.step)
    }

    fn tell_saved(&mut self, steps: Vec<u64>) {
        for step in steps {
            (self.observer)(Event::Saved { step, asked: self.asked.contains(&step) });
        }
    }

    fn write(&mut self, metrics: Metrics) -> Result<(), Error> {
        self.log
            .write(&metrics)
            .map_err(|source| Error::Metrics { path: self.log.path().to_owned(), source })?;
        (self.observer)(Event::Metrics(&metrics));
        Ok(())
    }

    fn diverged(&self, learner: &Learner<Trainee>, loss: f64, grad_norm: f64) -> Error {
        let learning_rate = learner.lr_current().base();
        Error::Diverged {
            step: self.state.step,
            learning_rate,
            loss,
            grad_norm,
            best_step: self.state.best_step,
        }
    }
}

/// Whether a run of this recipe that stands there is over, and why.
pub fn ending(recipe: &Recipe, state: &TrainerState) -> Option<Ending> {
    let out_of_patience = |patience: NonZeroU64| state.evaluations_since_best >= patience.get();
    if state.evaluation_pending {
        None
    } else if state.step >= recipe.schedule.max_steps {
        Some(Ending::Finished)
    } else {
        recipe.guards.patience.is_some_and(out_of_patience).then_some(Ending::StoppedEarly)
    }
}

/// What an optimizer step has found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Step {
    /// The mean loss of its micro-batches.
    pub(crate) loss: f64,
    /// The norm of its gradient before clipping.
    pub(crate) grad_norm: f64,
}

/// One optimizer step, the one after `index` others. `use_it` says whether the weights are to change by it.
///
/// # Errors
///
/// If a batch can't be read.
///
/// # Panics
///
/// If the loader has no batch left.
pub(crate) fn optimizer_step(
    (learner, scale): (&mut Learner<Trainee>, &GradientScale),
    batches: &mut dyn DataLoaderIterator<TokenBatch>,
    recipe: &Recipe,
    index: u64,
    autodiff: &Device,
    use_it: impl FnOnce(Step) -> bool,
) -> Result<Step, DatasetError> {
    let n_batches = recipe.optimizer.grad_accumulation.get();
    let plain = autodiff.clone().inner();
    let model = learner.model();

    let mut loss_sum = Tensor::zeros([1], &plain);
    let mut accumulator = GradientsAccumulator::new();
    for micro_batch in 0..n_batches {
        let batch = batches.next().expect("the loader has a batch for each step")?;
        autodiff.seed(device_seed(recipe.run.seed, index, micro_batch));
        let output = learner.train_step(batch);
        loss_sum = loss_sum + output.item.0;
        accumulator.accumulate(&model, output.grads);
    }
    let grads = accumulator.grads();
    let norm = gradients::global_norm(&model, &grads, &plain);
    let step = Step { loss: scalar(loss_sum) / n_batches as f64, grad_norm: scalar(norm) };
    learner.lr_step();
    if use_it(step) {
        let limit = recipe.optimizer.grad_clip;
        scale.set(limit.map_or(1.0, |limit| gradients::clip_scale(step.grad_norm, limit)));
        drop(model); // The last other owner of the weights, which can then be updated in place.
        learner.optimizer_step(grads);
    }
    Ok(step)
}

/// The one number of a tensor; waits for the device.
fn scalar(tensor: Tensor<1>) -> f64 {
    f64::from(tensor.into_scalar::<f32>())
}
