//! Sequences that are read and decoded side by side: each is as if alone.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may panic, and its numbers are small"
)]

use burn::{
    prelude::*,
    tensor::{DType, Tolerance},
};
use kernels::testing::{test_device, test_tolerance};
use model::{Context, Decoder, Gpt, GptConfig, SlotType};

/// The same numbers for the same seed.
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

/// A sequence with all that it has read: pieces, and the logits after each.
struct Reader {
    context: Context,
    pieces: Vec<(Vec<u32>, TensorData)>,
}

/// Sequences that come, end, fork and read pieces of up to `max_piece` tokens over three seats, as a seed has it: all that there were.
fn schedule(decoder: &Decoder, seed: u64, n_steps: usize, max_piece: usize) -> Vec<Reader> {
    let mut random = Random(seed);
    let (mut seats, mut ended): ([Option<Reader>; 3], _) = ([None, None, None], Vec::new());
    for _ in 0..n_steps {
        for seat in 0..seats.len() {
            match (&seats[seat], random.below(8)) {
                (Some(_), 0) => ended.extend(seats[seat].take()),
                (None, 0..4) => seats[seat] = Some(Reader { context: decoder.context(), pieces: vec![] }),
                (None, 4) => {
                    let other = seats[(seat + 1) % 3].as_ref();
                    seats[seat] =
                        other.map(|it| Reader { context: it.context.clone(), pieces: it.pieces.clone() });
                }
                _ => {}
            }
        }
        let mut read: Vec<(&mut Reader, Vec<u32>)> = Vec::new();
        for reader in seats.iter_mut().flatten() {
            // Nothing, a token as in decoding, or a piece of a prompt.
            let n = [0, 1, 1, 1 + random.below(max_piece)][random.below(4)];
            if n > 0 {
                read.push((reader, random.ids(n)));
            }
        }
        if read.is_empty() {
            continue;
        }
        let mut feeds: Vec<(&mut Context, &[u32])> =
            read.iter_mut().map(|(reader, ids)| (&mut reader.context, ids.as_slice())).collect();
        let logits = decoder.step(&mut feeds);
        for (row, (reader, ids)) in read.into_iter().enumerate() {
            let logits = logits.clone().slice(s![row..row + 1, ..]).squeeze_dim::<1>(0);
            reader.pieces.push((ids, logits.into_data()));
        }
    }
    ended.extend(seats.into_iter().flatten());
    ended
}

/// Whether sums have the same order however many rows a product has, which is so up to 64 on the CPU.
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
fn any_schedule_gives_each_sequence_what_it_gives_alone() {
    // Within the block, with pieces as long as the block also far beyond it, and with more than 64 rows in a step.
    for (block_size, n_steps, max_piece) in [(64, 25, 2), (16, 40, 16), (96, 30, 90)] {
        for (model, stored) in
            models(block_size).iter().flat_map(|it| [(it, SlotType::F32), (it, SlotType::F16)])
        {
            if stored == SlotType::F16 && !test_device().supports_dtype(DType::F16) {
                continue;
            }
            let decoder = Decoder::storing(model, stored);
            let readers: Vec<Reader> =
                (0..8).flat_map(|seed| schedule(&decoder, seed, n_steps, max_piece)).collect();
            let n_pieces: usize = readers.iter().map(|reader| reader.pieces.len()).sum();
            assert!(readers.len() > 30 && n_pieces > 200, "{} sequences, {n_pieces} pieces", readers.len());
            for Reader { pieces, .. } in readers {
                let mut alone = decoder.context();
                for (ids, together) in pieces {
                    let alone = decoder.next_logits(&mut alone, &ids).into_data();
                    if is_exact() {
                        assert_eq!(together, alone);
                    }
                    // The same sums in another order, of logits of order 0.1; a sum on the border of two f16 may fall to either.
                    let close = test_tolerance(if stored == SlotType::F16 { 1e-4 } else { 1e-6 });
                    together.assert_approx_eq::<f32>(&alone, Tolerance::absolute(close));
                }
            }
        }
    }
}

#[test]
fn a_sequence_has_the_same_bits_alone_and_among_64() {
    for model in models(16) {
        let decoder = Decoder::new(&model);
        let mut random = Random(9);
        let mut together: Vec<Context> = (0..64).map(|_| decoder.context()).collect();
        let mut alone = together.clone();
        // Beyond the block, where each reads its window again.
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
fn a_prompt_in_pieces_is_the_whole_prompt() {
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
fn f16_keys_and_values_change_little() {
    if !test_device().supports_dtype(DType::F16) {
        return;
    }
    let ids = Random(4).ids(60);
    for model in models(64) {
        let read = |stored| {
            let decoder = Decoder::storing(&model, stored);
            let mut context = decoder.context();
            let logits = ids.chunks(7).map(|piece| decoder.next_logits(&mut context, piece));
            (Tensor::cat(logits.collect(), 0).into_data(), context.size_bytes())
        };
        let ((exact, size), (rounded, half)) = (read(SlotType::F32), read(SlotType::F16));
        assert_eq!(size, 2 * half);
        assert_ne!(rounded, exact, "nothing was rounded");
        // Logits of order 0.1, of values with 11 bits.
        rounded.assert_approx_eq::<f32>(&exact, Tolerance::absolute(3e-4));
    }
}

#[test]
fn a_fork_and_what_it_is_of_continue_by_themselves() {
    for model in models(16) {
        let decoder = Decoder::new(&model);
        let mut context = decoder.context();
        decoder.next_logits(&mut context, &[1, 2, 3, 4, 5]);
        let mut fork = context.clone();
        let mut whole = decoder.context();
        decoder.next_logits(&mut whole, &[1, 2, 3, 4, 5]);
        // Beyond the block.
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
fn a_step_of_nothing_is_refused() {
    let [model, _] = models(16);
    let decoder = Decoder::new(&model);
    decoder.next_logits(&mut decoder.context(), &[]);
}
