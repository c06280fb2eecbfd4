//! The one place that draws weights.
//!
//! They are drawn on the host, in the order in which the model lists its parameters, from a generator
//! keyed by the seed alone: the same seed gives the same weights on every backend.

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

use crate::{GptConfig, NormKind, linear::Linear, norm::Norm};

/// Standard deviation of every weight that is not a residual projection, as in GPT-2.
const STD: f64 = 0.02;

/// Draws the weights of one model.
pub(crate) struct Init<'a> {
    config: &'a GptConfig,
    /// Without it, weights are zero.
    rng: Option<ChaCha8Rng>,
    device: &'a Device,
}

impl<'a> Init<'a> {
    pub(crate) fn new(config: &'a GptConfig, seed: u64, device: &'a Device) -> Self {
        Self { config, rng: Some(ChaCha8Rng::seed_from_u64(seed)), device }
    }

    /// Draws nothing: for weights that are about to be read from a file.
    pub(crate) fn zeros(config: &'a GptConfig, device: &'a Device) -> Self {
        Self { config, rng: None, device }
    }

    /// An embedding of `n` rows.
    pub(crate) fn embedding(&mut self, n: usize) -> Embedding {
        let mut embedding = EmbeddingConfig::new(n, self.config.n_embd).init(self.device);
        let shape = [n, self.config.n_embd];
        embedding.weight = self.normal(shape, STD, |drawn| drawn);
        embedding
    }

    /// A linear layer with normal weights, and a zero bias where the model has biases.
    pub(crate) fn linear(&mut self, d_in: usize, d_out: usize) -> Linear {
        self.linear_with_std(d_in, d_out, STD, self.config.bias)
    }

    /// The linear layer of queries, keys and values, which may have a bias where others have none.
    pub(crate) fn qkv(&mut self, d_in: usize, d_out: usize) -> Linear {
        self.linear_with_std(d_in, d_out, STD, self.config.has_qkv_bias())
    }

    /// A linear layer whose output is added to the residual stream.
    ///
    /// Every block adds to the stream twice. The sum of 2 · `n_layer` terms keeps the variance of one when
    /// each is scaled by the root of their number ([GPT-2 paper][paper], section 2.3).
    ///
    /// Some begin with zeros instead, so that each block is nothing at first.
    ///
    /// [paper]: https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
    pub(crate) fn residual_linear(&mut self, d_in: usize, d_out: usize) -> Linear {
        let std = if self.config.zero_init { 0.0 } else { STD / (2.0 * self.config.n_layer as f64).sqrt() };
        self.linear_with_std(d_in, d_out, std, self.config.bias)
    }

    /// The output head: a linear layer that never has a bias.
    pub(crate) fn head(&mut self) -> Linear {
        self.linear_with_std(self.config.n_embd, self.config.vocab_size, STD, false)
    }

    /// A norm of the residual stream that starts as plain normalisation.
    pub(crate) fn norm(&self) -> Norm {
        let GptConfig { n_embd, norm, bias, .. } = self.config;
        let has_bias = *bias && norm.kind == NormKind::LayerNorm;
        Norm::new(*n_embd, norm.kind, norm.epsilon, has_bias, self.device)
    }

    /// A norm of the queries or keys of each head.
    pub(crate) fn head_norm(&self) -> Norm {
        let head_dim = self.config.head_dim();
        Norm::new(head_dim, NormKind::RmsNorm, self.config.norm.epsilon, false, self.device)
    }

    fn linear_with_std(&mut self, d_in: usize, d_out: usize, std: f64, bias: bool) -> Linear {
        // Numbers are drawn input by input, as ever: a seed keeps its weights.
        let by_outputs = |drawn: Vec<f32>| {
            (0..d_out).flat_map(|out| drawn[out..].iter().step_by(d_out).copied()).collect()
        };
        let weight = self.normal([d_out, d_in], std, by_outputs);
        Linear::new(weight, bias.then(|| Param::from_tensor(Tensor::zeros([d_out], self.device))))
    }

    /// A matrix of normal numbers, in the order that `arranged` puts what is drawn into.
    fn normal(
        &mut self,
        shape: [usize; 2],
        std: f64,
        arranged: impl FnOnce(Vec<f32>) -> Vec<f32>,
    ) -> Param<Tensor<2>> {
        let Some(rng) = &mut self.rng else {
            // One zero seen everywhere, which takes no memory.
            return Param::from_tensor(Tensor::<2>::zeros([1, 1], self.device).expand(shape));
        };
        let normal = Normal::new(0.0, std).expect("a standard deviation is finite");
        #[expect(clippy::cast_possible_truncation, reason = "weights are f32; they are drawn in f64")]
        let weights: Vec<f32> =
            normal.sample_iter(rng).take(shape.iter().product()).map(|w| w as f32).collect();
        Param::from_data(TensorData::new(arranged(weights), shape), self.device)
    }
}

/// Gives parameters their place in the model as identity, in place of a random one: what is saved of two runs that do
/// the same is then the same, byte for byte.
#[derive(Default)]
pub(crate) struct Numbered {
    n_params: u64,
}

impl Numbered {
    /// For parameters that are added to a model.
    pub(crate) fn after(model: &impl Module) -> Self {
        Self { n_params: list_param_ids(model).len() as u64 }
    }
}

impl ModuleMapper for Numbered {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.n_params += 1;
        let (_, value, mapper) = param.consume();
        Param::from_mapped_value(ParamId::from(self.n_params), value, mapper)
    }
}

/// A seed for [dropout](kernels::seed_dropout), from the seed of the run and what it is for.
///
/// With a seed for every micro-batch, masks are a function of (seed, step, micro-batch), whatever was dropped before.
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

    /// Mean and standard deviation of a tensor.
    fn moments<const D: usize>(tensor: Tensor<D>) -> (f64, f64) {
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
    fn weights_are_drawn_as_gpt2s() {
        let config = GptConfig { n_layer: 8, n_embd: 96, vocab_size: 500, bias: true, ..GptConfig::debug() };
        let device = kernels::testing::test_device();
        let mut init = Init::new(&config, 7, &device);
        let n: f64 = 96.0 * 384.0;
        // Five standard errors: a mean of n draws strays by std/√n, their deviation by std/√2n.
        let close = |(mean, std): (f64, f64), expected: f64| {
            assert!(mean.abs() < 5.0 * expected / n.sqrt(), "the mean is {mean}");
            assert!((std - expected).abs() < 5.0 * expected / (2.0 * n).sqrt(), "{std} is not {expected}");
        };
        let linear = init.linear(96, 384);
        close(moments(dense(&linear)), 0.02);
        assert_eq!(moments(linear.bias.unwrap().val()), (0.0, 0.0));
        close(moments(dense(&init.residual_linear(384, 96))), 0.02 / 4.0); // √(2 · 8) = 4
        close(moments(init.embedding(500).weight.val()), 0.02);
        assert!(init.head().bias.is_none());
        assert_eq!(moments(init.norm().gamma.val()), (1.0, 0.0));
    }

    #[test]
    fn dropout_seeds_differ_in_every_part() {
        let seeds =
            [dropout_seed(1, 2, 3), dropout_seed(2, 2, 3), dropout_seed(1, 3, 3), dropout_seed(1, 2, 4)];
        for (idx, seed) in seeds.iter().enumerate() {
            assert!(!seeds[idx + 1..].contains(seed));
        }
        assert_eq!(dropout_seed(1, 2, 3), seeds[0]);
    }
}
