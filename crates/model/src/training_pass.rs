//! The forward and backward pass of training.

use burn::{
    module::Module,
    optim::{GradientsAccumulator, GradientsParams},
    prelude::*,
};
use kernels::{Documents, dropout_state, seed_dropout};
use serde::{Deserialize, Serialize};

use crate::Gpt;

/// Treatment of the values inside blocks that the backward pass needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activations {
    /// They are kept.
    #[default]
    Keep,
    /// Only the input of each block is kept. The backward pass computes a block's other values again
    /// ([Chen et al., 2016](https://arxiv.org/abs/1604.06174)): about a third more work, and the same gradients.
    Recompute,
}

/// A forward pass whose gradients are wanted.
#[derive(Debug)]
pub struct TrainingPass<'a> {
    gpt: &'a Gpt,
    hidden: Tensor<3>,
    recomputation: Option<Recomputation<'a>>,
}

/// The values kept to compute blocks again.
#[derive(Debug)]
struct Recomputation<'a> {
    documents: Option<&'a Documents>,
    /// The input of the first block with its graph, `[B, T, C]`.
    embedded: Tensor<3>,
    blocks: Vec<BlockInput>,
    /// The output of the last block, where the graph of the head begins, `[B, T, C]`.
    output: Tensor<3>,
}

#[derive(Debug)]
struct BlockInput {
    /// `[B, T, C]`, without a graph.
    x: Tensor<3>,
    /// The [state of dropout](dropout_state) before the block.
    dropout: u64,
}

impl Gpt {
    /// Computes the [hidden vectors](Gpt::hidden) of a batch for training. The model must record gradients.
    ///
    /// # Shapes
    ///
    /// - `tokens`: `[B, T]`
    ///
    /// # Panics
    ///
    /// As [`Gpt::hidden`].
    pub fn training_pass<'a>(
        &'a self,
        tokens: Tensor<2, Int>,
        documents: Option<&'a Documents>,
        activations: Activations,
    ) -> TrainingPass<'a> {
        if activations == Activations::Keep {
            return TrainingPass { gpt: self, hidden: self.hidden(tokens, documents), recomputation: None };
        }
        let embedded = self.embed_batch(tokens, documents);
        let mut blocks = Vec::with_capacity(self.blocks().len());
        let mut x = embedded.clone().detach();
        for block in self.blocks() {
            blocks.push(BlockInput { x: x.clone(), dropout: dropout_state() });
            // Burn would keep the values inside a block until the next backward pass, even if nothing refers to them.
            x = block.clone().no_grad().forward(x, None, self.settings(documents));
        }
        let output = x.require_grad();
        let hidden = self.final_norm().forward(output.clone());
        let recomputation = Recomputation { documents, embedded, blocks, output };
        TrainingPass { gpt: self, hidden, recomputation: Some(recomputation) }
    }
}

impl TrainingPass<'_> {
    /// `[B, T, C]`
    pub fn hidden(&self) -> Tensor<3> {
        self.hidden.clone()
    }

    /// The gradients of a loss, `[1]`, that was computed from the hidden vectors.
    pub fn backward(self, loss: Tensor<1>) -> GradientsParams {
        let Self { gpt, hidden, recomputation } = self;
        drop(hidden);
        let mut grads = loss.backward();
        let Some(Recomputation { documents, embedded, blocks, output }) = recomputation else {
            return GradientsParams::from_grads(grads, gpt);
        };
        // An embedding that is the head too has gradients from both.
        let mut all = GradientsAccumulator::new();
        let mut upstream = output.grad_remove(&mut grads).expect("a loss depends on the hidden vectors");
        all.accumulate(gpt, GradientsParams::from_grads(grads, gpt));
        for (block, BlockInput { x, dropout }) in gpt.blocks().iter().zip(blocks).rev() {
            seed_dropout(dropout);
            let x = x.require_grad();
            let output = block.forward(x.clone(), None, gpt.settings(documents));
            let mut grads = with_gradient(output, upstream).backward();
            upstream = x.grad_remove(&mut grads).expect("a block's output depends on its input");
            all.accumulate(gpt, GradientsParams::from_grads(grads, block));
        }
        if gpt.trains_embeddings() {
            let grads = with_gradient(embedded, upstream).backward();
            all.accumulate(gpt, GradientsParams::from_grads(grads, gpt));
        }
        all.grads()
    }
}

/// A value whose gradient by `x` is `upstream`, `[1]`.
fn with_gradient(x: Tensor<3>, upstream: Tensor<3>) -> Tensor<1> {
    (x * Tensor::from_inner(upstream)).sum()
}
