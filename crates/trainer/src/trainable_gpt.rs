//! The model in the form that burn-train's learner requires.

use burn::{
    prelude::*,
    train::{InferenceStep, ItemLazy, TrainOutput, TrainStep},
};
use model::Gpt;

use crate::batches::TokenBatch;

/// A [`Gpt`] with its training step. A newtype, because trait and model are defined in other crates.
#[derive(Module, Debug)]
pub(crate) struct TrainableGpt {
    gpt: Gpt,
    /// 1 / the number of micro-batches whose gradients are summed in a step.
    loss_scale: f64,
}

impl TrainableGpt {
    pub(crate) fn new(gpt: Gpt, grad_accumulation: u64) -> Self {
        Self { gpt, loss_scale: 1.0 / grad_accumulation as f64 }
    }

    pub(crate) fn into_gpt(self) -> Gpt {
        self.gpt
    }
}

/// The loss of one batch, `[1]`, on its device until it is read. In training it has the batch's weight.
#[derive(Debug)]
pub(crate) struct BatchLoss(pub(crate) Tensor<1>);

impl ItemLazy for BatchLoss {
    fn sync(self) -> Result<Self, burn::tensor::ExecutionError> {
        Ok(self)
    }
}

impl TrainStep for TrainableGpt {
    type Input = TokenBatch;
    type Output = BatchLoss;

    fn step(&self, batch: TokenBatch) -> TrainOutput<BatchLoss> {
        let weight = batch.weight;
        let loss = batch.loss(&self.gpt);
        let grads = loss.clone().mul_scalar(weight * self.loss_scale).backward();
        TrainOutput::new(self, grads, BatchLoss(loss.inner().mul_scalar(weight)))
    }
}

impl InferenceStep for TrainableGpt {
    type Input = TokenBatch;
    type Output = BatchLoss;

    fn step(&self, batch: TokenBatch) -> BatchLoss {
        BatchLoss(batch.loss(&self.gpt))
    }
}
