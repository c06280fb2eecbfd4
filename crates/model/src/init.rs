//! Weight initialisation.
//!
//! Weights are sampled here only: on the host, in the order of the model's parameters, with a random number generator
//! keyed by the seed alone. So a seed gives the same weights on every backend.

use std::ops::Range;

use burn::{
    module::{Module, ModuleMapper, Param, ParamId, list_param_ids},
    nn::{Embedding, EmbeddingConfig},
    prelude::*,
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use rand_distr::{Distribution, Normal};

use crate::{GptConfig, NormKind, linear::Linear, norm::Norm, random::keyed};

/// Standard deviation of all weights except residual projections, as in GPT-2.
const STD: f64 = 0.02;

/// Creates the layers of one model.
pub(crate) struct Init<'a> {
    config: &'a GptConfig,
    /// `None` for zero weights.
    rng: Option<ChaCha8Rng>,
    device: &'a Device,
}

impl<'a> Init<'a> {
    pub(crate) fn new(config: &'a GptConfig, seed: u64, device: &'a Device) -> Self {
        Self { config, rng: Some(ChaCha8Rng::seed_from_u64(seed)), device }
    }

    /// For weights that will be loaded from a file.
    pub(crate) fn zeros(config: &'a GptConfig, device: &'a Device) -> Self {
        Self { config, rng: None, device }
    }

    /// An embedding with `n` rows, such as that of the positions.
    pub(crate) fn embedding(&mut self, n: usize) -> Embedding {
        let mut embedding = EmbeddingConfig::new(n, self.config.n_embd).init(self.device);
        let shape = [n, self.config.n_embd];
        embedding.weight = self.normal(shape, STD, |sampled| sampled);
        embedding
    }

    /// A linear layer with normal weights and, if the model has biases, a zero bias.
    pub(crate) fn linear(&mut self, d_in: usize, d_out: usize) -> Linear {
        self.linear_with_std(d_in, d_out, STD, self.config.bias)
    }

    /// The linear layer of queries, keys and values, which has its own bias option.
    pub(crate) fn qkv(&mut self, d_in: usize, d_out: usize) -> Linear {
        self.linear_with_std(d_in, d_out, STD, self.config.has_qkv_bias())
    }

    /// A linear layer whose output is added to the residual stream.
    ///
    /// Every block adds to the stream twice. Dividing each of the 2 · `n_layer` terms by the square root of their
    /// number keeps the variance of their sum ([GPT-2 paper][paper], section 2.3). With `zero_init` the weights are
    /// zero, so each block starts as the identity.
    ///
    /// [paper]: https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
    pub(crate) fn residual_linear(&mut self, d_in: usize, d_out: usize) -> Linear {
        let std = if self.config.zero_init { 0.0 } else { STD / (2.0 * self.config.n_layer as f64).sqrt() };
        self.linear_with_std(d_in, d_out, std, self.config.bias)
    }

    /// The token embedding.
    pub(crate) fn token_embedding(&mut self) -> Linear {
        let shape = [self.config.vocab_size, self.config.n_embd];
        Linear::new(self.normal(shape, STD, |sampled| sampled), None)
    }

    /// The output head, which never has a bias.
    pub(crate) fn head(&mut self) -> Linear {
        self.linear_with_std(self.config.n_embd, self.config.vocab_size, STD, false)
    }

    /// A norm of the residual stream.
    pub(crate) fn norm(&self) -> Norm {
        let GptConfig { n_embd, norm, bias, .. } = self.config;
        let has_bias = *bias && norm.kind == NormKind::LayerNorm;
        Norm::new(*n_embd, norm.kind, norm.epsilon, has_bias, self.device)
    }

    /// QK norm: a norm of the queries or keys of each head.
    pub(crate) fn head_norm(&self) -> Norm {
        let head_dim = self.config.head_dim();
        Norm::new(head_dim, NormKind::RmsNorm, self.config.norm.epsilon, false, self.device)
    }

    fn linear_with_std(&mut self, d_in: usize, d_out: usize, std: f64, bias: bool) -> Linear {
        // Values are sampled as `[in, out]`: another order would change the weights of every seed.
        let transpose = |sampled: Vec<f32>| {
            (0..d_out).flat_map(|out| sampled[out..].iter().step_by(d_out).copied()).collect()
        };
        let weight = self.normal([d_out, d_in], std, transpose);
        Linear::new(weight, bias.then(|| Param::from_tensor(Tensor::zeros([d_out], self.device))))
    }

    /// A matrix of normal values, which `arrange` reorders.
    fn normal(
        &mut self,
        shape: [usize; 2],
        std: f64,
        arrange: impl FnOnce(Vec<f32>) -> Vec<f32>,
    ) -> Param<Tensor<2>> {
        let Some(rng) = &mut self.rng else {
            // An expanded zero takes no memory.
            return Param::from_tensor(Tensor::<2>::zeros([1, 1], self.device).expand(shape));
        };
        let normal = Normal::new(0.0, std).expect("a standard deviation is finite");
        #[expect(clippy::cast_possible_truncation, reason = "weights are f32, sampled in f64")]
        let weights: Vec<f32> =
            normal.sample_iter(rng).take(shape.iter().product()).map(|w| w as f32).collect();
        Param::from_data(TensorData::new(arrange(weights), shape), self.device)
    }
}

