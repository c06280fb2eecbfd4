//! Products in bf16, as GPUs make them, against those in f32. Alone in its program, since it has all of it work as on
//! GPUs: fused operations need a processor with instructions for bf16.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use burn::{module::ModuleVisitor, prelude::*};
use burn::{
    module::Param,
    optim::GradientsParams,
    tensor::{Distribution, Gradients},
};
use model::{Gpt, GptConfig, Precision};

const SIZES: [usize; 2] = [3, 16];

/// Loss and gradients of a batch.
fn loss(gpt: &Gpt, precision: Precision) -> (f32, GradientsParams) {
    let gpt = gpt.clone().train().with_precision(precision);
    let device = kernels::testing::test_device().autodiff();
    let ids = |seed| {
        device.seed(seed);
        Tensor::<2>::random(SIZES, Distribution::Uniform(0.0, 20.0), &device).int()
    };
    let loss = gpt.loss(ids(1), ids(2));
    let gradients: Gradients = loss.backward();
    (loss.into_scalar(), GradientsParams::from_grads(gradients, &gpt))
}

/// The cosine between two gradients of each parameter, and the ratio of their lengths.
struct Compared<'a> {
    exact: &'a GradientsParams,
    rounded: &'a GradientsParams,
    found: Vec<(f32, f32)>,
}

impl ModuleVisitor for Compared<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let [exact, rounded] = [self.exact, self.rounded].map(|grads| grads.get::<D>(param.id).unwrap());
        let product = |a: &Tensor<D>, b: &Tensor<D>| (a.clone() * b.clone()).sum().into_scalar::<f32>();
        let [exact_length, length] = [&exact, &rounded].map(|x| product(x, x).sqrt());
        self.found.push((product(&exact, &rounded) / (exact_length * length), length / exact_length));
    }
}

#[test]
fn gradients_in_bf16_point_where_those_in_f32_do() {
    if !kernels::testing::test_device_has_bf16() {
        return;
    }
    kernels::testing::use_gpu_paths_on_cpu();
    for config in [GptConfig::debug(), GptConfig::debug_modern()] {
        let config =
            GptConfig { vocab_size: 20, block_size: SIZES[1], dropout: 0.0, zero_init: false, ..config };
        let gpt = config.init(3, &kernels::testing::test_device()).unwrap();
        let (exact_loss, exact) = loss(&gpt, Precision::F32);
        let (rounded_loss, rounded) = loss(&gpt, Precision::Bf16);
        assert_ne!(exact_loss, rounded_loss, "nothing was rounded");
        // Factors have eight bits: each term is off by some 2⁻⁸, and thousands of terms go into a loss and a gradient.
        assert!((exact_loss - rounded_loss).abs() < 2e-3 * exact_loss, "{rounded_loss} for {exact_loss}");
        let mut compared = Compared { exact: &exact, rounded: &rounded, found: Vec::new() };
        gpt.visit(&mut compared);
        assert!(!compared.found.is_empty());
        for (cosine, ratio) in compared.found {
            assert!(cosine > 0.999 && (ratio - 1.0).abs() < 0.02, "cosine {cosine}, length {ratio}");
        }
    }
}
