//! The training loop: one optimizer step after another.

use std::{
    mem,
    num::NonZeroU64,
    sync::{Arc, Mutex, mpsc::Sender},
    time::Instant,
};

use burn::{
    data::dataloader::{DataLoader, DataLoaderIterator},
    module::Module,
    prelude::*,
    train::{
        Learner, LearningCheckpointer, SupervisedLearningStrategy, SupervisedTrainingEventProcessor,
        TrainLoader, TrainingComponents, ValidLoader,
    },
};
use checkpoint::{Interval, TrainerState};

use crate::{
    Control, Ending, Error, Event, KeepWeights, Metrics, Outcome, Recipe, Split,
    batches::TokenBatch,
    gradients::{self, clip_scale},
    guard::{judge, judge_on_device, spike_limit},
    metrics::{MetricsLog, finite},
    optimizer::Scale,
    replicas::{Place, Replicas},
    step::{Step, Unread, gradient},
    stopwatch::Stopwatch,
    team::Seat,
    trainee::Trainee,
    writer::Writer,
};

/// Who is told what happens.
pub type Observer = Box<dyn FnMut(Event<'_>) + Send>;

/// When it is decided whether a step may change the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judging {
    /// Before it does, by the steps before it: the loop waits for the loss of each step.
    AtOnce,
    /// On the device, by the steps up to the last line of metrics: the loop runs ahead of the device until it reads the losses
    /// of all steps since.
    OnDevice,
}

impl Judging {
    /// A GPU stands still while its results are read and the next step is not there yet. A CPU is itself what waits.
    pub(crate) fn best(device: &Device) -> Self {
        if kernels::has_fused_operations(device) { Self::AtOnce } else { Self::OnDevice }
    }
}

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
    pub(crate) judging: Judging,
    pub(crate) seat: Seat,
    /// Those of further devices, until training starts there.
    pub(crate) places: Vec<Place>,
    pub(crate) replicas: Option<Replicas>,
    /// Steps that the device has judged and nobody has read.
    pub(crate) unread: Vec<Unread>,
    /// The norm of the last gradient that was read.
    pub(crate) grad_norm: f64,
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

