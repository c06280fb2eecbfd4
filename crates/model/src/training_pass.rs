//! The forward and backward pass of training.

use burn::{
    module::Module,
    optim::{GradientsAccumulator, GradientsParams},
    prelude::*,
};
use kernels::{Documents, Precision, dropout_state, seed_dropout};
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
    /// `None` if all blocks share one graph.
    blocks: Option<SeparateBlocks<'a>>,
}

/// Blocks whose graphs end at their inputs, so that the backward pass takes one block at a time.
#[derive(Debug)]
struct SeparateBlocks<'a> {
    documents: Option<&'a Documents>,
    /// The input of the first block with its graph, `[B, T, C]`.
    embedded: Tensor<3>,
    passes: Vec<BlockPass>,
    /// The output of the last block, where the graph of the head begins, `[B, T, C]`.
    output: Tensor<3>,
}

/// The forward pass of a block; its tensors are `[B, T, C]`.
#[derive(Debug)]
enum BlockPass {
    /// With the graph between input and output. The graph begins at the input.
    Kept { x: Tensor<3>, output: Box<Tensor<3>> },
    /// With the input alone, without a graph, and the [state of dropout](dropout_state) before the block.
    Recomputed { x: Tensor<3>, dropout: u64 },
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
        match activations {
            Activations::Keep => {
                TrainingPass { gpt: self, hidden: self.hidden(tokens, documents), blocks: None }
            }
            Activations::Recompute => self.training_pass_by_block(tokens, documents, activations),
        }
    }

    /// Like [`Gpt::training_pass`], with the same gradients, for [`TrainingPass::backward_by_block`].
    ///
    /// # Shapes
    ///
    /// - `tokens`: `[B, T]`
    ///
    /// # Panics
    ///
    /// As [`Gpt::hidden`].
    pub fn training_pass_by_block<'a>(
        &'a self,
        tokens: Tensor<2, Int>,
        documents: Option<&'a Documents>,
        activations: Activations,
    ) -> TrainingPass<'a> {
        let embedded = self.embed_batch(tokens, documents);
        let settings = self.settings(documents);
        let mut passes = Vec::with_capacity(self.blocks().len());
        let mut x = embedded.clone().detach();
        for block in self.blocks() {
            let (pass, output) = match activations {
                Activations::Keep => {
                    let x = x.require_grad();
                    let output = block.forward(x.clone(), None, settings);
                    (BlockPass::Kept { x, output: Box::new(output.clone()) }, output.detach())
                }
                Activations::Recompute => {
                    let dropout = dropout_state();
                    // Burn would keep the values inside a block until the next backward pass, even if nothing refers to
                    // them.
                    let output = block.clone().no_grad().forward(x.clone(), None, settings);
                    (BlockPass::Recomputed { x, dropout }, output)
                }
            };
            passes.push(pass);
            x = output;
        }
        let output = x.require_grad();
        let hidden = self.final_norm().forward(output.clone(), Precision::F32);
        let blocks = Some(SeparateBlocks { documents, embedded, passes, output });
        TrainingPass { gpt: self, hidden, blocks }
    }
}

impl TrainingPass<'_> {
    /// `[B, T, C]`
    pub fn hidden(&self) -> Tensor<3> {
        self.hidden.clone()
    }

    /// The gradients of a loss, `[1]`, that was computed from the hidden vectors.
    pub fn backward(self, loss: Tensor<1>) -> GradientsParams {
        let gpt = self.gpt;
        let mut all = GradientsAccumulator::new();
        let rest = self.backward_by_block(loss, |grads| all.accumulate(gpt, grads));
        all.accumulate(gpt, rest);
        all.grads()
    }

    /// Like [`TrainingPass::backward`], but calls `complete` with the gradients of each block as soon as they are computed,
    /// the last block first, and returns the other gradients. After [`Gpt::training_pass`] with kept activations it
    /// returns all of them.
    pub fn backward_by_block(
        self,
        loss: Tensor<1>,
        mut complete: impl FnMut(GradientsParams),
    ) -> GradientsParams {
        let Self { gpt, hidden, blocks } = self;
        drop(hidden);
        let mut grads = loss.backward();
        let Some(SeparateBlocks { documents, embedded, passes, output }) = blocks else {
            return GradientsParams::from_grads(grads, gpt);
        };
        // An embedding that is the head too has gradients from both.
        let mut rest = GradientsAccumulator::new();
        let mut upstream = output.grad_remove(&mut grads).expect("a loss depends on the hidden vectors");
        rest.accumulate(gpt, GradientsParams::from_grads(grads, gpt));
        for (block, pass) in gpt.blocks().iter().zip(passes).rev() {
            let (x, output) = match pass {
                BlockPass::Kept { x, output } => (x, *output),
                BlockPass::Recomputed { x, dropout } => {
                    seed_dropout(dropout);
                    let x = x.require_grad();
                    (x.clone(), block.forward(x, None, gpt.settings(documents)))
                }
            };
            let mut grads = with_gradient(output, upstream).backward();
            upstream = x.grad_remove(&mut grads).expect("a block's output depends on its input");
            complete(GradientsParams::from_grads(grads, block));
        }
        if gpt.trains_embeddings() {
            let grads = with_gradient(embedded, upstream).backward();
            rest.accumulate(gpt, GradientsParams::from_grads(grads, gpt));
        }
        rest.grads()
    }
}

/// A value whose gradient by `x` is `upstream`, `[1]`.
fn with_gradient(x: Tensor<3>, upstream: Tensor<3>) -> Tensor<1> {
    (x * Tensor::from_inner(upstream)).sum()
}
