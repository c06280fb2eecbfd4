//! Decoding several sequences in one step: each gives the same logits as alone.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "tests may panic, and their values are small"
)]

use burn::{
    prelude::*,
    tensor::{DType, Tolerance},
};
use kernels::testing::{test_device, test_tolerance};
use model::{Context, Decoder, Gpt, GptConfig, LogitRows, Piece, SlotType};

/// A seeded random number generator.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    fn ids(&mut self, n: usize) -> Vec<u32> {
        (0..n).map(|_| self.below(13) as u32).collect()
    }
}

/// A sequence with its pieces of ids and the logits after each.
struct TestSequence {
    context: Context,
    pieces: Vec<(Vec<u32>, TensorData)>,
}

/// Runs up to three sequences in each step, with pieces of up to `max_piece` tokens. Sequences start, end and fork at
/// random. Returns all sequences.
fn schedule(decoder: &Decoder, seed: u64, n_steps: usize, max_piece: usize) -> Vec<TestSequence> {
    let mut random = Random(seed);
    let (mut active, mut ended): ([Option<TestSequence>; 3], _) = ([None, None, None], Vec::new());
    for _ in 0..n_steps {
        for idx in 0..active.len() {
            match (&active[idx], random.below(8)) {
                (Some(_), 0) => ended.extend(active[idx].take()),
                (None, 0..4) => {
                    active[idx] = Some(TestSequence { context: decoder.context(), pieces: vec![] });
                }
                (None, 4) => {
                    let other = active[(idx + 1) % 3].as_ref();
                    active[idx] = other
                        .map(|it| TestSequence { context: it.context.clone(), pieces: it.pieces.clone() });
                }
                _ => {}
            }
        }
        let mut read: Vec<(&mut TestSequence, Vec<u32>)> = Vec::new();
        for sequence in active.iter_mut().flatten() {
            // No tokens, one token as in decoding, or a piece of a prompt.
            let n = [0, 1, 1, 1 + random.below(max_piece)][random.below(4)];
            if n > 0 {
                read.push((sequence, random.ids(n)));
            }
        }
        if read.is_empty() {
            continue;
        }
        let mut feeds: Vec<(&mut Context, &[u32])> =
            read.iter_mut().map(|(sequence, ids)| (&mut sequence.context, ids.as_slice())).collect();
        let logits = decoder.step(&mut feeds);
        for (row, (sequence, ids)) in read.into_iter().enumerate() {
            let logits = logits.clone().slice(s![row..row + 1, ..]).squeeze_dim::<1>(0);
            sequence.pieces.push((ids, logits.into_data()));
        }
    }
    ended.extend(active.into_iter().flatten());
    ended
}

/// Whether results are bit-identical for any number of rows, which holds for up to 64 rows on the CPU.
fn is_exact() -> bool {
    std::env::var("KINDLING_TEST_DEVICE").map_or(true, |device| device == "cpu")
}

fn configs(block_size: usize) -> [GptConfig; 2] {
    [GptConfig::debug(), GptConfig::debug_modern()].map(|config| GptConfig { block_size, ..config })
}

fn models(block_size: usize) -> [Gpt; 2] {
    configs(block_size).map(|config| config.init(5, &test_device()).unwrap())
}

#[test]
fn a_sequence_gives_the_same_logits_in_any_schedule() {
    // Within the block, far beyond it with pieces as long as the block, and with more than 64 rows in a step.
    for (block_size, n_steps, max_piece) in [(64, 25, 2), (16, 40, 16), (96, 30, 90)] {
        for (model, slot_type) in
            models(block_size).iter().flat_map(|it| [(it, SlotType::F32), (it, SlotType::F16)])
        {
            if slot_type == SlotType::F16 && !test_device().supports_dtype(DType::F16) {
                continue;
            }
            let decoder = Decoder::new(&model.clone().with_slot_type(slot_type));
            let sequences: Vec<TestSequence> =
                (0..8).flat_map(|seed| schedule(&decoder, seed, n_steps, max_piece)).collect();
            let n_pieces: usize = sequences.iter().map(|sequence| sequence.pieces.len()).sum();
            assert!(
                sequences.len() > 30 && n_pieces > 200,
                "{} sequences, {n_pieces} pieces",
                sequences.len()
            );
            for TestSequence { pieces, .. } in sequences {
                let mut alone = decoder.context();
                for (ids, together) in pieces {
                    let alone = decoder.next_logits(&mut alone, &ids).into_data();
                    if is_exact() {
                        assert_eq!(together, alone);
                    }
                    // The order of sums differs, and a sum may round to either of two f16; logits are of order 0.1.
                    let close = test_tolerance(if slot_type == SlotType::F16 { 1e-4 } else { 1e-6 });
                    together.assert_approx_eq::<f32>(&alone, Tolerance::absolute(close));
                }
            }
        }
    }
}

