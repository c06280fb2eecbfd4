//! The models that transformers made.

use std::path::{Path, PathBuf};

use burn::prelude::*;
use checkpoint::RunFolder;
use families::load_nanogpt;
use model::Gpt;

/// A folder that `xtask/golden/layouts.py` made.
pub(crate) fn fixture(name: &str) -> PathBuf {
    // What cargo says now, or said then: `cargo xtask device-check` has the tests run where they were not built.
    let home = std::env::var("CARGO_MANIFEST_DIR").unwrap_or(env!("CARGO_MANIFEST_DIR").to_owned());
    Path::new(&home).join("tests/fixtures/layouts").join(name)
}

/// The model in it.
pub(crate) fn model(name: &str) -> Gpt {
    let device = kernels::testing::test_device();
    let checkpoint = fixture(name).join("ckpt.pt");
    match checkpoint.exists() {
        true => load_nanogpt(&checkpoint, &device).unwrap(),
        false => RunFolder::open(&fixture(name)).unwrap().load_model(&device).unwrap(),
    }
}

/// What it makes of some ids, at every position.
pub(crate) fn logits(model: &Gpt, ids: &[i32]) -> Vec<f32> {
    let ids =
        Tensor::from_data(TensorData::new(ids.to_vec(), [1, ids.len()]), &kernels::testing::test_device());
    model.forward(ids).into_data().try_into_vec().unwrap()
}
