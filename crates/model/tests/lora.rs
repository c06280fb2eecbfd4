//! Training of low-rank updates.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::collections::BTreeMap;

use burn::{
    module::{Module, ModuleVisitor, Param},
    prelude::*,
    tensor::{Distribution, Gradients, Tolerance},
};
use kernels::{RowBlock, RowBlocks};
use model::{Gpt, GptConfig, Lora};

const TOKENS: [[i32; 6]; 2] = [[1, 2, 3, 4, 5, 6], [12, 0, 7, 7, 1, 3]];
const TARGETS: [[i32; 6]; 2] = [[2, 3, 4, 5, 6, 7], [0, 7, 7, 1, 3, 12]];

/// A model with several updates in each linear layer of its blocks.
fn with_updates(config: &GptConfig, device: &Device) -> Gpt {
    device.seed(3);
    let random = |shape: [usize; 2]| Tensor::<2>::random(shape, Distribution::Default, device);
    let [qkv, _, _] = config.qkv_widths();
    let shapes = [
        ("attention.qkv", [config.qkv_widths().iter().sum(), config.n_embd]),
        ("attention.project", [config.n_embd, qkv]),
        ("feed_forward.expand", [config.expanded_width(), config.n_embd]),
        ("feed_forward.project", [config.n_embd, config.n_inner()]),
    ];
    let layers = (0..config.n_layer).flat_map(|idx| {
        shapes.map(|(path, [n_out, n_in])| {
            let half = n_out / 2;
            let update =
                |rank, first_row, n| Lora::new(random([rank, n_in]), random([n, rank]), first_row, 0.1);
            (format!("blocks.{idx}.{path}"), vec![update(2, 0, half), update(1, half, n_out - half)])
        })
    });
    config.init(1, device).unwrap().with_lora(layers.collect::<BTreeMap<_, _>>())
}

/// The gradient of each parameter, in their order.
struct Collect<'a> {
    gradients: &'a Gradients,
    found: Vec<Option<TensorData>>,
}

impl ModuleVisitor for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.found.push(param.val().grad(self.gradients).map(Tensor::into_data));
    }
}

fn loss_and_gradients(model: Gpt, device: &Device) -> (TensorData, Vec<Option<TensorData>>) {
    kernels::seed_dropout(7);
    let model = model.train();
    let ids = |ids: [[i32; 6]; 2]| Tensor::<2, Int>::from_ints(ids, device);
    let loss = model.loss(ids(TOKENS), ids(TARGETS));
    let gradients = loss.backward();
    let mut collect = Collect { gradients: &gradients, found: Vec::new() };
    model.visit(&mut collect);
    (loss.into_data(), collect.found)
}

#[test]
fn lora_only_leaves_the_gradients_of_the_updates() {
    let device = kernels::testing::test_device();
    let training = device.clone().autodiff();
    for config in [GptConfig::debug(), GptConfig::debug_modern()] {
        let model = with_updates(&config, &device).with_dropout(0.1).with_lora_dropout(0.2);
        let (loss, all) = loss_and_gradients(model.clone(), &training);
        let (frozen_loss, found) = loss_and_gradients(model.lora_only(), &training);
        assert_eq!(frozen_loss, loss);
        assert!(all.iter().all(Option::is_some));
        assert_eq!(found.iter().flatten().count(), 2 * 2 * 4 * config.n_layer);
        let tolerance = kernels::testing::test_tolerance(1e-5);
        for (found, all) in found.iter().zip(all).filter_map(|(found, all)| Some((found.as_ref()?, all?))) {
            found.assert_approx_eq::<f32>(&all, Tolerance::rel_abs(tolerance, tolerance));
        }
    }
}

/// The matrices by path, as row blocks.
#[derive(Default)]
struct Blocks {
    path: Vec<String>,
    found: BTreeMap<String, RowBlocks>,
}

impl ModuleVisitor for Blocks {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Ok(dims) = <[usize; 2]>::try_from(param.dims().as_slice()) {
            let values = param.val().into_data().try_into_vec().unwrap();
            self.found.insert(self.path.join("."), RowBlocks::new(vec![RowBlock::from_vec(values, dims)]));
        }
    }
}

#[test]
fn a_model_of_row_blocks_trains_its_updates() {
    let device = kernels::testing::test_device();
    let training = device.clone().autodiff();
    let model = with_updates(&GptConfig::debug_modern(), &device);
    let mut blocks = Blocks::default();
    model.visit(&mut blocks);
    let packed = model.clone().with_row_blocks(|path| blocks.found.get(path).cloned());
    assert_eq!(packed.weight_bytes(), model.weight_bytes());
    assert!(packed.num_params() < model.num_params() / 2, "the matrices are not parameters");
    let (loss, expected) = loss_and_gradients(model.lora_only(), &training);
    let (packed_loss, found) = loss_and_gradients(packed.lora_only(), &training);
    let tolerance = || {
        let tolerance = kernels::testing::test_tolerance(1e-5);
        Tolerance::<f32>::rel_abs(tolerance, tolerance)
    };
    packed_loss.assert_approx_eq(&loss, tolerance());
    let expected: Vec<_> = expected.into_iter().flatten().collect();
    let found: Vec<_> = found.into_iter().flatten().collect();
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        found.assert_approx_eq(expected, tolerance());
    }
}

#[test]
fn dropout_of_updates_applies_in_training_only() {
    let device = kernels::testing::test_device();
    let training = device.clone().autodiff();
    let model = with_updates(&GptConfig::debug(), &device);
    let dropped = model.clone().with_lora_dropout(0.5);
    let logits = |model: &Gpt| model.forward(Tensor::from_ints(TOKENS, &device)).into_data();
    assert_eq!(logits(&dropped), logits(&model));
    let loss = |model: Gpt| loss_and_gradients(model, &training).0;
    assert_ne!(loss(dropped), loss(model));
}
