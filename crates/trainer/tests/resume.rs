//! A resumed run equals an uninterrupted one. Alone in its program: dropout draws from the device's generator,
//! which tests that run at the same time would share.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may panic, and its numbers are small"
)]

mod support;

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use burn::{
    module::{Module, ModuleVisitor, Param},
    prelude::*,
};
use checkpoint::{RunFolder, WEIGHTS};
use model::Gpt;
use support::{metrics, recipe, run, training, without_times};
use trainer::{Event, Interrupter, Outcome, Recipe, train};

/// Stops after the step given, as Ctrl-C does.
fn run_until(recipe: &Recipe, path: &Path, last: u64) -> Outcome {
    let interrupter = Interrupter::new();
    let stop = interrupter.clone();
    let observer = move |event: Event<'_>| {
        if matches!(event, Event::Step { step } if step == last) {
            stop.stop(None);
        }
    };
    train(training(recipe, path), interrupter, Box::new(observer)).unwrap()
}

/// The weights of the last checkpoint, parameter after parameter.
fn last_weights(recipe: &Recipe, path: &Path) -> Vec<f32> {
    /// Takes the weights at the end of a run.
    struct Weights(Vec<f32>);
    impl ModuleVisitor for Weights {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.extend(param.val().into_data().convert::<f32>().as_slice::<f32>().unwrap());
        }
    }
    let found = Arc::new(Mutex::new(Vec::new()));
    let place = Arc::clone(&found);
    let observer = move |event: Event<'_>| {
        if let Event::Sample { model, .. } = event {
            let mut weights = Weights(Vec::new());
            Gpt::visit(model, &mut weights);
            *place.lock().unwrap() = weights.0;
        }
    };
    // Going on for one step with a rate of zero shows the weights as they are.
    let step = RunFolder::open(path).unwrap().load_checkpoint().unwrap().state.step;
    let mut still = recipe.clone();
    still.schedule.max_steps = step + 1;
    still.optimizer.learning_rate = f64::MIN_POSITIVE;
    still.optimizer.min_learning_rate = 0.0;
    train(training(&still, path), Interrupter::new(), Box::new(observer)).unwrap();
    found.lock().unwrap().clone()
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one() {
    let runs = tempfile::tempdir().unwrap();
    // Dropout draws random numbers, accumulation counts micro-batches, the cosine moves: all have to resume.
    let recipe = recipe(&[
        "model.dropout=0.2",
        "optimizer.grad_accumulation=2",
        "schedule.log_interval=1",
        "schedule.eval_interval=4",
        "schedule.checkpoint_interval=100",
    ]);
    let whole = runs.path().join("whole");
    run(&recipe, &whole);

    let parts = runs.path().join("parts");
    assert!(run_until(&recipe, &parts, 5).interrupted);
    assert_eq!(RunFolder::open(&parts).unwrap().load_checkpoint().unwrap().state.step, 5);
    assert!(run_until(&recipe, &parts, 7).interrupted);
    let outcome = run(&recipe, &parts);
    assert_eq!(outcome.state.step, 12);

    assert_eq!(without_times(metrics(&parts)), without_times(metrics(&whole)));
    let best = |path: &Path| fs::read(path.join(WEIGHTS)).unwrap();
    assert_eq!(best(&parts), best(&whole), "the best weights, bit for bit");
    assert_eq!(last_weights(&recipe, &parts), last_weights(&recipe, &whole), "the last ones as well");
}
