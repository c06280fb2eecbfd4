//! Properties of a GPT with any weights.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "tests may panic, and their values are small"
)]

use std::collections::BTreeMap;

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    optim::{AdamWConfig, GradientsParams},
    prelude::*,
    tensor::{DType, Tolerance},
};
use model::{
    Activation, AttentionConfig, Decoder, Gpt, GptConfig, Lora, NormKind, Position, SlotType, estimate_slots,
    window_start,
};

/// Tied and untied models, with and without biases, with every activation, and with the architecture options of open
/// models, combined and separate.
fn variants() -> [GptConfig; 8] {
    let with = |change: fn(&mut GptConfig)| {
        let mut config = GptConfig::debug();
        change(&mut config);
        config
    };
    [
        GptConfig::debug(),
        with(|config| (config.bias, config.feed_forward.activation) = (true, Activation::GeluTanh)),
        with(|config| (config.bias, config.tie_embeddings) = (true, false)),
        GptConfig::debug_modern(),
        with(|config| {
            (config.bias, config.norm.kind) = (true, NormKind::RmsNorm);
            config.feed_forward.activation = Activation::Relu2;
        }),
        with(|config| config.attention.qkv_bias = true),
        with(|config| {
            (config.attention.n_kv_head, config.attention.qk_norm) = (Some(1), true);
            config.feed_forward.n_inner = Some(7);
        }),
        with(|config| {
            (config.bias, config.position.kind) = (true, Position::Rope);
            config.feed_forward.activation = Activation::Swiglu;
        }),
    ]
}

fn tokens(ids: &[[i32; 6]; 2], device: &Device) -> Tensor<2, Int> {
    Tensor::from_ints(*ids, device)
}

const IDS: [[i32; 6]; 2] = [[1, 2, 3, 4, 5, 6], [12, 0, 7, 7, 1, 3]];
const TARGETS: [[i32; 6]; 2] = [[2, 3, 4, 5, 6, 7], [0, 7, 7, 1, 3, 12]];

#[test]
fn n_params_counts_the_parameters_of_the_modules() {
    for config in variants() {
        let model = config.init(0, &kernels::testing::test_device()).unwrap();
        assert_eq!(model.num_params(), config.n_params(), "{config:?}");
    }
}

#[test]
fn decoding_reads_each_matrix_once() {
    let device = kernels::testing::test_device();
    let f32s = |config: &GptConfig| config.init(0, &device).unwrap().weight_bytes() / 4;
    for config in variants().map(|config| GptConfig { bias: false, ..config }) {
        let attention = AttentionConfig { qkv_bias: false, qk_norm: false, ..config.attention };
        let plain = GptConfig { attention, ..config };
        let n_norms = (2 * plain.n_layer + 1) * plain.n_embd;
        let positions = if plain.position.kind == Position::Learned { plain.block_size } else { 0 };
        let untied = usize::from(!plain.tie_embeddings) * plain.vocab_size * plain.n_embd;
        let n_matrices = plain.n_params() - n_norms - positions * plain.n_embd - untied;
        assert_eq!(f32s(&plain), n_matrices as u64, "{plain:?}");
    }
}

#[test]
fn a_seed_determines_the_weights() {
    let device = kernels::testing::test_device();
    let logits =
        |seed| GptConfig::debug().init(seed, &device).unwrap().forward(tokens(&IDS, &device)).into_data();
    assert_eq!(logits(7), logits(7));
    assert_ne!(logits(7), logits(8));
}

#[test]
fn the_initial_loss_is_ln_v() {
    let device = kernels::testing::test_device();
    for config in variants() {
        let model = config.init(0, &device).unwrap();
        let loss: f32 = model.loss(tokens(&IDS, &device), tokens(&TARGETS, &device)).into_scalar();
        // Initial logits are a few hundredths, so the loss is close to ln V.
        assert!((loss - 13f32.ln()).abs() < 0.1, "{loss}");
    }
}