impl Loop {
    fn run(
        &mut self,
        learner: &mut Learner<Trainee>,
        train: &dyn DataLoader<TokenBatch>,
        valid: &dyn DataLoader<TokenBatch>,
        save: Save<'_>,
    ) -> Result<Outcome, Error> {
        self.replicas = Some(Replicas::start(learner, mem::take(&mut self.places), &self.recipe));
        let ending = self.steps(learner, train, valid, save);
        // Those who wait for this device are told.
        self.seat = Seat::alone();
        self.replicas = None;
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
            self.step(learner, &mut *batches)?;
            stopwatch.step(|| drop(self.device.sync()));
            let step = self.state.step;
            let due = |every: NonZeroU64| step.is_multiple_of(every.get()) || step == schedule.max_steps;
            if due(schedule.log_interval) {
                self.read_steps(learner)?;
            }
            self.state.elapsed_seconds = elapsed_before + session.elapsed().as_secs_f64();
            (self.observer)(Event::Step { step });
            if due(schedule.log_interval) {
                self.log_training(learner, &stopwatch)?;
                stopwatch.restart();
            }

            let pause = Instant::now();
            self.state.evaluation_pending = due(schedule.eval_interval);
            self.finish_step(learner, valid)?;
            // Last: what belongs to a step is done before a checkpoint says so.
            let asked = self.control.take_save();
            let kept = schedule.keep_every.is_some_and(|every| step.is_multiple_of(every.get()));
            if due(schedule.checkpoint_interval) || kept || asked {
                saved_step = Some(self.save(learner, save)?);
            }
            self.asked.extend(asked.then_some(step));
            stopwatch.pause(pause.elapsed());
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

    /// One optimizer step, which leaves the weights as they are if its loss or gradient is not to be used.
    fn step(
        &mut self,
        learner: &mut Learner<Trainee>,
        batches: &mut dyn DataLoaderIterator<TokenBatch>,
    ) -> Result<(), Error> {
        let index = self.state.step;
        self.state.step += 1;
        self.state.tokens += self.recipe.tokens_per_step();
        if let Some(replicas) = &self.replicas {
            replicas.step(index, self.state.spike_limit)?;
        }
        let gradient = gradient(learner, batches, &self.recipe, index, &self.device, &self.seat)?;
        match self.judging {
            Judging::AtOnce => {
                let step = gradient.read();
                if self.take_in(self.state.step, step) {
                    let factor = clip_scale(step.grad_norm, self.recipe.optimizer.grad_clip);
                    gradient.descend(learner, Scale::Known(factor));
                }
                self.state.spike_limit = spike_limit(&self.state.losses, &self.recipe.guards);
                self.check_finite(learner, step)
            }
            Judging::OnDevice => {
                let (limit, clip) = (self.state.spike_limit, self.recipe.optimizer.grad_clip);
                let factor = judge_on_device(&gradient.found, limit, clip);
                self.unread.push(gradient.found.clone());
                gradient.descend(learner, Scale::on_device(factor));
                Ok(())
            }
        }
    }

    /// Reads what the device has found since the last time, if anything, and takes note of it.
    fn read_steps(&mut self, learner: &Learner<Trainee>) -> Result<(), Error> {
        let steps = Unread::read(mem::take(&mut self.unread));
        let first = self.state.step + 1 - steps.len() as u64;
        for (number, step) in (first..).zip(steps) {
            self.take_in(number, step);
            self.check_finite(learner, step)?;
        }
        // At these steps and no others, whenever else somebody reads: a run that goes on has the limits of one that was not
        // stopped.
        if self.state.step.is_multiple_of(self.recipe.schedule.log_interval.get()) {
            self.state.spike_limit = spike_limit(&self.state.losses, &self.recipe.guards);
        }
        Ok(())
    }

    /// Takes note of a step and says whether it may change the weights.
    fn take_in(&mut self, number: u64, step: Step) -> bool {
        self.grad_norm = step.grad_norm;
        match judge(&mut self.state, step.loss, step.grad_norm) {
            Ok(()) => {
                self.state.interval.loss_sum += step.loss;
                self.state.interval.n_losses += 1;
                true
            }
            Err(reason) => {
                (self.observer)(Event::Skipped { step: number, reason, loss: step.loss });
                false
            }
        }
    }

    /// Ends a run that has lost its way.
    fn check_finite(&self, learner: &Learner<Trainee>, step: Step) -> Result<(), Error> {
        if self.state.not_finite_in_a_row > self.recipe.guards.max_not_finite {
            return Err(self.diverged(learner, step.loss, step.grad_norm));
        }
        Ok(())
    }

    fn log_training(&mut self, learner: &Learner<Trainee>, stopwatch: &Stopwatch) -> Result<(), Error> {
        let Interval { loss_sum, n_losses } = mem::take(&mut self.state.interval);
        let loss = loss_sum / n_losses as f64; // Not a number if no step was used.
        let usual_seconds = stopwatch.seconds_per_step();
        if let Some(first) = stopwatch.first_step() {
            (self.observer)(Event::FirstStep { seconds: first.as_secs_f64(), usual_seconds });
        }
        self.write(Metrics {
            step: self.state.step,
            split: Split::Train,
            loss: finite(loss),
            perplexity: finite(loss.exp()),
            learning_rate: Some(learner.lr_current().base()),
            grad_norm: finite(self.grad_norm),
            tokens: self.state.tokens,
            skipped_steps: self.state.skipped_steps,
            tokens_per_second: finite(self.recipe.tokens_per_step() as f64 / usual_seconds),
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
        self.read_steps(learner)?;
        let trainee = learner.model().valid();
        let (mut losses, mut sizes) = (Vec::new(), Vec::new());
        for batch in valid.iter() {
            if self.control.should_stop() {
                return Ok(());
            }
            let batch = batch?;
            sizes.push(batch.inputs.dims()[0]);
            losses.push(burn::train::InferenceStep::step(&trainee, batch).0);
        }
        let losses: Vec<f32> = Tensor::cat(losses, 0).into_data().try_into_vec().expect("losses are f32");
        let loss = mean_over_windows(&losses, &sizes);
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
            if self.recipe.run.keep_weights == KeepWeights::Best {
                self.writer.weights(trainee.gpt().clone());
            }
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
        self.read_steps(learner)?;
        let weights_norm =
            scalar(gradients::weights_norm(&learner.model().valid(), &self.device.clone().inner()));
        if !weights_norm.is_finite() {
            return Err(self.diverged(learner, f64::NAN, f64::NAN));
        }
        save(learner, self.state.step);
        if self.recipe.run.keep_weights == KeepWeights::Last {
            self.writer.weights(learner.model().valid().gpt().clone());
        }
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

/// The mean loss of all windows, from the means of batches; the last batch may be smaller than the others.
fn mean_over_windows(losses: &[f32], sizes: &[usize]) -> f64 {
    let whole = sizes.first().copied().unwrap_or(1) as f64;
    // A whole batch weighs exactly one: with equal ones this is their plain mean, to the bit.
    let weights = || sizes.iter().map(|&size| size as f64 / whole);
    let sum: f64 = losses.iter().zip(weights()).map(|(&loss, weight)| f64::from(loss) * weight).sum();
    sum / weights().sum::<f64>()
}

/// The one number of a tensor; waits for the device.
fn scalar(tensor: Tensor<1>) -> f64 {
    f64::from(tensor.into_scalar::<f32>())
}
