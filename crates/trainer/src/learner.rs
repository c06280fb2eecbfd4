//! A GPT in training with its optimizer and learning-rate schedule.

use burn::{
    module::Module,
    optim::{GradientsParams, OptimizerRecord},
    store::{ModuleRecord, RecordError},
    tensor::Bytes,
    train::{Learner, TrainOutput},
};
use burn_pack::Writer;
use checkpoint::{Checkpoint, Records};
use model::Gpt;

use crate::{
    Error, Recipe,
    batches::TokenBatch,
    gradients,
    optimizer::{optimizer, update_collected},
    optimizer_command::{CommandCell, Scale},
    records::{Parameters, optimizer_file, values, with_values},
    schedule::{Rate, SchedulePosition},
    trainable_gpt::{BatchLoss, TrainableGpt},
};

/// burn-train's [`Learner`] and the command cell of its optimizers. Not `Clone`: a copy would share the cell.
pub(crate) struct GptLearner {
    learner: Learner<TrainableGpt>,
    commands: CommandCell,
}

impl GptLearner {
    /// A learner without optimizer state; `step` is the next step.
    pub(crate) fn new(gpt: Gpt, recipe: &Recipe, rate: Rate, step: u64) -> Self {
        let gpt = gpt.with_precision(recipe.run.precision).train();
        let gpt = if gpt.has_lora() { gpt.lora_only() } else { gpt };
        let model = TrainableGpt::new(gpt, recipe);
        let commands = CommandCell::default();
        let optimizer = optimizer(&recipe.optimizer, &recipe.model, &commands);
        Self { learner: Learner::new(model, optimizer, SchedulePosition::new(rate, step)), commands }
    }

    /// Loads weights and optimizer state.
    ///
    /// # Errors
    ///
    /// If a file does not match the checkpoint's manifest or is not a record.
    pub(crate) fn load(&mut self, checkpoint: &Checkpoint) -> Result<(), Error> {
        let model = ModuleRecord::from_bytes(Bytes::from_bytes_vec(checkpoint.model()?))?;
        // With low-rank updates, the record has these alone.
        let has_base = self.gpt().has_lora();
        self.learner.load_model(model.allow_partial(has_base));
        let optimizer = OptimizerRecord::from_bytes(Bytes::from_bytes_vec(checkpoint.optimizer()?))?;
        self.learner.load_optim(optimizer);
        Ok(())
    }

    /// The model with gradient recording. It shares the weights.
    pub(crate) fn model(&self) -> TrainableGpt {
        self.learner.model()
    }

    /// The model for inference. It shares the weights.
    pub(crate) fn gpt(&self) -> Gpt {
        self.learner.model().valid().into_gpt()
    }

    /// The learning rate of the last step.
    pub(crate) fn learning_rate(&self) -> f64 {
        self.learner.lr_current().base()
    }

    /// Computes loss and gradients of a micro-batch.
    pub(crate) fn train_step(&self, batch: TokenBatch) -> TrainOutput<BatchLoss> {
        self.learner.train_step(batch)
    }

    /// Advances to the next learning rate of the schedule.
    pub(crate) fn lr_step(&mut self) {
        self.learner.lr_step();
    }

    /// Updates weights and optimizer state with the scaled gradients.
    pub(crate) fn optimizer_step(&mut self, grads: GradientsParams, scale: Scale) {
        let Self { learner, commands } = self;
        let trained = gradients::trained(&learner.model(), &grads);
        let collected = commands.step(scale.clone(), || learner.optimizer_step(grads));
        if !collected.is_empty() {
            let updated = update_collected(collected, &scale);
            let again = gradients::as_own(&learner.model().valid(), &trained);
            commands.restore(updated, || learner.optimizer_step(again));
        }
    }

    /// The trained parameters.
    pub(crate) fn parameters(&self) -> Parameters {
        let model = self.learner.model().valid();
        match self.gpt().has_lora() {
            true => Parameters::of_lora(&model),
            false => Parameters::of(&model),
        }
    }

