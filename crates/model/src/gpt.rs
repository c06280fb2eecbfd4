//! The whole model, and its forward passes.

use std::{collections::BTreeMap, ops::Range};

use burn::{nn::Embedding, prelude::*};
use kernels::{Documents, LmHead, Precision, Rope, RowBlocks, Segment, Slot, SlotShape, SlotType, Weight};

use crate::{
    ConfigError, GptConfig, Position,
    attention::LayerStep,
    block::Block,
    init::{self, Init, SequentialIds},
    linear::Linear,
    lora::{Lora, LoraOnly},
    norm::Norm,
    settings::Settings,
};

/// A decoder-only transformer with the architecture options of
/// [GPT-2](https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf),
/// [Llama](https://arxiv.org/abs/2302.13971) and [Qwen3](https://arxiv.org/abs/2505.09388).
///
/// Its config is always valid, because [`GptConfig::init`] checks it.
#[derive(Module, Debug)]
pub struct Gpt {
    /// Its weight is a table, `[V, C]`.
    token_embedding: Linear,
    /// `None` with RoPE.
    position_embedding: Option<Embedding>,
    blocks: Vec<Block>,
    norm: Norm,
    /// `None` if the head is tied to the token embedding.
    head: Option<Linear>,
    #[module(skip)]
    config: GptConfig,
    #[module(skip)]
    precision: Precision,
    #[module(skip)]
    slot_type: SlotType,
}

impl GptConfig {
    /// A new model with random weights. A `seed` gives the same weights on every device.
    ///
    /// # Errors
    ///
    /// If the config is invalid; see [`GptConfig::check`].
    pub fn init(&self, seed: u64, device: &Device) -> Result<Gpt, ConfigError> {
        self.check()?;
        Ok(Gpt::new(self, Init::new(self, seed, device)))
    }

