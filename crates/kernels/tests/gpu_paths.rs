//! Which paths operations take on the device of the tests. The count is of a process, so this is the only test in its own.

use burn::prelude::*;
use kernels::{
    Head, Precision, embed,
    testing::{n_gpu_paths, test_device},
};

#[test]
fn cpu_as_gpu_takes_the_paths_of_gpus_and_the_cpu_does_not() {
    let device = test_device();
    let table = Tensor::<2>::ones([5, 3], &device);
    let ids = Tensor::<2, Int>::from_ints([[0, 1, 2, 3]], &device);
    let rows = embed(ids, table.clone(), None, None, 0.0).reshape([4, 3]);
    let targets = Tensor::<1, Int>::from_ints([0, 1, 2, 3], &device);
    Head::new(table).loss(rows, targets, Precision::F32).into_data();

    let name = std::env::var("KINDLING_TEST_DEVICE").unwrap_or_default();
    match name.as_str() {
        "" | "cpu" | "cpu-plain" => assert_eq!(n_gpu_paths(), 0),
        "cpu-as-gpu" => assert!(n_gpu_paths() > 0),
        _ => {} // A GPU may be missing, and then the CPU takes its place.
    }
}