    /// Replaces weights by others, and leaves optimizer state unchanged.
    pub(crate) fn assign(&mut self, weights: GradientsParams) {
        let Self { learner, commands } = self;
        commands.assign(|| learner.optimizer_step(weights));
    }

    /// Forgets the optimizer state of parameters, each given as its own gradient.
    pub(crate) fn forget(&mut self, parameters: GradientsParams) {
        let Self { learner, commands } = self;
        commands.forget(|| learner.optimizer_step(parameters));
    }

    /// Replaces the tensors of the optimizer states, by parameter and state, by those that `map` returns in the same order.
    ///
    /// # Errors
    ///
    /// The error of `map`, or if a tensor can't be read from its device.
    pub(crate) fn map_states(
        &mut self,
        map: impl FnOnce(Vec<Vec<f32>>) -> Result<Vec<Vec<f32>>, Error>,
    ) -> Result<(), Error> {
        let Parameters { names, as_gradients, .. } = self.parameters();
        let Self { learner, commands } = self;
        let mut states = commands.read_states(|| learner.optimizer_step(as_gradients));
        let tensors = states.iter_mut().flatten().flat_map(|state| &mut state.tensors);
        let mut tensors: Vec<_> = tensors.map(|(_, tensor)| tensor).collect();
        let values = tensors.iter().map(|tensor| values(tensor)).collect::<Result<_, _>>()?;
        for (tensor, values) in tensors.iter_mut().zip(map(values)?) {
            **tensor = with_values(tensor, values);
        }
        let file = optimizer_file(names, states).into_bytes().map_err(RecordError::from)?;
        learner.load_optim(OptimizerRecord::from_bytes(file)?);
        Ok(())
    }