#[test]
fn logits_are_bit_identical_alone_and_among_64_sequences() {
    for model in models(16) {
        let decoder = Decoder::new(&model);
        let mut random = Random(9);
        let mut together: Vec<Context> = (0..64).map(|_| decoder.context()).collect();
        let mut alone = together.clone();
        // Continues beyond the block, where each window is processed again.
        for _ in 0..20 {
            let ids = random.ids(64);
            let mut feeds: Vec<(&mut Context, &[u32])> = together.iter_mut().zip(ids.chunks(1)).collect();
            let logits = decoder.step(&mut feeds);
            for (row, (context, ids)) in alone.iter_mut().zip(ids.chunks(1)).enumerate() {
                let found: Tensor<1> = logits.clone().slice(s![row..row + 1, ..]).squeeze_dim(0);
                let expected = decoder.next_logits(context, ids).into_data();
                match is_exact() {
                    true => assert_eq!(found.into_data(), expected, "row {row}"),
                    false => found
                        .into_data()
                        .assert_approx_eq::<f32>(&expected, Tolerance::absolute(test_tolerance(1e-5))),
                }
            }
        }
    }
}

#[test]
fn a_prompt_in_pieces_equals_the_whole_prompt() {
    let ids = Random(3).ids(150);
    for (config, model) in configs(64).iter().zip(models(64)) {
        for piece in [1, 5, 16, 40] {
            let decoder = Decoder::new(&model);
            let (mut context, mut seen) = (decoder.context(), 0);
            for piece in ids.chunks(piece) {
                let in_pieces = decoder.next_logits(&mut context, piece);
                seen += piece.len();
                let whole = decoder.next_logits(&mut decoder.context(), &ids[..seen]);
                let close = Tolerance::absolute(test_tolerance(1e-6));
                in_pieces.into_data().assert_approx_eq::<f32>(&whole.into_data(), close);
            }
            assert_eq!(context.ids(), ids, "{config:?}");
        }
    }
}

#[test]
fn a_step_returns_the_logits_that_its_pieces_ask_for() {
    let ids = Random(5).ids(40);
    for model in models(64) {
        let decoder = Decoder::new(&model);
        let mut contexts = [decoder.context(), decoder.context(), decoder.context()];
        contexts.iter_mut().for_each(|context| context.push(&ids));
        let wanted = [(7, LogitRows::None), (12, LogitRows::All), (40, LogitRows::Last)];
        let pieces =
            contexts.iter_mut().zip(wanted).map(|(context, (n, logits))| Piece { context, n, logits });
        let logits = decoder.process(pieces.collect()).unwrap();
        assert_eq!(contexts.each_ref().map(Context::n_pending), [33, 28, 0]);
        assert_eq!(contexts.each_ref().map(Context::n_cached), [7, 12, 40]);

        let tokens: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
        let tokens = Tensor::from_data(TensorData::new(tokens, [1, ids.len()]), &test_device());
        let all = model.forward(tokens).squeeze_dim::<2>(0);
        let expected = Tensor::cat(vec![all.clone().slice(s![..12, ..]), all.slice(s![39.., ..])], 0);
        let close = Tolerance::absolute(test_tolerance(1e-5));
        logits.into_data().assert_approx_eq::<f32>(&expected.into_data(), close);

        let [context, ..] = &mut contexts;
        let silent = Piece { context, n: 3, logits: LogitRows::None };
        assert!(decoder.process(vec![silent]).is_none());
    }
}