#[test]
fn logits_do_not_depend_on_the_future() {
    let device = kernels::testing::test_device();
    for config in variants() {
        let model = config.init(0, &device).unwrap();
        let seen = 4;
        let mut edited = IDS;
        edited.iter_mut().for_each(|row| row[seen..].fill(9));

        let before = model.forward(tokens(&IDS, &device));
        let after = model.forward(tokens(&edited, &device));
        let past = |y: &Tensor<3>| y.clone().slice(s![.., ..seen, ..]).into_data();
        assert_eq!(past(&after), past(&before));
        let future = |y: &Tensor<3>| y.clone().slice(s![.., seen.., ..]).into_data();
        assert_ne!(future(&after), future(&before));
    }
}

#[test]
fn a_logit_has_no_gradient_from_later_positions() {
    let device = kernels::testing::test_device().autodiff();
    // Untied, so that a row of the token embedding affects logits only through the blocks.
    for config in [GptConfig { tie_embeddings: false, ..GptConfig::debug() }, GptConfig::debug_modern()] {
        has_gradients_from_earlier_positions_only(&config, &device);
    }
}

fn has_gradients_from_earlier_positions_only(config: &GptConfig, device: &Device) {
    let model = config.init(0, device).unwrap();
    let at = 2;
    let ids = [0, 1, 2, 3, 4, 5];
    let logits = model.forward(Tensor::from_ints([ids], device));
    let grads = logits.slice(s![.., at..at + 1, ..]).powi_scalar(2).sum().backward();

    let mut rows = EmbeddingRows {
        grads: GradientsParams::from_grads(grads, &model),
        in_embedding: false,
        rows: vec![],
    };
    model.visit(&mut rows);
    for (id, norm) in rows.rows.into_iter().enumerate() {
        assert_eq!(norm > 0.0, id <= at, "token at position {id}: gradient norm {norm}");
    }
}

/// Collects the gradient norm of each row of the token embedding.
struct EmbeddingRows {
    grads: GradientsParams,
    in_embedding: bool,
    rows: Vec<f32>,
}

impl ModuleVisitor for EmbeddingRows {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.in_embedding |= name == "token_embedding";
    }

    fn exit_module(&mut self, name: &str, _container_type: &str) {
        self.in_embedding &= name != "token_embedding";
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.in_embedding {
            let grad = self.grads.get::<D>(param.id).expect("the embedding has a gradient");
            self.rows = grad.square().sum_dim(D - 1).sqrt().into_data().try_into_vec().unwrap();
        }
    }
}

#[test]
fn every_parameter_gets_a_gradient() {
    let device = kernels::testing::test_device().autodiff();
    for config in variants() {
        let model = config.init(0, &device).unwrap();
        let loss = model.loss(tokens(&IDS, &device), tokens(&TARGETS, &device));
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        let mut check = NonzeroGradients { grads, path: vec![], n_seen: 0 };
        model.visit(&mut check);
        assert!(check.n_seen > 10);
    }
}

struct NonzeroGradients {
    grads: GradientsParams,
    path: Vec<String>,
    n_seen: usize,
}

impl ModuleVisitor for NonzeroGradients {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.join(".");
        let grad = self.grads.get::<D>(param.id).unwrap_or_else(|| panic!("{path} has no gradient"));
        assert!(grad.abs().max().into_scalar::<f32>() > 0.0, "the gradient of {path} is zero");
        self.n_seen += 1;
    }
}

#[test]
fn a_model_overfits_one_batch() {
    let device = kernels::testing::test_device().autodiff();
    for config in variants() {
        let mut model = config.init(0, &device).unwrap();
        let mut optimizer = AdamWConfig::new().with_weight_decay(0.0).init();
        let loss = |model: &Gpt| model.loss(tokens(&IDS, &device), tokens(&TARGETS, &device));
        for _ in 0..60 {
            let grads = GradientsParams::from_grads(loss(&model).backward(), &model);
            model = optimizer.step(1e-2, model, grads);
        }
        let loss: f32 = loss(&model).into_scalar();
        assert!(loss < 0.1, "{loss} with {config:?}");
    }
}

