//! Dropout applies in training only.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "tests may panic, and their values are small"
)]

use burn::{module::Module, prelude::*};
use model::GptConfig;

const IDS: [[i32; 6]; 2] = [[1, 2, 3, 4, 5, 6], [12, 0, 7, 7, 1, 3]];

#[test]
fn dropout_applies_in_training_only() {
    let config = GptConfig { dropout: 0.3, ..GptConfig::debug() };
    let device = kernels::testing::test_device();
    let autodiff = device.clone().autodiff();
    let model = config.init(0, &autodiff).unwrap();
    let train = |seed| {
        kernels::seed_dropout(seed);
        model.forward(Tensor::from_ints(IDS, &autodiff)).into_data()
    };
    assert_eq!(train(1), train(1));
    assert_ne!(train(1), train(2));

    let valid = model.valid();
    let plain = GptConfig { dropout: 0.0, ..config }.init(0, &device).unwrap();
    assert_eq!(
        valid.forward(Tensor::from_ints(IDS, &device)).into_data(),
        plain.forward(Tensor::from_ints(IDS, &device)).into_data()
    );
}
