//! Fixtures: models made by transformers.

use std::path::{Path, PathBuf};

use burn::prelude::*;
use checkpoint::RunFolder;
use families::load_nanogpt;
use model::Gpt;

/// A folder made by `xtask/golden/layouts.py`.
pub(crate) fn fixture(name: &str) -> PathBuf {
    // The run-time value first: `cargo xtask device-check` runs the tests on another machine than the build.
    let home = std::env::var("CARGO_MANIFEST_DIR").unwrap_or(env!("CARGO_MANIFEST_DIR").to_owned());
    Path::new(&home).join("tests/fixtures/layouts").join(name)
}

/// The model of a fixture.
pub(crate) fn model(name: &str) -> Gpt {
    let device = kernels::testing::test_device();
    let checkpoint = fixture(name).join("ckpt.pt");
    match checkpoint.exists() {
        true => load_nanogpt(&checkpoint, &device).unwrap(),
        false => RunFolder::open(&fixture(name)).unwrap().load_model(&device).unwrap(),
    }
}

/// The logits at every position.
pub(crate) fn logits(model: &Gpt, ids: &[i32]) -> Vec<f32> {
    let ids =
        Tensor::from_data(TensorData::new(ids.to_vec(), [1, ids.len()]), &kernels::testing::test_device());
    model.forward(ids).into_data().try_into_vec().unwrap()
}
