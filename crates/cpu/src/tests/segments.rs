//! Segments compared with the reference implementation in f64, and with each segment computed alone.

use proptest::prelude::*;

use super::{
    assert_close,
    attention::{EPSILON, reference},
    random, wide,
};
use crate::{
    HeadLayout, RopeAngles, Segment, SimdLevel, Slot, SlotShape, SlotType,
    attention::Sizes,
    segments::{INVARIANT_SEGMENT, Step, attend},
};

/// Sequences of one attention layer.
struct Sequences {
    layout: HeadLayout,
    head_dim: usize,
    gains: [Vec<f32>; 2],
    /// `[T, (H + 2 KV) · D]` of each sequence.
    qkv: Vec<Vec<f32>>,
    slots: Vec<Slot>,
}

/// The capacity of the slots, in positions.
const CAPACITY: usize = 1000;

impl Sequences {
    /// Random sequences, with QK norm and RoPE or without both. The array is H, KV and D.
    fn new(
        n: usize,
        time: usize,
        [n_head, n_kv_head, head_dim]: [usize; 3],
        has_norm_and_rope: bool,
        stored: SlotType,
    ) -> Self {
        let rope = has_norm_and_rope.then(|| RopeAngles::new(head_dim, time, 100.0));
        let gain = |seed| if has_norm_and_rope { random(head_dim, seed) } else { Vec::new() };
        let width = (n_head + 2 * n_kv_head) * head_dim;
        let shape = SlotShape { n_layer: 1, n_kv_head, head_dim, capacity: CAPACITY };
        Self {
            layout: HeadLayout { n_head, n_kv_head, rope, epsilon: EPSILON },
            head_dim,
            gains: [gain(21), gain(22)],
            qkv: (0..n).map(|idx| random(time * width, idx as u64)).collect(),
            slots: vec![Slot::new(shape, stored); n],
        }
    }

    fn width(&self) -> usize {
        (self.layout.n_head + 2 * self.layout.n_kv_head) * self.head_dim
    }

    /// Runs one step with `n_rows` rows of each sequence, and returns each output. Sequences with 0 rows are not part
    /// of the step.
    fn step(&mut self, level: SimdLevel, n_rows: &[usize]) -> Vec<Vec<f32>> {
        let (width, channels) = (self.width(), self.layout.n_head * self.head_dim);
        let (mut qkv, mut segments, mut slots) = (Vec::new(), Vec::new(), Vec::new());
        for ((slot, rows), &n) in self.slots.iter_mut().zip(&self.qkv).zip(n_rows) {
            if n > 0 {
                let segment = Segment { past: slot.len(), n };
                qkv.extend_from_slice(&rows[segment.past * width..][..n * width]);
                segments.push(segment);
                slots.push(slot);
            }
        }
        let gains = self.gains.each_ref().map(Vec::as_slice);
        let (layout, head_dim) = (&self.layout, self.head_dim);
        let step = Step { qkv: &qkv, gains, layout, head_dim, segments: &segments };
        let out = attend(level, &step, &mut slots, 0);
        let mut rest = out.as_slice();
        let mut take = |&n: &usize| {
            let (rows, others) = rest.split_at(n * channels);
            rest = others;
            rows.to_vec()
        };
        n_rows.iter().map(&mut take).collect()
    }

    /// The concatenated outputs of each sequence over all steps.
    fn run(mut self, level: SimdLevel, steps: &[Vec<usize>]) -> Vec<Vec<f32>> {
        let mut out = vec![Vec::new(); self.slots.len()];
        for n_rows in steps {
            for (out, rows) in out.iter_mut().zip(self.step(level, n_rows)) {
                out.extend(rows);
            }
        }
        out
    }

    /// The reference output of the first `time` positions of a sequence.
    fn expected(&self, sequence: usize, time: usize) -> Vec<f64> {
        let HeadLayout { n_head, n_kv_head, .. } = self.layout;
        let sizes = Sizes { batch: 1, time, n_head, n_kv_head, head_dim: self.head_dim };
        let qkv = &self.qkv[sequence][..time * self.width()];
        reference(&wide(qkv), &self.gains.each_ref().map(|gain| wide(gain)), sizes, &vec![0; time], None)
    }
}

