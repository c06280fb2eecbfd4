//! Training on packed documents.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

use burn::{
    module::{Module, ModuleVisitor, Param},
    prelude::*,
    tensor::Tolerance,
};
use model::{Documents, Gpt, GptConfig, Position, Targets};

const TOKENS: [i32; 12] = [1, 2, 3, 4, 5, 6, 12, 0, 7, 7, 1, 3];
const TARGETS: [i32; 12] = [2, 3, 9, 5, 6, 7, 0, 8, 7, 1, 3, 12];
const LENGTHS: [usize; 5] = [3, 2, 1, 5, 1];

/// Collects the gradients of all parameters.
struct Gradients<'a> {
    gradients: &'a burn::tensor::Gradients,
    found: Vec<TensorData>,
}

impl ModuleVisitor for Gradients<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.found.extend(param.val().grad(self.gradients).map(Tensor::into_data));
    }
}

/// A loss and the gradients of all parameters.
fn loss_and_gradients(model: &Gpt, loss: Tensor<1>) -> (f32, Vec<TensorData>) {
    let gradients = loss.backward();
    let mut visitor = Gradients { gradients: &gradients, found: Vec::new() };
    model.visit(&mut visitor);
    (loss.into_scalar(), visitor.found)
}

#[test]
fn a_packed_batch_has_the_loss_and_gradients_of_separate_sequences() {
    let device = kernels::testing::test_device().autodiff();
    let rows = |ids: &[i32], shape: [usize; 2]| {
        Tensor::<2, Int>::from_data(TensorData::new(ids.to_vec(), shape), &device)
    };
    let close = || {
        let tolerance = kernels::testing::test_tolerance(2e-5);
        Tolerance::<f32>::rel_abs(tolerance, tolerance)
    };
    let mut learned = GptConfig::debug();
    learned.position.kind = Position::Learned;
    for config in [learned, GptConfig::debug_modern()] {
        let model = config.init(3, &device).unwrap().train();
        let documents = Documents::new(&LENGTHS, 6);
        let (tokens, targets) = (rows(&TOKENS, [2, 6]), rows(&TARGETS, [2, 6]));
        let packed_loss = |documents: &Documents| {
            model.head_loss(model.hidden(tokens.clone(), Some(documents)), Targets::all(targets.clone()))
        };
        let packed = loss_and_gradients(&model, packed_loss(&documents));

        let mut first = 0;
        let losses = LENGTHS.map(|n| {
            let range = first..first + n;
            first += n;
            let (tokens, targets) = (rows(&TOKENS[range.clone()], [1, n]), rows(&TARGETS[range], [1, n]));
            model.loss(tokens, targets) * n as f64 / 12.0
        });
        let separate = loss_and_gradients(&model, losses.into_iter().reduce(|sum, loss| sum + loss).unwrap());

        assert!((packed.0 - separate.0).abs() < kernels::testing::test_tolerance(1e-5), "{config:?}");
        assert_eq!(packed.1.len(), separate.1.len());
        assert!(packed.1.len() > 10, "all parameters have gradients");
        for (packed, separate) in packed.1.iter().zip(&separate.1) {
            packed.assert_approx_eq::<f32>(separate, close());
        }
        // Without documents, attention crosses them.
        let crossed = loss_and_gradients(&model, model.loss(tokens.clone(), targets.clone()));
        assert_ne!(crossed.0, packed.0);

        // One document per row changes nothing.
        let whole = loss_and_gradients(&model, packed_loss(&Documents::new(&[6; 2], 6)));
        if kernels::has_fused_operations(&device) {
            assert_eq!(whole, crossed);
        }
    }
}

#[test]
fn a_weighted_loss_has_its_derivatives_by_the_log_probabilities_as_weights() {
    let device = kernels::testing::test_device().autodiff();
    let rows = |ids: [i32; 12]| Tensor::<2, Int>::from_data(TensorData::new(ids.to_vec(), [2, 6]), &device);
    let model = GptConfig::debug_modern().init(3, &device).unwrap().train();
    let documents = Documents::new(&LENGTHS, 6);
    let targets = || Targets::some(rows(TARGETS), Tensor::from_ints([1, 2, 5, 9], &device));
    let hidden = || model.hidden(rows(TOKENS), Some(&documents));
    let loss = model.head_loss(hidden(), targets());
    let (loss, expected) = loss_and_gradients(&model, loss);

    // The mean of the negative log-probabilities has equal derivatives.
    let logprobs = model.head_logprobs(hidden(), targets());
    assert!(!logprobs.is_autodiff());
    let logprobs: Vec<f32> = logprobs.into_data().try_into_vec().unwrap();
    let weigh = |seen: &[f32]| {
        assert_eq!(seen, logprobs);
        vec![0.25; 4]
    };
    let weighted = model.head_weighted_loss(hidden(), targets(), weigh);
    let (weighted, found) = loss_and_gradients(&model, weighted);
    let tolerance = kernels::testing::test_tolerance(2e-5);
    assert!((weighted - loss).abs() < tolerance, "{weighted} is not {loss}");
    assert!((logprobs.iter().sum::<f32>() / -4.0 - loss).abs() < tolerance, "{logprobs:?}");
    for (found, expected) in found.iter().zip(&expected) {
        found.assert_approx_eq::<f32>(expected, Tolerance::rel_abs(tolerance, tolerance));
    }
}
