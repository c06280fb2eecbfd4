//! Passes that take one block at a time, beside those with one graph.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::collections::BTreeMap;

use burn::{
    module::{Module, ModuleVisitor, Param, list_param_ids},
    optim::{GradientsAccumulator, GradientsParams},
    prelude::*,
    tensor::Distribution,
};
use model::{Activation, Activations, Documents, Gpt, GptConfig, Lora, Targets};

/// The gradient of each parameter, in their order.
struct Collect<'a> {
    gradients: &'a GradientsParams,
    found: Vec<Option<TensorData>>,
}

impl ModuleVisitor for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.found.push(self.gradients.get::<D>(param.id).map(Tensor::into_data));
    }
}

/// The loss and the gradients of all parameters.
type Results = (TensorData, Vec<Option<TensorData>>);

/// The results for five targets of three documents. With `by_block`, also the number of gradients that each block hands over.
fn results(model: &Gpt, activations: Activations, by_block: bool) -> (Results, Vec<usize>) {
    let device = kernels::testing::test_device().autodiff();
    let ids = |ids: [[i32; 6]; 2]| Tensor::<2, Int>::from_ints(ids, &device);
    let documents = Documents::new(&[4, 2, 6], 6);
    let targets = ids([[2, 3, 4, 5, 6, 7], [0, 7, 7, 1, 3, 12]]);
    let targets = Targets::some(targets, Tensor::from_ints([0, 2, 5, 7, 11], &device));
    kernels::seed_dropout(7);
    let tokens = ids([[1, 2, 3, 4, 5, 6], [12, 0, 7, 7, 1, 3]]);
    let mut handed_over = Vec::new();
    let (loss, gradients) = if by_block {
        let pass = model.training_pass_by_block(tokens, Some(&documents), activations);
        let loss = model.head_loss(pass.hidden(), targets);
        let mut all = GradientsAccumulator::new();
        let rest = pass.backward_by_block(loss.clone(), |grads| {
            handed_over.push(grads.len());
            all.accumulate(model, grads);
        });
        all.accumulate(model, rest);
        (loss, all.grads())
    } else {
        let pass = model.training_pass(tokens, Some(&documents), activations);
        let loss = model.head_loss(pass.hidden(), targets);
        (loss.clone(), pass.backward(loss))
    };
    let mut collect = Collect { gradients: &gradients, found: Vec::new() };
    model.visit(&mut collect);
    ((loss.into_data(), collect.found), handed_over)
}

fn assert_agree(model: &Gpt, n_gradients: usize) {
    let (kept, _) = results(model, Activations::Keep, false);
    assert_eq!(kept.1.iter().flatten().count(), n_gradients);
    for (activations, by_block) in
        [(Activations::Recompute, false), (Activations::Keep, true), (Activations::Recompute, true)]
    {
        let ((loss, gradients), handed_over) = results(model, activations, by_block);
        assert_eq!(loss, kept.0);
        for (idx, (gradient, kept)) in gradients.iter().zip(&kept.1).enumerate() {
            assert_eq!(gradient, kept, "gradient {idx} of {:?}, {activations:?}", model.config());
        }
        assert_eq!(handed_over.len(), if by_block { model.config().n_layer } else { 0 });
        if by_block && !model.has_lora() {
            let n_handed_over: usize = handed_over.iter().sum();
            assert!((n_gradients / 2..n_gradients).contains(&n_handed_over), "{handed_over:?}");
        }
    }
}

#[test]
fn separate_blocks_have_the_same_gradients_bit_for_bit() {
    let mut gpt2 = GptConfig { bias: true, ..GptConfig::debug() };
    gpt2.feed_forward.activation = Activation::GeluTanh;
    for mut config in [GptConfig::debug(), gpt2, GptConfig::debug_modern()] {
        for is_tied in [true, false] {
            config.tie_embeddings = is_tied;
            let model = config.init(3, &kernels::testing::test_device()).unwrap().with_dropout(0.2).train();
            assert_agree(&model, list_param_ids(&model).len());
        }
    }
}

#[test]
fn separate_blocks_have_the_same_gradients_of_low_rank_updates() {
    let device = kernels::testing::test_device();
    let config = GptConfig::debug_modern();
    device.seed(3);
    let random = |shape: [usize; 2]| Tensor::<2>::random(shape, Distribution::Default, &device);
    let updates = (0..config.n_layer).map(|idx| {
        let update = Lora::new(random([2, config.n_embd]), random([3, 2]), 1, 0.5);
        (format!("blocks.{idx}.attention.qkv"), vec![update])
    });
    let model = config.init(1, &device).unwrap().with_lora(updates.collect::<BTreeMap<_, _>>());
    let model = model.with_dropout(0.2).with_lora_dropout(0.3).train().lora_only();
    assert_agree(&model, 2 * config.n_layer);
}
