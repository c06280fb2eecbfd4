//! Which paths a model takes on the device of the tests. The count is of a process, so this is the only test in its
//! own.

use burn::prelude::*;
use kernels::testing::{n_gpu_paths, test_device};
use model::GptConfig;

#[test]
fn cpu_as_gpu_uses_the_gpu_paths() {
    let device = test_device().autodiff();
    let model = GptConfig::debug().init(1, &device).unwrap();
    let ids = Tensor::<2, Int>::from_ints([[1, 2, 3, 4]], &device);
    model.loss(ids.clone(), ids).backward();
    match std::env::var("KINDLING_TEST_DEVICE").unwrap_or_default().as_str() {
        "" | "cpu" | "cpu-plain" => assert_eq!(n_gpu_paths(), 0),
        "cpu-as-gpu" => assert!(n_gpu_paths() > 0),
        _ => {} // The CPU replaces a missing GPU.
    }
}
