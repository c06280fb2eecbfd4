//! The whole model.

use burn::{nn::Embedding, prelude::*};
use kernels::{Head, KeyValueCache, Precision, Rope, Segment};

use crate::{
    ConfigError, GptConfig, Position,
    block::Block,
    init::{Init, Numbered},
    linear::Linear,
    norm::Norm,
    settings::Settings,
};

/// A decoder-only transformer, as in
/// [GPT-2](https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf), or with
/// the parts of [Llama](https://arxiv.org/abs/2302.13971) and [Qwen3](https://arxiv.org/abs/2505.09388).
///
/// It exists only with sizes that work; [`GptConfig::init`] makes one.
#[derive(Module, Debug)]
pub struct Gpt {
    token_embedding: Embedding,
    /// `None` where positions are rotary.
    position_embedding: Option<Embedding>,
    blocks: Vec<Block>,
    norm: Norm,
    /// `None` where the head is the token embedding.
    head: Option<Linear>,
    #[module(skip)]
    config: GptConfig,
    #[module(skip)]
    precision: Precision,
}

impl GptConfig {
    /// A freshly initialised model: the same `seed` gives the same weights on every device.
    ///
    /// # Errors
    ///
    /// If the sizes can't work; see [`GptConfig::check`].
    pub fn init(&self, seed: u64, device: &Device) -> Result<Gpt, ConfigError> {
        self.check()?;
        Ok(Gpt::new(self, Init::new(self, seed, device)))
    }

    /// A model whose embeddings and matrices are zero, which takes neither time nor memory: for weights that are about
    /// to be read.
    ///
    /// # Errors
    ///
    /// As [`GptConfig::init`].
    pub fn zeros(&self, device: &Device) -> Result<Gpt, ConfigError> {
        self.check()?;
        Ok(Gpt::new(self, Init::zeros(self, device)))
    }
}

impl Gpt {
    fn new(config: &GptConfig, mut init: Init<'_>) -> Self {
        let (is_learned, rope) = match config.position.kind {
            Position::Learned => (true, None),
            Position::Rope => {
                (false, Some(Rope::new(config.head_dim(), config.block_size, config.position.rope_theta)))
            }
        };
        let gpt = Self {
            token_embedding: init.embedding(config.vocab_size),
            position_embedding: is_learned.then(|| init.embedding(config.block_size)),
            blocks: (0..config.n_layer).map(|_| Block::new(config, rope.clone(), &mut init)).collect(),
            norm: init.norm(),
            head: (!config.tie_embeddings).then(|| init.head()),
            config: config.clone(),
            precision: Precision::F32,
        };
        gpt.map(&mut Numbered::default())
    }

    /// The sizes it was made with.
    pub fn config(&self) -> &GptConfig {
        &self.config
    }

    /// The same model with another probability of dropping an activation while training.
    pub fn with_dropout(mut self, probability: f64) -> Self {
        self.config.dropout = probability;
        self
    }

    /// The same model with a shorter block: the first positions, without the others.
    ///
    /// # Panics
    ///
    /// If the block is empty, or longer than the one it has.
    pub fn with_block_size(mut self, block_size: usize) -> Self {
        let before = self.config.block_size;
        assert!((1..=before).contains(&block_size), "a block of {before} can't be cropped to {block_size}");
        if block_size < before {
            self.config.block_size = block_size;
            if let Some(embedding) = &mut self.position_embedding {
                embedding.weight = embedding.weight.clone().map(|positions| {
                    let cropped = positions.clone().detach().slice(s![..block_size, ..]);
                    cropped.set_require_grad(positions.is_require_grad())
                });
            }
        }
        self
    }

