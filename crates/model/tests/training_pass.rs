//! Passes that compute blocks once more, beside those that keep their values.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::collections::BTreeMap;

use burn::{
    module::{Module, ModuleVisitor, Param, list_param_ids},
    optim::GradientsParams,
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

/// The loss of five targets of three documents, and the gradients of all parameters.
fn loss_and_gradients(model: &Gpt, activations: Activations) -> (TensorData, Vec<Option<TensorData>>) {
    let device = kernels::testing::test_device().autodiff();
    let ids = |ids: [[i32; 6]; 2]| Tensor::<2, Int>::from_ints(ids, &device);
    let documents = Documents::new(&[4, 2, 6], 6);
    let targets = ids([[2, 3, 4, 5, 6, 7], [0, 7, 7, 1, 3, 12]]);
    let targets = Targets::some(targets, Tensor::from_ints([0, 2, 5, 7, 11], &device));
    kernels::seed_dropout(7);
    let tokens = ids([[1, 2, 3, 4, 5, 6], [12, 0, 7, 7, 1, 3]]);
    let pass = model.training_pass(tokens, Some(&documents), activations);
    let loss = model.head_loss(pass.hidden(), targets);
    let gradients = pass.backward(loss.clone());
    let mut collect = Collect { gradients: &gradients, found: Vec::new() };
    model.visit(&mut collect);
    (loss.into_data(), collect.found)
}

fn assert_agree(model: &Gpt, n_gradients: usize) {
    let [kept, recomputed] =
        [Activations::Keep, Activations::Recompute].map(|activations| loss_and_gradients(model, activations));
    assert_eq!(kept.1.iter().flatten().count(), n_gradients);
    assert_eq!(recomputed.0, kept.0);
    for (idx, (recomputed, kept)) in recomputed.1.into_iter().zip(kept.1).enumerate() {
        assert_eq!(recomputed, kept, "gradient {idx} of {:?}", model.config());
    }
}

#[test]
fn recomputed_blocks_have_the_same_gradients_bit_for_bit() {
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
fn recomputed_blocks_have_the_same_gradients_of_low_rank_updates() {
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
