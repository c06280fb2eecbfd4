//! The whole model.

use std::collections::BTreeMap;

use burn::{nn::Embedding, prelude::*};
use kernels::{Head, Precision, Rope, RowBlocks, Segment, Slot, SlotShape, SlotType};

use crate::{
    ConfigError, GptConfig, Position,
    attention::LayerStep,
    block::Block,
    init::{Init, Numbered},
    linear::Linear,
    lora::Lora,
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

    /// The same model with low-rank updates of linear layers of its blocks, by paths such as `blocks.0.attention.qkv`.
    /// Their matrices become parameters, numbered after the others.
    ///
    /// # Panics
    ///
    /// If there is no layer of a path, or an update is of a weight of another shape.
    pub fn with_lora(mut self, mut updates: BTreeMap<String, Vec<Lora>>) -> Self {
        let mut numbered = Numbered::after(&self);
        self.each_linear_of_blocks(|path, layer| {
            for lora in updates.remove(path).unwrap_or_default() {
                layer.add_lora(lora.map(&mut numbered));
            }
        });
        assert!(updates.is_empty(), "there is no layer {:?}", updates.keys().next());
        self
    }

    /// The same model with the weights of some linear layers as a file has them, for inference: `blocks` gives those of a path
    /// such as `blocks.0.attention.qkv.weight`.
    ///
    /// # Panics
    ///
    /// If blocks are of another shape than the weight.
    pub fn with_row_blocks(mut self, mut blocks: impl FnMut(&str) -> Option<RowBlocks>) -> Self {
        let mut set = |path: &str, layer: &mut Linear| {
            if let Some(blocks) = blocks(&format!("{path}.weight")) {
                layer.set_blocks(blocks);
            }
        };
        self.each_linear_of_blocks(&mut set);
        if let Some(head) = &mut self.head {
            set("head", head);
        }
        self
    }

    /// Calls `change` with each linear layer of the blocks and its path.
    fn each_linear_of_blocks(&mut self, mut change: impl FnMut(&str, &mut Linear)) {
        for (idx, block) in self.blocks.iter_mut().enumerate() {
            for (path, layer) in block.linear_layers() {
                change(&format!("blocks.{idx}.{path}"), layer);
            }
        }
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
        self.head().logits(self.hidden(tokens), self.precision)
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
        let hidden = self.hidden(tokens).reshape([batch * time, self.config.n_embd]);
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
        let hidden = self.hidden(tokens).reshape([batch * time, self.config.n_embd]);
        let logprobs = self.head().logprobs(hidden, targets.reshape([batch * time]), self.precision);
        logprobs.reshape([batch, time])
    }

    /// One step of several sequences. Each reads some tokens after those that its slot holds, and they are added to the
    /// slot. Returns the logits of the token after each.
    ///
    /// On the CPU the attention of a sequence does not depend on what the others read, to the last bit. Nor do products in f32,
    /// of up to [`kernels::INVARIANT_ROWS`] rows.
    ///
    /// # Shapes
    ///
    /// - `feeds`: S sequences, of any numbers of ids below V
    /// - output: `[S, V]`
    ///
    /// # Panics
    ///
    /// If there are no sequences or one reads nothing, if a slot was made for another model or has no room, or, on the CPU, if an
    /// id is outside the vocabulary.
    pub fn step(&self, feeds: &mut [Feed<'_>]) -> Tensor<2> {
        assert!(!feeds.is_empty(), "a step is of at least one sequence");
        let segment = |feed: &Feed<'_>| Segment { past: feed.slot.len(), n: feed.ids.len() };
        let segments: Vec<Segment> = feeds.iter().map(segment).collect();
        assert!(
            segments.iter().all(|segment| segment.n > 0),
            "a model needs at least one token to say what follows"
        );
        let id = |&id: &u32| i32::try_from(id).expect("a vocabulary has less than 2^31 tokens");
        let ids: Vec<i32> = feeds.iter().flat_map(|feed| feed.ids).map(id).collect();
        let n_rows = ids.len();
        let tokens =
            Tensor::from_data(TensorData::new(ids, [1, n_rows]), &self.token_embedding.weight.device());
        let mut slots: Vec<&mut Slot> = feeds.iter_mut().map(|feed| &mut *feed.slot).collect();

        let settings = self.settings();
        let mut x = self.embed(tokens, Some(&segments)); // [1, N, C]
        for (layer, block) in self.blocks.iter().enumerate() {
            let step = LayerStep { segments: &segments, slots: &mut slots, layer };
            x = block.forward(x, Some(step), settings);
        }
        let last = self.norm.forward(last_rows(x, &segments)); // [1, S, C]
        self.head().logits(last, self.precision).squeeze_dim(0)
    }

    /// A slot for `block_size` positions of one sequence.
    ///
    /// # Panics
    ///
    /// If the device of the model has no values of the type.
    pub fn slot(&self, stored: SlotType) -> Slot {
        Slot::new(slot_shape(&self.config), stored, &self.token_embedding.weight.device())
    }

    /// - `tokens`: `[B, T]`
    /// - output: `[B, T, C]`, normalised
    fn hidden(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        let ([_, time], block_size) = (tokens.dims(), self.config.block_size);
        assert!(time <= block_size, "{time} tokens do not fit a block of {block_size}");
        let settings = self.settings();
        let mut x = self.embed(tokens, None); // [B, T, C]
        for block in &self.blocks {
            x = block.forward(x, None, settings);
        }
        self.norm.forward(x)
    }

    /// - `tokens`: `[B, T]`, of the positions of `segments`, or each sequence from position 0
    /// - output: `[B, T, C]`
    fn embed(&self, tokens: Tensor<2, Int>, segments: Option<&[Segment]>) -> Tensor<3> {
        let embeddings = self.token_embedding.weight.val();
        let positions = self.position_embedding.as_ref().map(|table| table.weight.val());
        kernels::embed(tokens, embeddings, positions, segments, self.config.dropout)
    }

    fn settings(&self) -> Settings {
        Settings { dropout: self.config.dropout, precision: self.precision }
    }

    fn head(&self) -> Head<'_> {
        match &self.head {
            Some(head) => Head::new(head.weight()),
            None => Head::new(self.token_embedding.weight.val()),
        }
    }
}

/// What one sequence reads in a step.
#[derive(Debug)]
pub struct Feed<'a> {
    /// What it has read before.
    pub slot: &'a mut Slot,
    /// The tokens after that, at least one.
    pub ids: &'a [u32],
}

/// The most memory that the slots of `n_sequences` have, in bytes, when each holds `positions`.
pub fn estimate_slots(config: &GptConfig, n_sequences: usize, positions: usize, stored: SlotType) -> u64 {
    let shape = slot_shape(config);
    let one = shape.size_bytes(stored, shape.room(positions));
    one.saturating_mul(n_sequences as u64)
}

fn slot_shape(config: &GptConfig) -> SlotShape {
    SlotShape {
        n_layer: config.n_layer,
        n_kv_head: config.n_kv_head(),
        head_dim: config.head_dim(),
        capacity: config.block_size,
    }
}

/// The last row of each segment: `[1, N, C]` to `[1, S, C]`.
fn last_rows(x: Tensor<3>, segments: &[Segment]) -> Tensor<3> {
    let [_, n_rows, _] = x.dims();
    if segments.len() == n_rows {
        return x;
    }
    let ends = segments.iter().scan(0, |end, segment| {
        *end += segment.n;
        Some(*end)
    });
    let last: Vec<Tensor<3>> = ends.map(|end| x.clone().slice(s![.., end - 1..end, ..])).collect();
    Tensor::cat(last, 1)
}