#[test]
fn a_prefix_continues_like_a_new_sequence() {
    let ids = Random(6).ids(60);
    for model in models(32) {
        let decoder = Decoder::new(&model);
        // Within the block, and after the window has slid.
        for (n, len) in [(20, 12), (20, 20), (20, 1), (50, 45), (50, 9)] {
            let mut context = decoder.context();
            decoder.next_logits(&mut context, &ids[..n]);
            let prefix = context.prefix(len);
            assert!(prefix.n_cached() <= len && prefix.size_bytes() <= context.size_bytes());
            context.truncate(len);
            let expected =
                decoder.next_logits(&mut decoder.context(), &[&ids[..len], &[3, 1]].concat()).into_data();
            for mut continued in [prefix, context] {
                assert_eq!(continued.ids(), &ids[..len]);
                let logits = decoder.next_logits(&mut continued, &[3, 1]).into_data();
                logits.assert_approx_eq::<f32>(&expected, Tolerance::absolute(test_tolerance(1e-5)));
            }
        }
    }
}

#[test]
fn equal_leading_tokens_in_the_cache_are_reusable() {
    let [model, _] = models(16);
    let decoder = Decoder::new(&model);
    let mut context = decoder.context();
    context.push(&[1, 2, 3, 4, 5]);
    assert_eq!(context.n_reusable(&[1, 2, 3]), 0, "nothing is processed");
    decoder.process(vec![Piece { context: &mut context, n: 4, logits: LogitRows::None }]);
    for (ids, n) in [(&[1, 2, 3][..], 3), (&[1, 2, 7, 4], 2), (&[2], 0), (&[], 0), (&[1, 2, 3, 4, 5, 6], 4)] {
        assert_eq!(context.n_reusable(ids), n, "{ids:?}");
    }
    decoder.next_logits(&mut context, &[6; 20]);
    assert_eq!(context.n_reusable(&[1, 2, 3]), 0, "the window has slid");
}

#[test]
fn f16_keys_and_values_change_logits_little() {
    if !test_device().supports_dtype(DType::F16) {
        return;
    }
    let ids = Random(4).ids(60);
    for model in models(64) {
        let read = |slot_type| {
            let decoder = Decoder::new(&model.clone().with_slot_type(slot_type));
            let mut context = decoder.context();
            let logits = ids.chunks(7).map(|piece| decoder.next_logits(&mut context, piece));
            (Tensor::cat(logits.collect(), 0).into_data(), context.size_bytes())
        };
        let ((exact, size), (rounded, half)) = (read(SlotType::F32), read(SlotType::F16));
        assert_eq!(size, 2 * half);
        assert_ne!(rounded, exact, "nothing was rounded");
        // f16 has 11 significant bits; logits are of order 0.1.
        rounded.assert_approx_eq::<f32>(&exact, Tolerance::absolute(3e-4));
    }
}

#[test]
fn forks_continue_independently() {
    for model in models(16) {
        let decoder = Decoder::new(&model);
        let mut context = decoder.context();
        decoder.next_logits(&mut context, &[1, 2, 3, 4, 5]);
        let mut fork = context.clone();
        let mut whole = decoder.context();
        decoder.next_logits(&mut whole, &[1, 2, 3, 4, 5]);
        // Continues beyond the block.
        for step in 0..20 {
            decoder.next_logits(&mut fork, &[(step * 5 + 1) % 13]);
            let ids = [(step * 3) % 13];
            let [got, expected] =
                [&mut context, &mut whole].map(|it| decoder.next_logits(it, &ids).into_data());
            assert_eq!(got, expected, "step {step}");
        }
        assert_eq!(fork.ids().len(), context.ids().len());
        assert_ne!(fork.ids(), context.ids());
    }
}

#[test]
#[should_panic(expected = "at least one token")]
fn a_step_without_new_tokens_panics() {
    let [model, _] = models(16);
    let decoder = Decoder::new(&model);
    decoder.next_logits(&mut decoder.context(), &[]);
}