    /// A model whose embeddings and matrices are zero, for weights that will be loaded. They take no memory.
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
            token_embedding: init.token_embedding(),
            position_embedding: is_learned.then(|| init.embedding(config.block_size)),
            blocks: (0..config.n_layer).map(|_| Block::new(config, rope.clone(), &mut init)).collect(),
            norm: init.norm(),
            head: (!config.tie_embeddings).then(|| init.head()),
            config: config.clone(),
            precision: Precision::F32,
            slot_type: SlotType::F32,
        };
        gpt.map(&mut SequentialIds::default())
    }

    /// The model's sizes and architecture options.
    pub fn config(&self) -> &GptConfig {
        &self.config
    }

    /// The same model with another dropout probability.
    pub fn with_dropout(mut self, probability: f64) -> Self {
        self.config.dropout = probability;
        self
    }

    /// The same model with a shorter block. Learned embeddings of later positions are dropped.
    ///
    /// # Panics
    ///
    /// If `block_size` is 0 or larger than before.
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

    /// The same model with new tokens at the end of its vocabulary. Their rows are the mean of the rows before them plus a
    /// little noise, as [Hewitt (2021)](https://nlp.stanford.edu/~johnhew/vocab-expansion.html) recommends: their logits
    /// are then average. Rows that the model has for these ids already are replaced. A tied head stays the same matrix.
    ///
    /// # Panics
    ///
    /// If there are no tokens before the new ones, or a weight is in row blocks.
    pub fn with_new_tokens(mut self, ids: Range<usize>, seed: u64) -> Self {
        if ids.is_empty() {
            return self;
        }
        self.config.vocab_size = self.config.vocab_size.max(ids.end);
        let tables = [Some(&mut self.token_embedding), self.head.as_mut()].into_iter().flatten();
        for (number, table) in (0..).zip(tables) {
            table.change_weight(|rows| init::with_new_rows(rows, ids.clone(), [seed, number]));
        }
        self
    }

    /// The same model with another precision of matrix products, if the device supports it. The default is f32.
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = kernels::supported_precision(precision, &self.device());
        self
    }

    /// The same model with KV caches of another type. The default is f32.
    ///
    /// # Panics
    ///
    /// If the model's device does not support the type; see [`kernels::supports_slot_type`].
    pub fn with_slot_type(mut self, slot_type: SlotType) -> Self {
        let device = self.device();
        assert!(
            kernels::supports_slot_type(slot_type, &device),
            "no KV cache of {slot_type:?} on {device:?}"
        );
        self.slot_type = slot_type;
        self
    }

    /// The type of keys and values in KV caches.
    pub fn slot_type(&self) -> SlotType {
        self.slot_type
    }

    /// Bytes of the weights that decoding a token reads: the matrices of the blocks and of the head, as they are
    /// stored.
    pub fn weight_bytes(&self) -> u64 {
        let mut n_bytes = self.head_weight().size_bytes();
        self.clone().for_each_linear(|_, layer| n_bytes += layer.weight().size_bytes());
        n_bytes
    }

    /// The same model with low-rank updates of linear layers in its blocks, by paths such as `blocks.0.attention.qkv`.
    /// The matrices of the updates are parameters, with ids after the others.
    ///
    /// # Panics
    ///
    /// If a path names no layer, or an update does not fit its weight.
    pub fn with_lora(mut self, mut updates: BTreeMap<String, Vec<Lora>>) -> Self {
        let mut numbered = SequentialIds::after(&self);
        self.for_each_linear(|path, layer| {
            for lora in updates.remove(path).unwrap_or_default() {
                layer.add_lora(lora.map(&mut numbered));
            }
        });
        assert!(updates.is_empty(), "the model has no layer {:?}", updates.keys().next());
        self
    }

    /// The low-rank updates of each linear layer of the blocks that has some, by the layers' paths.
    pub fn lora(&self) -> BTreeMap<String, Vec<Lora>> {
        let mut all = BTreeMap::new();
        self.clone().for_each_linear(|path, layer| {
            if !layer.lora().is_empty() {
                all.insert(path.to_owned(), layer.lora().to_vec());
            }
        });
        all
    }

    /// Whether a layer has a low-rank update.
    pub fn has_lora(&self) -> bool {
        !self.lora().is_empty()
    }

    /// The same model with the low-rank updates added to the weights.
    ///
    /// # Panics
    ///
    /// If an updated weight is in row blocks.
    pub fn merged(mut self) -> Self {
        self.for_each_linear(|_, layer| layer.merge_lora());
        self
    }

    /// The same model with another probability of dropout of the input of low-rank updates. The default is 0.
    pub fn with_lora_dropout(mut self, probability: f64) -> Self {
        self.for_each_linear(|_, layer| layer.set_lora_dropout(probability));
        self
    }

    /// The same model, in which the matrices of low-rank updates are the only parameters with gradients. The backward
    /// pass computes no gradient of the others.
    pub fn lora_only(self) -> Self {
        self.map(&mut LoraOnly::default())
    }

    /// The same model with row blocks as some weights, which have no gradients. `blocks` returns them for a path such as
    /// `blocks.0.attention.qkv.weight` or `token_embedding.weight`.
    ///
    /// # Panics
    ///
    /// If row blocks have another shape than the weight they replace.
    pub fn with_row_blocks(mut self, mut blocks: impl FnMut(&str) -> Option<RowBlocks>) -> Self {
        let mut set = |path: &str, layer: &mut Linear| {
            if let Some(blocks) = blocks(&format!("{path}.weight")) {
                layer.set_blocks(blocks);
            }
        };
        self.for_each_linear(&mut set);
        set("token_embedding", &mut self.token_embedding);
        if let Some(head) = &mut self.head {
            set("head", head);
        }
        self
    }

    /// Whether a weight is in row blocks instead of a parameter.
    pub fn has_row_blocks(&self) -> bool {
        let is_packed = |layer: &Linear| matches!(layer.weight(), Weight::Blocks(_));
        let mut any = is_packed(&self.token_embedding) || self.head.as_ref().is_some_and(is_packed);
        self.clone().for_each_linear(|_, layer| any |= is_packed(layer));
        any
    }

    /// Calls `change` for each linear layer of the blocks.
    fn for_each_linear(&mut self, mut change: impl FnMut(&str, &mut Linear)) {
        for (idx, block) in self.blocks.iter_mut().enumerate() {
            for (path, layer) in block.linear_layers() {
                change(&format!("blocks.{idx}.{path}"), layer);
            }
        }
    }

    /// The logits of the next token at every position.
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

    /// The hidden vectors before the head. With documents, attention does not cross them, and positions restart in each.
    ///
    /// # Shapes
    ///
    /// - `tokens`: `[B, T]`, with T ≤ `block_size`, each id below V
    /// - output: `[B, T, C]`
    ///
    /// # Panics
    ///
    /// If `tokens` is longer than `block_size`, or the documents have other rows.
    pub fn hidden(&self, tokens: Tensor<2, Int>, documents: Option<&Documents>) -> Tensor<3> {
        let embedded = self.embed_batch(tokens, documents);
        let settings = self.settings(documents);
        let x = self.blocks.iter().fold(embedded, |x, block| block.forward(x, None, settings));
        self.norm.forward(x, Precision::F32)
    }

    /// One step of inference: processes new tokens of several sequences, and appends their keys and values to the slot
    /// (KV cache) of each sequence. Returns the logits that the feeds ask for, or `None` without any.
    ///
    /// On the CPU, the attention of a sequence does not depend on the other sequences, bit for bit. The same holds for
    /// f32 products with up to [`kernels::INVARIANT_ROWS`] rows.
    ///
    /// # Shapes
    ///
    /// - `feeds`: S sequences, each with any number of ids below V
    /// - output: `[R, V]`, with the R rows of [`Feed::logits`] of all feeds in their order
    ///
    /// # Panics
    ///
    /// If there are no sequences, a sequence has no new tokens, a slot belongs to another model or is full, or, on the
    /// CPU, an id is outside the vocabulary.
    pub fn step(&self, feeds: &mut [Feed<'_>]) -> Option<Tensor<2>> {
        assert!(!feeds.is_empty(), "a step needs at least one sequence");
        let segment = |feed: &Feed<'_>| Segment { past: feed.slot.len(), n: feed.ids.len() };
        let segments: Vec<Segment> = feeds.iter().map(segment).collect();
        assert!(
            segments.iter().all(|segment| segment.n > 0),
            "each sequence of a step needs at least one token"
        );
        let id = |&id: &u32| i32::try_from(id).expect("token ids are below 2^31");
        let ids: Vec<i32> = feeds.iter().flat_map(|feed| feed.ids).map(id).collect();
        let n_rows = ids.len();
        let wanted = wanted_rows(feeds);
        let tokens = Tensor::from_data(TensorData::new(ids, [1, n_rows]), &self.device());
        let mut slots: Vec<&mut Slot> = feeds.iter_mut().map(|feed| &mut *feed.slot).collect();

        let settings = self.settings(None);
        let mut x = self.embed(tokens, Some(&segments)); // [1, N, C]
        for (layer, block) in self.blocks.iter().enumerate() {
            let step = LayerStep { segments: &segments, slots: &mut slots, layer };
            x = block.forward(x, Some(step), settings);
        }
        let hidden = self.norm.forward(select_rows(x, &wanted)?, Precision::F32); // [1, R, C]
        Some(self.head().logits(hidden, self.precision).squeeze_dim(0))
    }

    /// An empty KV cache for `block_size` positions of one sequence.
    pub fn slot(&self) -> Slot {
        Slot::new(slot_shape(&self.config), self.slot_type, &self.device())
    }

    /// The embeddings of a batch for training, `[B, T, C]`. Panics as [`Gpt::hidden`].
    pub(crate) fn embed_batch(&self, tokens: Tensor<2, Int>, documents: Option<&Documents>) -> Tensor<3> {
        let ([_, time], block_size) = (tokens.dims(), self.config.block_size);
        assert!(time <= block_size, "{time} tokens do not fit a block of {block_size}");
        if let Some(documents) = documents {
            assert_eq!(documents.dims(), tokens.dims(), "documents and tokens differ in rows");
        }
        self.embed(tokens, documents.map(Documents::segments))
    }

    /// - `tokens`: `[B, T]`, at the positions of `segments`, or from position 0
    /// - output: `[B, T, C]`
    fn embed(&self, tokens: Tensor<2, Int>, segments: Option<&[Segment]>) -> Tensor<3> {
        let embeddings = self.token_embedding.weight();
        let positions = self.position_embedding.as_ref().map(|table| table.weight.val());
        kernels::embed(tokens, embeddings, positions, segments, self.config.dropout)
    }

    /// Whether an embedding has gradients.
    pub(crate) fn trains_embeddings(&self) -> bool {
        let tokens = match self.token_embedding.weight() {
            Weight::Dense(table) => table.is_require_grad(),
            Weight::Blocks(_) => false,
        };
        tokens || self.position_embedding.as_ref().is_some_and(|table| table.weight.is_require_grad())
    }

    pub(crate) fn settings<'a>(&self, documents: Option<&'a Documents>) -> Settings<'a> {
        Settings { dropout: self.config.dropout, precision: self.precision, documents }
    }

    pub(crate) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The norm after the last block.
    pub(crate) fn final_norm(&self) -> &Norm {
        &self.norm
    }

    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    /// The device of the weights.
    pub fn device(&self) -> Device {
        self.norm.gamma.device()
    }

    pub(crate) fn head(&self) -> LmHead<'_> {
        LmHead::new(self.head_weight())
    }

    /// `[V, C]`.
    fn head_weight(&self) -> Weight<'_> {
        match &self.head {
            Some(head) => head.weight(),
            None => self.token_embedding.weight(),
        }
    }
}