/// The steps with one sequence only.
fn alone(steps: &[Vec<usize>], sequence: usize) -> Vec<Vec<usize>> {
    let only = |n_rows: &Vec<usize>| {
        n_rows.iter().enumerate().map(|(idx, &n)| if idx == sequence { n } else { 0 }).collect()
    };
    steps.iter().map(only).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn a_segment_does_not_depend_on_the_others(
        // Absent, one row, or several rows.
        steps in prop::collection::vec(
            prop::collection::vec(prop_oneof![Just(0), Just(1), 2usize..20], 3),
            1..6,
        ),
        n_kv_head in 1usize..3,
        group_size in 1usize..4,
        half in 1usize..9,
        has_norm_and_rope: bool,
    ) {
        let heads = [n_kv_head * group_size, n_kv_head, 2 * half];
        let sequences = |stored| Sequences::new(3, 100, heads, has_norm_and_rope, stored);
        for level in SimdLevel::all() {
            for (stored, tolerance) in [(SlotType::F32, 4e-6), (SlotType::F16, 4e-3)] {
                let together = sequences(stored).run(level, &steps);
                for (idx, out) in together.iter().enumerate() {
                    let time = steps.iter().map(|n_rows| n_rows[idx]).sum();
                    assert_close(level, out, &sequences(stored).expected(idx, time), tolerance);
                    let alone = sequences(stored).run(level, &alone(&steps, idx));
                    prop_assert_eq!(out, &alone[idx], "{:?}", level);
                }
            }
        }
    }
}

#[test]
fn rows_of_short_segments_are_bitwise_equal_to_single_rows() {
    let cases = [([4, 2, 6], SlotType::F32), ([3, 3, 8], SlotType::F16), ([6, 1, 64], SlotType::F32)];
    for level in SimdLevel::all() {
        for (heads, stored) in cases {
            let run = |n_rows: &[usize]| {
                let steps: Vec<Vec<usize>> = n_rows.iter().map(|&n| vec![n]).collect();
                Sequences::new(1, 150, heads, true, stored).run(level, &steps).remove(0)
            };
            let single = run(&[1; 150]);
            assert_eq!(run(&[INVARIANT_SEGMENT; 9]), single[..9 * INVARIANT_SEGMENT * heads[0] * heads[2]]);
            assert_eq!(
                run(&[2, 1, 9, 5, 14, 3, 16, 16, 16, 16, 16, 16, 16, 4]),
                single,
                "{level:?}, {heads:?}"
            );
        }
    }
}

#[test]
fn steps_match_the_reference_over_several_blocks_of_keys() {
    // More keys than one block of packing or of conversion.
    let steps: Vec<Vec<usize>> = [300, 1, 299, 1, 1, 98].map(|n| vec![n]).to_vec();
    for level in SimdLevel::all() {
        for (stored, tolerance) in [(SlotType::F32, 4e-6), (SlotType::F16, 2e-3)] {
            let sequences = || Sequences::new(1, 700, [2, 1, 6], true, stored);
            let out = sequences().run(level, &steps);
            assert_close(level, &out[0], &sequences().expected(0, 700), tolerance);
        }
    }
}

#[test]
fn output_does_not_depend_on_the_number_of_threads() {
    for (heads, steps) in [
        ([4, 1, 6], vec![vec![150, 1], vec![1, 140], vec![1, 1]]),
        ([1, 1, 6], vec![vec![150, 0], vec![50, 0], vec![1, 0]]),
        ([6, 3, 6], vec![vec![61, 30], vec![1, 100], vec![90, 1]]),
        ([2, 1, 6], vec![vec![3, 2], vec![1, 1]]),
        ([64, 16, 64], vec![vec![120, 90], vec![1, 1]]),
    ] {
        let with_threads = |n: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
            let sequences = Sequences::new(2, 210, heads, true, SlotType::F32);
            pool.install(|| sequences.run(SimdLevel::best(), &steps))
        };
        let alone = with_threads(1);
        for n in [2, 3, 8] {
            assert!(with_threads(n) == alone, "{heads:?} on {n} threads");
        }
    }
}