#[test]
fn cached_decoding_equals_uncached_decoding_beyond_the_block() {
    let device = kernels::testing::test_device();
    let block_sizes =
        variants().into_iter().flat_map(|config| [8, 16, 21].map(|size| (config.clone(), size)));
    for (config, block_size) in block_sizes {
        let config = GptConfig { block_size, ..config };
        let model = config.init(3, &device).unwrap();
        let ids: Vec<u32> = (0..3 * block_size as u32).map(|i| (i * i + 5) % 13).collect();
        let decoder = Decoder::new(&model);
        let mut context = decoder.context();
        let prompt = 3;
        for len in prompt..ids.len() {
            let new = if len == prompt { &ids[..prompt] } else { &ids[len - 1..len] };
            let cached = decoder.next_logits(&mut context, new);

            let seen: Vec<i32> =
                ids[window_start(len, block_size)..len].iter().map(|&id| id as i32).collect();
            assert!(seen.len() <= block_size);
            let shape = [1, seen.len()];
            let uncached = model
                .forward(Tensor::from_data(TensorData::new(seen, shape), &device))
                .slice(s![.., -1.., ..])
                .reshape([-1]);
            // The order of sums differs; initial logits are of order 0.1.
            cached.into_data().assert_approx_eq::<f32>(
                &uncached.into_data(),
                Tolerance::absolute(kernels::testing::test_tolerance(1e-6)),
            );
        }
    }
}

#[test]
fn a_prompt_longer_than_the_block_is_cropped_to_its_end() {
    let device = kernels::testing::test_device();
    let model = GptConfig::debug().init(3, &device).unwrap();
    let ids: Vec<u32> = (0..20).map(|i| (i * 5) % 13).collect();
    let decoder = Decoder::new(&model);
    let whole = decoder.next_logits(&mut decoder.context(), &ids);
    let end = decoder.next_logits(&mut decoder.context(), &ids[window_start(20, 8)..]);
    assert_eq!(whole.into_data(), end.into_data());
}

#[test]
fn estimate_slots_bounds_the_memory_of_a_context() {
    let device = kernels::testing::test_device();
    for config in [GptConfig::debug(), GptConfig::debug_modern()] {
        let config = GptConfig { block_size: 1000, ..config };
        let model = config.init(5, &device).unwrap();
        for (slot_type, size) in [(SlotType::F32, 4), (SlotType::F16, 2)] {
            if slot_type == SlotType::F16 && !device.supports_dtype(DType::F16) {
                continue;
            }
            let decoder = Decoder::new(&model.clone().with_slot_type(slot_type));
            let mut context = decoder.context();
            for (positions, is_exact) in [(3, true), (256, false), (270, false), (999, true)] {
                let new = vec![0; positions - context.ids().len()];
                decoder.next_logits(&mut context, &new);
                let (used, estimate) =
                    (context.size_bytes(), estimate_slots(&config, 2, positions, slot_type));
                assert!(2 * used <= estimate && estimate <= 4 * used, "{positions}: {used} and {estimate}");
                assert_eq!(2 * used == estimate, is_exact, "{positions}: {used} and {estimate}");
            }
            let keys = 2 * config.n_layer * 2 * 1000 * config.n_kv_head() * config.head_dim() * size;
            let bound = estimate_slots(&config, 2, usize::MAX, slot_type);
            assert_eq!(bound, keys as u64, "capped at the block");
        }
    }
}

#[test]
fn cropping_the_block_keeps_logits_within_it() {
    let device = kernels::testing::test_device();
    for config in [GptConfig::debug(), GptConfig::debug_modern()] {
        let model = config.init(5, &device).unwrap();
        let cropped = model.clone().with_block_size(6);
        assert_eq!(cropped.config().block_size, 6);
        assert_eq!(cropped.num_params(), cropped.config().n_params());
        let logits = |model: &Gpt| model.forward(tokens(&IDS, &device)).into_data();
        assert_eq!(logits(&cropped), logits(&model));
    }
}