/// Noise of new rows of a table, relative to the standard deviation of its columns.
const NEW_ROW_NOISE: f32 = 1e-2;

/// A table `[V, C]` with new values in some rows, or with these rows added: the mean of the rows before them, plus noise
/// that depends on `seeds`.
pub(crate) fn with_new_rows(table: Tensor<2>, new: Range<usize>, seeds: [u64; 2]) -> Tensor<2> {
    let [n_rows, width] = table.dims();
    let normal = Normal::new(0.0, NEW_ROW_NOISE).expect("a standard deviation is finite");
    let noise: Vec<f32> = normal.sample_iter(keyed(seeds)).take(new.len() * width).collect();
    let noise = Tensor::from_data(TensorData::new(noise, [new.len(), width]), &table.device());
    let known = table.clone().slice(s![..new.start, ..]);
    let (variance, mean) = known.clone().var_mean_bias(0); // [1, C]
    let mut parts = vec![known, mean + variance.sqrt() * noise];
    if new.end < n_rows {
        parts.push(table.slice(s![new.end.., ..]));
    }
    Tensor::cat(parts, 0)
}

/// Numbers parameters by their order in the model. Burn's default ids are random, and identical runs would save
/// different files.
#[derive(Default)]
pub(crate) struct SequentialIds {
    last: u64,
}

impl SequentialIds {
    /// Continues after the highest id of `model`. Ids have gaps if weights are in row blocks.
    pub(crate) fn after(model: &impl Module) -> Self {
        let ids = list_param_ids(model);
        Self { last: ids.iter().map(ParamId::val).max().unwrap_or_default() }
    }
}

impl ModuleMapper for SequentialIds {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.last += 1;
        let (_, value, mapper) = param.consume();
        Param::from_mapped_value(ParamId::from(self.last), value, mapper)
    }
}

/// The [dropout seed](kernels::seed_dropout) of a micro-batch.
///
/// With it, dropout masks are a function of (seed, step, micro-batch) only.
pub fn dropout_seed(seed: u64, step: u64, micro_batch: u64) -> u64 {
    let mut key = [0; 32];
    for (bytes, part) in key.chunks_exact_mut(8).zip([seed, step, micro_batch, 1]) {
        bytes.copy_from_slice(&part.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key).next_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean_and_std<const D: usize>(tensor: Tensor<D>) -> (f64, f64) {
        let values: Vec<f32> = tensor.into_data().try_into_vec().unwrap();
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        (mean, variance.sqrt())
    }

    fn dense(layer: &Linear) -> Tensor<2> {
        match layer.weight() {
            kernels::Weight::Dense(weight) => weight,
            kernels::Weight::Blocks(_) => panic!("a new layer is dense"),
        }
    }

    #[test]
    fn weights_have_the_distribution_of_gpt2() {
        let config = GptConfig { n_layer: 8, n_embd: 96, vocab_size: 500, bias: true, ..GptConfig::debug() };
        let device = kernels::testing::test_device();
        let mut init = Init::new(&config, 7, &device);
        let n: f64 = 96.0 * 384.0;
        // Five standard errors: std/√n of the mean of n samples, std/√2n of their standard deviation.
        let close = |(mean, std): (f64, f64), expected: f64| {
            assert!(mean.abs() < 5.0 * expected / n.sqrt(), "the mean is {mean}");
            assert!((std - expected).abs() < 5.0 * expected / (2.0 * n).sqrt(), "{std} is not {expected}");
        };
        let linear = init.linear(96, 384);
        close(mean_and_std(dense(&linear)), 0.02);
        assert_eq!(mean_and_std(linear.bias.unwrap().val()), (0.0, 0.0));
        close(mean_and_std(dense(&init.residual_linear(384, 96))), 0.02 / 4.0); // √(2 · 8) = 4
        close(mean_and_std(init.embedding(500).weight.val()), 0.02);
        assert!(init.head().bias.is_none());
        assert_eq!(mean_and_std(init.norm().gamma.val()), (1.0, 0.0));
    }

    #[test]
    fn dropout_seeds_depend_on_every_argument() {
        let seeds =
            [dropout_seed(1, 2, 3), dropout_seed(2, 2, 3), dropout_seed(1, 3, 3), dropout_seed(1, 2, 4)];
        for (idx, seed) in seeds.iter().enumerate() {
            assert!(!seeds[idx + 1..].contains(seed));
        }
        assert_eq!(dropout_seed(1, 2, 3), seeds[0]);
    }
}