#[test]
fn a_cloned_slot_continues_independently() {
    let level = SimdLevel::best();
    for stored in [SlotType::F32, SlotType::F16] {
        let mut sequences = Sequences::new(2, 60, [2, 1, 4], true, stored);
        let mut whole = Sequences::new(2, 60, [2, 1, 4], true, stored);
        // The second sequence begins as the first.
        let n_shared = 20 * whole.width();
        let prompt = whole.qkv[0][..n_shared].to_vec();
        whole.qkv[1][..n_shared].copy_from_slice(&prompt);
        let read = whole.step(level, &[20, 20]);
        assert_eq!(read[0], read[1]);

        sequences.step(level, &[20, 0]);
        sequences.slots[1] = sequences.slots[0].clone();
        for n_rows in [[1, 1], [7, 0], [1, 12], [0, 1]] {
            assert_eq!(sequences.step(level, &n_rows), whole.step(level, &n_rows));
        }
    }
}

#[test]
fn a_truncated_slot_forgets_the_rest() {
    let level = SimdLevel::best();
    for stored in [SlotType::F32, SlotType::F16] {
        let mut sequences = Sequences::new(1, 60, [2, 2, 4], true, stored);
        sequences.step(level, &[10]);
        let after = [sequences.step(level, &[9]), sequences.step(level, &[1])];
        sequences.slots[0].truncate(10);
        assert_eq!(sequences.slots[0].len(), 10);
        assert_eq!([sequences.step(level, &[9]), sequences.step(level, &[1])], after);
        sequences.slots[0].truncate(0);
        assert!(sequences.slots[0].is_empty());
        assert_ne!(sequences.step(level, &[9]), after[0]);
    }
}

#[test]
fn slot_size_follows_its_length() {
    for (stored, size) in [(SlotType::F32, 4), (SlotType::F16, 2)] {
        let mut sequences = Sequences::new(1, CAPACITY, [2, 2, 4], false, stored);
        let (shape, mut room) = (*sequences.slots[0].shape(), 0);
        for n in [3, 60, 1, 1, 190, 1, 1, 254, 3, 400, 86] {
            sequences.step(SimdLevel::best(), &[n]);
            let slot = &sequences.slots[0];
            if slot.len() > room {
                room = shape.grown_room(room, slot.len());
            }
            assert_eq!(slot.size_bytes(), (2 * 2 * 4 * size * room) as u64);
            assert_eq!(slot.size_bytes(), shape.size_bytes(stored, room));
            assert!((slot.len()..=shape.room(slot.len())).contains(&room), "room for {room}");
            // A clone allocates only the filled positions.
            assert_eq!(slot.clone().size_bytes(), shape.size_bytes(stored, slot.len()));
        }
        assert_eq!((sequences.slots[0].len(), room), (CAPACITY, CAPACITY));
    }
}

#[test]
#[should_panic(expected = "1001 positions do not fit a slot of 1000")]
fn a_full_slot_refuses_more() {
    let mut sequences = Sequences::new(1, 1001, [1, 1, 2], false, SlotType::F32);
    sequences.step(SimdLevel::best(), &[1000]);
    sequences.step(SimdLevel::best(), &[1]);
}

#[test]
#[should_panic(expected = "the slot holds 2 positions, and the segment follows 1")]
fn a_segment_must_follow_the_positions_of_its_slot() {
    let mut sequences = Sequences::new(1, 4, [1, 1, 2], false, SlotType::F32);
    sequences.step(SimdLevel::best(), &[2]);
    let qkv = sequences.qkv[0][..6].to_vec();
    let segments = [Segment { past: 1, n: 1 }];
    let step =
        Step { qkv: &qkv, gains: [&[], &[]], layout: &sequences.layout, head_dim: 2, segments: &segments };
    attend(SimdLevel::best(), &step, &mut [&mut sequences.slots[0]], 0);
}
