//! Which paths a model takes on the device of the tests. The count is of a process, so this is the only test in its
//! own.

use burn::prelude::*;
use kernels::{
    Precision,
    testing::{n_gpu_paths, test_device},
};
use model::GptConfig;

#[test]
fn cpu_as_gpu_uses_the_gpu_paths_in_both_precisions() {
    let device = test_device().autodiff();
    let ids = Tensor::<2, Int>::from_ints([[1, 2, 3, 4]], &device);
    let paths = |precision| {
        let before = n_gpu_paths();
        let model = GptConfig::debug().init(1, &device).unwrap().with_precision(precision);
        model.loss(ids.clone(), ids.clone()).backward();
        n_gpu_paths() - before
    };
    let [f32_paths, bf16_paths] = [Precision::F32, Precision::Bf16].map(paths);
    match std::env::var("KINDLING_TEST_DEVICE").unwrap_or_default().as_str() {
        "" | "cpu" | "cpu-plain" => assert_eq!([f32_paths, bf16_paths], [0, 0]),
        "cpu-as-gpu" => {
            assert!(f32_paths > 0);
            assert_eq!(bf16_paths, f32_paths);
        }
        _ => {} // The CPU replaces a missing GPU.
    }
}