/// The new tokens of one sequence in a step.
#[derive(Debug)]
pub struct Feed<'a> {
    /// Keys and values of the tokens before `ids`.
    pub slot: &'a mut Slot,
    /// At least one.
    pub ids: &'a [u32],
    pub logits: LogitRows,
}

/// The tokens of a feed for which a step computes the logits of the next token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogitRows {
    /// No token, as in all but the last piece of a prompt.
    None,
    #[default]
    Last,
    /// Every token, to score a text.
    All,
}

impl LogitRows {
    /// The number of rows for a feed of `n` tokens.
    pub fn n_rows(self, n: usize) -> usize {
        match self {
            Self::None => 0,
            Self::Last => 1,
            Self::All => n,
        }
    }
}

/// An upper bound on the memory of `n_sequences` KV caches with `positions` positions each, in bytes.
pub fn estimate_slots(config: &GptConfig, n_sequences: usize, positions: usize, slot_type: SlotType) -> u64 {
    let shape = slot_shape(config);
    let one = shape.size_bytes(slot_type, shape.room(positions));
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

/// The rows of a step whose logits the feeds ask for, as ascending ranges.
fn wanted_rows(feeds: &[Feed<'_>]) -> Vec<Range<usize>> {
    let ends = feeds.iter().scan(0, |end, feed| {
        *end += feed.ids.len();
        Some(*end)
    });
    let wanted = feeds.iter().zip(ends).map(|(feed, end)| end - feed.logits.n_rows(feed.ids.len())..end);
    wanted.filter(|rows| !rows.is_empty()).collect()
}

/// Selects ranges of rows: `[1, N, C]` to `[1, R, C]`, or `None` without rows.
fn select_rows(x: Tensor<3>, wanted: &[Range<usize>]) -> Option<Tensor<3>> {
    let [_, n_rows, _] = x.dims();
    match wanted.iter().map(ExactSizeIterator::len).sum::<usize>() {
        0 => None,
        n_wanted if n_wanted == n_rows => Some(x),
        _ => {
            let rows = wanted.iter().map(|rows| x.clone().slice(s![.., rows.clone(), ..]));
            Some(Tensor::cat(rows.collect(), 1))
        }
    }
}
