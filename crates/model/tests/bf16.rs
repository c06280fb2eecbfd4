//! Compares bf16 matrix products with f32 products. The only test of its process, because it switches the process to
//! the GPU paths: fused bf16 operations need a CPU with bf16 instructions.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

use burn::{module::ModuleVisitor, prelude::*};
use burn::{
    module::Param,
    optim::GradientsParams,
    tensor::{Distribution, Gradients},
};
use model::{Gpt, GptConfig, Precision};

const SIZES: [usize; 2] = [3, 16];

fn loss_and_gradients(gpt: &Gpt, precision: Precision) -> (f32, GradientsParams) {
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

/// The cosine similarity of two gradients of each parameter, and the ratio of their norms.
struct Compared<'a> {
    exact: &'a GradientsParams,
    rounded: &'a GradientsParams,
    found: Vec<(f32, f32)>,
}

impl ModuleVisitor for Compared<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let [exact, rounded] = [self.exact, self.rounded].map(|grads| grads.get::<D>(param.id).unwrap());
        let product = |a: &Tensor<D>, b: &Tensor<D>| (a.clone() * b.clone()).sum().into_scalar::<f32>();
        let [exact_norm, norm] = [&exact, &rounded].map(|x| product(x, x).sqrt());
        self.found.push((product(&exact, &rounded) / (exact_norm * norm), norm / exact_norm));
    }
}

#[test]
fn bf16_gradients_agree_with_f32_gradients() {
    if !kernels::testing::test_device_has_bf16() {
        return;
    }
    kernels::testing::use_gpu_paths_on_cpu();
    for config in [GptConfig::debug(), GptConfig::debug_modern()] {
        let config =
            GptConfig { vocab_size: 20, block_size: SIZES[1], dropout: 0.0, zero_init: false, ..config };
        let gpt = config.init(3, &kernels::testing::test_device()).unwrap();
        let (exact_loss, exact) = loss_and_gradients(&gpt, Precision::F32);
        let (rounded_loss, rounded) = loss_and_gradients(&gpt, Precision::Bf16);
        assert_ne!(exact_loss, rounded_loss, "nothing was rounded");
        // Factors have eight bits, so each term has an error of about 2⁻⁸; a loss and a gradient sum thousands of
        // terms.
        assert!((exact_loss - rounded_loss).abs() < 2e-3 * exact_loss, "{rounded_loss} for {exact_loss}");
        let mut compared = Compared { exact: &exact, rounded: &rounded, found: Vec::new() };
        gpt.visit(&mut compared);
        assert!(!compared.found.is_empty());
        for (cosine, ratio) in compared.found {
            assert!(cosine > 0.999 && (ratio - 1.0).abs() < 0.02, "cosine {cosine}, norm ratio {ratio}");
        }
    }
}
