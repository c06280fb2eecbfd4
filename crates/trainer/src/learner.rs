//! A GPT in training, with its optimizer and its learning rate.

use burn::{
    module::Module,
    optim::{GradientsParams, OptimizerRecord},
    store::ModuleRecord,
    tensor::Bytes,
    train::{Learner, TrainOutput},
};
use burn_pack::Writer;
use checkpoint::{Checkpoint, Records};
use model::Gpt;

use crate::{
    Error, Recipe,
    batches::TokenBatch,
    optimizer::optimizer,
    order::{Orders, Scale},
    records::{Parameters, optimizer_file},
    schedule::{Rate, SchedulePosition},
    trainable_gpt::{BatchLoss, TrainableGpt},
};

/// burn-train's [`Learner`], and the orders that its optimizers take. It has no `Clone`: a copy would take the same orders.
pub(crate) struct GptLearner {
    learner: Learner<TrainableGpt>,
    orders: Orders,
}

impl GptLearner {
    /// One without optimizer state, before a step.
    pub(crate) fn new(gpt: Gpt, recipe: &Recipe, rate: Rate, step: u64) -> Self {
        let gpt = gpt.with_precision(recipe.run.precision).train();
        let model = TrainableGpt::new(gpt, recipe.optimizer.grad_accumulation.get());
        let orders = Orders::new();
        let optimizer = optimizer(&recipe.optimizer, &recipe.model, &orders);
        Self { learner: Learner::new(model, optimizer, SchedulePosition::new(rate, step)), orders }
    }

    /// Loads weights and optimizer state.
    ///
    /// # Errors
    ///
    /// If a file is not what the checkpoint's manifest says, or no record.
    pub(crate) fn load(&mut self, checkpoint: &Checkpoint) -> Result<(), Error> {
        let model = ModuleRecord::from_bytes(Bytes::from_bytes_vec(checkpoint.model()?))?;
        self.learner.load_model(model);
        let optimizer = OptimizerRecord::from_bytes(Bytes::from_bytes_vec(checkpoint.optimizer()?))?;
        self.learner.load_optim(optimizer);
        Ok(())
    }

    /// The model, which records gradients. It shares the weights.
    pub(crate) fn model(&self) -> TrainableGpt {
        self.learner.model()
    }

    /// The model for inference, which shares the weights.
    pub(crate) fn gpt(&self) -> Gpt {
        self.learner.model().valid().into_gpt()
    }

    /// The learning rate of the last step.
    pub(crate) fn learning_rate(&self) -> f64 {
        self.learner.lr_current().base()
    }

    /// Loss and gradients of a micro-batch.
    pub(crate) fn train_step(&self, batch: TokenBatch) -> TrainOutput<BatchLoss> {
        self.learner.train_step(batch)
    }

    /// Takes the next learning rate of the schedule.
    pub(crate) fn lr_step(&mut self) {
        self.learner.lr_step();
    }

    /// Updates weights and optimizer state by gradients times a scale.
    pub(crate) fn optimizer_step(&mut self, grads: GradientsParams, scale: Scale) {
        self.orders.set_scale(scale);
        self.learner.optimizer_step(grads);
    }

    /// Weights and optimizer state as they are, to be written while training continues: handles of tensors, no copies.
    ///
    /// Burn shows an optimizer its state in a step only. So this is a step that changes nothing, in which each parameter
    /// stands for its own gradient.
    pub(crate) fn snapshot(&mut self) -> Records {
        let Parameters { names, tensors, as_gradients, .. } = Parameters::of(&self.learner.model().valid());
        let Self { learner, orders } = self;
        let states = orders.read_states(|| learner.optimizer_step(as_gradients));
        Records { model: Writer::new(tensors), optimizer: optimizer_file(names, states) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use burn::{optim::GradientsParams, prelude::*, train::TrainOutput};

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

    /// The gradients of one batch of ids.
    fn gradients(learner: &GptLearner) -> GradientsParams {
        let device = kernels::testing::test_device().autodiff();
        let inputs = Tensor::<2, Int>::from_data([[0, 1, 2, 3], [3, 2, 4, 1]], &device);
        let TrainOutput { grads, .. } = learner.train_step(TokenBatch { targets: inputs.clone(), inputs });
        grads
    }

    fn files(Records { model, optimizer }: Records) -> [Vec<u8>; 2] {
        [model, optimizer].map(|file| file.into_bytes().unwrap().to_vec())
    }

    /// Sorted by name, as Burn does not.
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
    fn a_snapshot_has_burns_records_and_changes_nothing() {
        for kind in ["adamw", "muon"] {
            let recipe = recipe(kind);
            let [mut learner, mut undisturbed] = [learner(&recipe), learner(&recipe)];
            assert_eq!(files(learner.snapshot())[1], Writer::new(Vec::new()).into_bytes().unwrap().to_vec());
            for scale in [Scale::Known(1.0), Scale::Skipped, Scale::Known(0.5)] {
                for learner in [&mut learner, &mut undisturbed] {
                    learner.lr_step();
                    learner.optimizer_step(gradients(learner), scale.clone());
                }
                // Written when the next step is done, as in the background.
                let snapshot = learner.snapshot();
                let of_this_step = files(undisturbed.snapshot());
                learner.optimizer_step(gradients(&learner), Scale::Known(1.0));
                assert_eq!(files(snapshot), of_this_step);
                undisturbed.optimizer_step(gradients(&undisturbed), Scale::Known(1.0));
            }

            let [model, optimizer] = files(learner.snapshot());
            assert_eq!(model, learner.model().into_record().into_bytes().unwrap().to_vec());
            // What Burn makes of the file is the file again.
            let record = OptimizerRecord::from_bytes(Bytes::from_bytes_vec(optimizer.clone())).unwrap();
            let orders = Orders::new();
            let loaded =
                crate::optimizer::optimizer(&recipe.optimizer, &recipe.model, &orders).load_record(record);
            assert_eq!(sorted(loaded.into_bytes().unwrap()), optimizer);
        }
    }
}
