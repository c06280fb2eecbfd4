//! The model in the form that burn-train's learner requires.

use burn::{
    optim::GradientsParams,
    prelude::*,
    train::{InferenceStep, ItemLazy, TrainOutput, TrainStep},
};
use model::{Activations, Gpt};

use crate::{
    Recipe,
    batches::{Objective, TokenBatch},
};

/// A [`Gpt`] with its training step. A newtype, because trait and model are defined in other crates.
#[derive(Module, Debug)]
pub(crate) struct TrainableGpt {
    gpt: Gpt,
    /// 1 / the number of micro-batches whose gradients are summed in a step.
    loss_scale: f64,
    /// Of preference tuning.
    #[module(skip)]
    beta: Option<f64>,
    #[module(skip)]
    activations: Activations,
}

impl TrainableGpt {
    pub(crate) fn new(gpt: Gpt, recipe: &Recipe) -> Self {
        let loss_scale = 1.0 / recipe.optimizer.grad_accumulation.get() as f64;
        let (beta, activations) = (recipe.dpo.map(|dpo| dpo.beta), recipe.activations());
        Self { gpt, loss_scale, beta, activations }
    }

    pub(crate) fn into_gpt(self) -> Gpt {
        self.gpt
    }

    /// Like [`TrainStep::step`], but calls `complete` with the gradients of each block as soon as they are computed, the last
    /// block first. The output has the others.
    pub(crate) fn step_by_block(
        &self,
        batch: TokenBatch,
        complete: impl FnMut(GradientsParams),
    ) -> TrainOutput<BatchLoss> {
        let Self { gpt, activations, .. } = self;
        let pass = gpt.training_pass_by_block(batch.inputs.clone(), batch.documents.as_ref(), *activations);
        let Objective { loss, differentiable } = self.weighted(&batch, pass.hidden());
        TrainOutput { grads: pass.backward_by_block(differentiable, complete), item: BatchLoss(loss) }
    }

    /// The objective with the batch's weight, and for the gradient also the scale of losses.
    fn weighted(&self, batch: &TokenBatch, hidden: Tensor<3>) -> Objective {
        let Objective { loss, differentiable } = batch.objective(&self.gpt, hidden, self.beta);
        Objective {
            loss: loss.mul_scalar(batch.weight),
            differentiable: differentiable.mul_scalar(batch.weight * self.loss_scale),
        }
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
        let pass = self.gpt.training_pass(batch.inputs.clone(), batch.documents.as_ref(), self.activations);
        let Objective { loss, differentiable } = self.weighted(&batch, pass.hidden());
        TrainOutput { grads: pass.backward(differentiable), item: BatchLoss(loss) }
    }
}

impl InferenceStep for TrainableGpt {
    type Input = TokenBatch;
    type Output = BatchLoss;

    fn step(&self, batch: TokenBatch) -> BatchLoss {
        let hidden = self.gpt.hidden(batch.inputs.clone(), batch.documents.as_ref());
        BatchLoss(batch.objective(&self.gpt, hidden, self.beta).loss)
    }
}