    /// The same model with the products of its linear layers and of its head in a precision, as far as its device
    /// has that; a new one has them in f32.
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = kernels::supported_precision(precision, &self.token_embedding.weight.device());
        self
    }

    /// The logits of the next token, at every position.
    ///
    /// # Shapes
    ///
    /// - `tokens`: `[B, T]`, with T ≤ `block_size`, each id below V
    /// - output: `[B, T, V]`
    ///
    /// # Panics
    ///
    /// If `tokens` is longer than `block_size`.
    pub fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        self.head().logits(self.hidden(tokens, None), self.precision)
    }

    /// The mean cross-entropy of the targets given the tokens up to each, in nats.
    ///
    /// # Shapes
    ///
    /// - `tokens`, `targets`: `[B, T]`, with T ≤ `block_size`
    /// - output: `[1]`
    ///
    /// # Panics
    ///
    /// If `tokens` is longer than `block_size`.
    pub fn loss(&self, tokens: Tensor<2, Int>, targets: Tensor<2, Int>) -> Tensor<1> {
        let [batch, time] = tokens.dims();
        let hidden = self.hidden(tokens, None).reshape([batch * time, self.config.n_embd]);
        self.head().loss(hidden, targets.reshape([batch * time]), self.precision)
    }

    /// The natural logarithm of the probability of each target given the tokens up to it, without all logits at a time.
    ///
    /// # Shapes
    ///
    /// - `tokens`, `targets`: `[B, T]`, with T ≤ `block_size`
    /// - output: `[B, T]`
    ///
    /// # Panics
    ///
    /// If `tokens` is longer than `block_size`.
    pub fn logprobs(&self, tokens: Tensor<2, Int>, targets: Tensor<2, Int>) -> Tensor<2> {
        let [batch, time] = tokens.dims();
        let hidden = self.hidden(tokens, None).reshape([batch * time, self.config.n_embd]);
        let logprobs = self.head().logprobs(hidden, targets.reshape([batch * time]), self.precision);
        logprobs.reshape([batch, time])
    }

    /// The logits of the token after the last of `tokens`, which continue those in `cache` and are added
    /// to it.
    ///
    /// # Shapes
    ///
    /// - `tokens`: `[B, T]`
    /// - output: `[B, V]`
    ///
    /// # Panics
    ///
    /// If the cache was made for another model or batch, or has no room for T more positions.
    pub fn next_logits(&self, tokens: Tensor<2, Int>, cache: &mut Cache) -> Tensor<2> {
        let hidden = self.hidden(tokens, Some(cache)); // [B, T, C]
        self.head().logits(hidden.slice(s![.., -1.., ..]), self.precision).squeeze_dim(1)
    }

    /// An empty cache of `block_size` positions, for `batch` sequences.
    pub fn cache(&self, batch: usize) -> Cache {
        let config = &self.config;
        let shape = [batch, config.n_kv_head(), config.block_size, config.head_dim()];
        let layer = KeyValueCache::new(shape, &self.token_embedding.weight.device());
        Cache { layers: vec![layer; config.n_layer] }
    }

    /// - `tokens`: `[B, T]`
    /// - output: `[B, T, C]`, normalised
    fn hidden(&self, tokens: Tensor<2, Int>, cache: Option<&mut Cache>) -> Tensor<3> {
        let [_, time] = tokens.dims();
        let past = cache.as_ref().map_or(0, |cache| cache.len());
        let block_size = self.config.block_size;
        assert!(past + time <= block_size, "{} tokens do not fit a block of {block_size}", past + time);

        let embeddings = self.token_embedding.weight.val();
        let positions = self.position_embedding.as_ref().map(|table| table.weight.val());
        let [batch, _] = tokens.dims();
        let segments = vec![Segment { past, n: time }; batch];
        let mut x = kernels::embed(tokens, embeddings, positions, Some(&segments), self.config.dropout); // [B, T, C]
        let settings = Settings { dropout: self.config.dropout, precision: self.precision };
        match cache {
            Some(cache) => {
                for (block, layer) in self.blocks.iter().zip(&mut cache.layers) {
                    x = block.forward(x, Some(layer), settings);
                }
            }
            None => {
                for block in &self.blocks {
                    x = block.forward(x, None, settings);
                }
            }
        }
        self.norm.forward(x)
    }

    fn head(&self) -> Head {
        let weight = self.head.as_ref().map_or(&self.token_embedding.weight, |head| &head.weight);
        Head::new(weight.val())
    }
}

/// The keys and values of every layer, of the positions seen so far.
#[derive(Debug, Clone)]
pub struct Cache {
    layers: Vec<KeyValueCache>,
}

impl Cache {
    /// Number of positions it holds.
    pub fn len(&self) -> usize {
        self.layers.first().map_or(0, KeyValueCache::len)
    }

    /// Whether it holds no position.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sequences of these numbers, which may occur more than once or not at all.
    pub(crate) fn select(&self, sequences: &[usize]) -> Self {
        Self { layers: self.layers.iter().map(|layer| layer.select(sequences)).collect() }
    }

    /// What its memory takes, in bytes.
    pub fn size_bytes(&self) -> usize {
        self.layers.iter().map(KeyValueCache::size_bytes).sum()
    }

    /// The most that a cache takes, in bytes, when it holds `positions` of each of `n_sequences`.
    pub fn estimate(config: &GptConfig, n_sequences: usize, positions: usize) -> u64 {
        let room = KeyValueCache::room(positions.min(config.block_size), config.block_size);
        let factors =
            [2, config.n_layer, n_sequences, room, config.n_kv_head(), config.head_dim(), size_of::<f32>()];
        factors.into_iter().fold(1, |product: u64, factor| product.saturating_mul(factor as u64))
    }

    /// Forgets every position and keeps the memory.
    pub fn clear(&mut self) {
        for layer in &mut self.layers {
            layer.clear();
        }
    }
}