    /// A snapshot of weights and optimizer state, to be written while training continues. It holds tensor handles, not
    /// copies.
    ///
    /// Burn exposes optimizer state only during a step. So this takes a step that changes nothing, with each parameter
    /// as its own gradient.
    pub(crate) fn snapshot(&mut self) -> Records {
        let Parameters { names, tensors, as_gradients, .. } = self.parameters();
        let Self { learner, commands } = self;
        let states = commands.read_states(|| learner.optimizer_step(as_gradients));
        Records { model: Writer::new(tensors), optimizer: optimizer_file(names, states), outer: None }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use burn::{optim::GradientsParams, prelude::*, tensor::Tolerance, train::TrainOutput};

    use super::*;
    use crate::preset;

    fn learner(recipe: &Recipe) -> GptLearner {
        let gpt = recipe.model.init(1, &kernels::testing::test_device()).unwrap();
        GptLearner::new(gpt, recipe, Arc::new(|_| 1e-2), 0)
    }

    fn recipe(kind: &str) -> Recipe {
        let sets = [format!("optimizer.kind={kind}"), "model.n_embd=8".to_owned()];
        let recipe = Recipe::parse(preset("debug").unwrap(), &sets).unwrap();
        Recipe { model: model::GptConfig { vocab_size: 5, ..recipe.model }, ..recipe }
    }

    /// The gradients of one batch.
    fn gradients_of(learner: &GptLearner) -> GradientsParams {
        let device = kernels::testing::test_device().autodiff();
        let inputs = Tensor::<2, Int>::from_data([[0, 1, 2, 3], [3, 2, 4, 1]], &device);
        let TrainOutput { grads, .. } = learner.train_step(TokenBatch::of_windows(inputs.clone(), inputs));
        grads
    }

    fn files(Records { model, optimizer, .. }: Records) -> [Vec<u8>; 2] {
        [model, optimizer].map(|file| file.into_bytes().unwrap().to_vec())
    }

    /// The record with its tensors sorted by name; Burn's order varies.
    fn sorted(record: Bytes) -> Vec<u8> {
        let reader = burn_pack::Reader::from_bytes(record).unwrap();
        let (scalars, paths) = (reader.scalars().clone(), reader.metadata().clone());
        let mut tensors = reader.into_tensors().unwrap();
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        let writer = Writer::new(tensors);
        let writer = scalars.iter().fold(writer, |writer, (name, value)| writer.with_scalar(name, *value));
        let writer = paths.iter().fold(writer, |writer, (id, path)| writer.with_metadata(id, path));
        writer.into_bytes().unwrap().to_vec()
    }

    #[test]
    fn a_snapshot_equals_burns_records_and_changes_nothing() {
        for kind in ["adamw", "muon"] {
            let recipe = recipe(kind);
            let [mut learner, mut undisturbed] = [learner(&recipe), learner(&recipe)];
            assert_eq!(files(learner.snapshot())[1], Writer::new(Vec::new()).into_bytes().unwrap().to_vec());
            for scale in [Scale::Known(1.0), Scale::Skipped, Scale::Known(0.5)] {
                for learner in [&mut learner, &mut undisturbed] {
                    learner.lr_step();
                    learner.optimizer_step(gradients_of(learner), scale.clone());
                }
                // Serialised after the next step, as the background writer may do.
                let snapshot = learner.snapshot();
                let of_this_step = files(undisturbed.snapshot());
                learner.optimizer_step(gradients_of(&learner), Scale::Known(1.0));
                assert_eq!(files(snapshot), of_this_step);
                undisturbed.optimizer_step(gradients_of(&undisturbed), Scale::Known(1.0));
            }

            let [model, optimizer] = files(learner.snapshot());
            assert_eq!(model, learner.model().into_record().into_bytes().unwrap().to_vec());
            // Burn can load the file and writes the same bytes.
            let record = OptimizerRecord::from_bytes(Bytes::from_bytes_vec(optimizer.clone())).unwrap();
            let commands = CommandCell::default();
            let loaded =
                crate::optimizer::optimizer(&recipe.optimizer, &recipe.model, &commands).load_record(record);
            assert_eq!(sorted(loaded.into_bytes().unwrap()), optimizer);
        }
    }

    #[test]
    fn steps_with_a_scale_on_the_device_are_those_of_the_host() {
        let plain = kernels::testing::test_device();
        let close = Tolerance::absolute(kernels::testing::test_tolerance(1e-5));
        for kind in ["adamw", "muon"] {
            // Several matrices of each shape.
            let recipe = recipe(kind);
            let recipe = Recipe { model: model::GptConfig { n_layer: 3, ..recipe.model }, ..recipe };
            let [mut on_host, mut on_device] = [learner(&recipe), learner(&recipe)];
            let skip = |learner: &mut GptLearner, scale: Scale| {
                let before = files(learner.snapshot())[0].clone();
                learner.optimizer_step(gradients_of(learner), scale);
                assert!(files(learner.snapshot())[0] == before, "{kind}: a skipped step changes no weight");
            };
            for factor in [0.5, 0.25, 1.0] {
                on_host.lr_step();
                on_device.lr_step();
                on_host.optimizer_step(gradients_of(&on_host), Scale::Known(factor));
                let scale = |factor| Scale::on_device(Tensor::from_floats([factor], &plain));
                on_device.optimizer_step(gradients_of(&on_device), scale(factor));
                skip(&mut on_host, Scale::Skipped);
                skip(&mut on_device, scale(f32::NAN));
                // As a resumed run would.
                let state = OptimizerRecord::from_bytes(Bytes::from_bytes_vec(
                    files(on_device.snapshot())[1].clone(),
                ));
                on_device.learner.load_optim(state.unwrap());
                let [expected, got] = [&on_host, &on_device].map(|learner| learner.parameters().tensors);
                for (expected, got) in expected.iter().zip(&got) {
                    let [expected, got] = [expected, got].map(|x| TensorData::from(&values(x).unwrap()[..]));
                    got.assert_approx_eq::<f32>(&expected, close);
                }
            }
        }
    }
}
