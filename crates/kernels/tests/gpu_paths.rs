//! Which paths operations take on the test device. The count is per process, so this binary has only one test.

use burn::prelude::*;
use kernels::{
    Attention, Documents, LmHead, Precision, Rope, causal_attention, embed,
    testing::{n_gpu_paths, test_device},
};

#[test]
fn only_cpu_as_gpu_takes_the_gpu_paths() {
    let device = test_device();
    let table = Tensor::<2>::ones([5, 3], &device);
    let ids = Tensor::<2, Int>::from_ints([[0, 1, 2, 3]], &device);
    let rows = embed(ids, table.clone(), None, None, 0.0).reshape([4, 3]);
    let targets = Tensor::<1, Int>::from_ints([0, 1, 2, 3], &device);
    LmHead::new(table).loss(rows, targets, Precision::F32).into_data();

    let before_attention = n_gpu_paths();
    let attention = Attention { rope: Some(Rope::new(4, 3, 1e4)), ..Attention::plain(1) };
    let qkv = Tensor::<3>::ones([1, 4, 12], &device);
    causal_attention(qkv, &attention, Some(&Documents::new(&[1, 3], 4)), 0.0).into_data();

    let name = std::env::var("KINDLING_TEST_DEVICE").unwrap_or_default();
    match name.as_str() {
        "" | "cpu" | "cpu-plain" => assert_eq!(n_gpu_paths(), 0),
        "cpu-as-gpu" => {
            assert!(before_attention > 0);
            assert_eq!(n_gpu_paths(), before_attention + 1, "documents with RoPE take the path too");
        }
        _ => {} // If the GPU is missing, the tests run on the CPU.
    }
}