#[test]
fn with_zero_init_blocks_are_the_identity() {
    let device = kernels::testing::test_device();
    let config = GptConfig { zero_init: true, ..GptConfig::debug_modern() };
    let model = config.init(5, &device).unwrap();
    // Blocks add nothing, so logits do not depend on earlier tokens.
    let logits = |ids: [i32; 3]| {
        let logits = model.forward(Tensor::from_ints([ids], &device));
        logits.slice(s![.., -1.., ..]).into_data()
    };
    assert_eq!(logits([1, 2, 3]), logits([7, 0, 3]));
    assert_ne!(logits([1, 2, 3]), logits([1, 2, 4]));
}

#[test]
fn a_low_rank_update_equals_the_merged_weight_and_has_gradients() {
    /// Adds `change` to some rows of a linear layer's weight.
    struct Merge {
        path: Vec<String>,
        first_row: usize,
        change: Tensor<2>,
    }

    impl ModuleMapper for Merge {
        fn enter_module(&mut self, name: &str, _container_type: &str) {
            self.path.push(name.to_owned());
        }

        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.pop();
        }

        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if self.path.join(".") != "blocks.1.attention.qkv.weight" {
                return param;
            }
            let change = Tensor::<D>::from_data(self.change.to_data(), &self.change.device());
            let rows = self.first_row..self.first_row + self.change.dims()[0];
            param.map(|weight| {
                let changed = weight.clone().slice([rows.clone()]) + change;
                weight.slice_assign([rows], changed)
            })
        }
    }

    let device = kernels::testing::test_device();
    device.seed(3);
    let random = |shape: [usize; 2]| Tensor::<2>::random(shape, burn::tensor::Distribution::Default, &device);
    for config in [GptConfig::debug(), GptConfig::debug_modern()] {
        let width = config.n_embd;
        let (a, b, first_row) = (random([2, width]), random([width, 2]), width / 2);
        let model = config.init(1, &device).unwrap();
        let merged = model.clone().map(&mut Merge {
            path: Vec::new(),
            first_row,
            change: b.clone().matmul(a.clone()) * 0.5,
        });
        let lora = Lora::new(a.clone(), b.clone(), first_row, 0.5);
        let path = "blocks.1.attention.qkv".to_owned();
        let updated = model.clone().with_lora(BTreeMap::from([(path, vec![lora])]));
        let logits = |model: &Gpt| model.forward(tokens(&IDS, &device)).into_data();
        // Weights differ by rounding; logits are of order 1.
        let close = Tolerance::absolute(kernels::testing::test_tolerance(1e-5));
        logits(&updated).assert_approx_eq::<f32>(&logits(&merged), close);
        assert_ne!(logits(&updated), logits(&model));
        assert_eq!(
            updated.num_params(),
            model.num_params() + 4 * width,
            "the matrices of the update are parameters"
        );

        // Updates work in every linear layer and have gradients.
        let [qkv, _, _] = config.qkv_widths();
        let shapes = [
            ("attention.qkv", [config.qkv_widths().iter().sum(), width]),
            ("attention.project", [width, qkv]),
            ("feed_forward.expand", [config.expanded_width(), width]),
            ("feed_forward.project", [width, config.n_inner()]),
        ];
        let layers = (0..config.n_layer).flat_map(|idx| {
            shapes.map(|(path, [n_out, n_in])| {
                let lora = Lora::new(random([1, n_in]), random([n_out, 1]), 0, 0.1);
                (format!("blocks.{idx}.{path}"), vec![lora])
            })
        });
        let everywhere = model.with_lora(layers.collect());
        let device = device.clone().autodiff();
        let n_gradients = |model: Gpt| {
            let model = model.train();
            let loss = model.loss(tokens(&IDS, &device), tokens(&TARGETS, &device));
            GradientsParams::from_grads(loss.backward(), &model).len()
        };
        assert_eq!(n_gradients(everywhere), n_gradients(merged) + 2 * 4 * config.n_layer);
    }
}
