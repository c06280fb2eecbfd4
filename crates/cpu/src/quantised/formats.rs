//! Dot products of weights with groups of activations, and the integers of weights, for each format.

use bytemuck::AnyBitPattern;
use quant::{Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0, scales_and_mins};

use super::{
    activations::{BLOCK, GROUP, Group},
    vectors::Vectors,
};

/// The sums of one row of activations. Two, so that an addition need not wait for the one before.
pub(super) type Sums<V> = [<V as Vectors>::Floats; 2];

/// A format of integers, by the type of its blocks.
pub(super) trait Quantised: AnyBitPattern {
    /// Blocks per group of activations.
    const BLOCKS: usize;

    /// Adds to `sums` the products with `R` rows of activations. The last blocks of a row of weights may be fewer than
    /// [`Self::BLOCKS`].
    fn add_products<V: Vectors, const R: usize>(
        v: V,
        blocks: &[Self],
        x: [&Group; R],
        sums: &mut [Sums<V>; R],
    );

    /// Unpacks the integers of the blocks of a group. The last blocks of a row may be fewer than [`Self::BLOCKS`].
    fn unpack<V: Vectors>(v: V, blocks: &[Self], out: &mut Integers);
}

/// The weights of a group: `scale · q + offset`, with a scale and an offset for each half block of 16.
pub(super) struct Integers {
    pub(super) quanta: [u8; GROUP],
    pub(super) scales: [f32; 16],
    pub(super) offsets: [f32; 16],
}

impl Integers {
    pub(super) const ZERO: Self = Self { quanta: [0; GROUP], scales: [0.0; 16], offsets: [0.0; 16] };

    /// Sets the scales and offsets of whole blocks.
    #[inline(always)]
    fn set_scales(&mut self, scales: [f32; 8], offsets: [f32; 8]) {
        for block in 0..GROUP / BLOCK {
            self.scales[2 * block..][..2].fill(scales[block]);
            self.offsets[2 * block..][..2].fill(offsets[block]);
        }
    }

    #[inline(always)]
    fn set_block(&mut self, block: usize, quanta: [u8; BLOCK]) {
        self.quanta.as_chunks_mut().0[block] = quanta;
    }
}

/// A format with blocks of 32 values: `scale · q + offset`.
trait Short: AnyBitPattern {
    fn scale(&self) -> [u8; 2];

    /// The offsets of a group of blocks, given their scales.
    fn offsets<V: Vectors>(v: V, blocks: &[Self], scales: V::Floats) -> V::Floats;

    /// `q`, unsigned.
    fn quanta<V: Vectors>(&self, v: V) -> V::Bytes;

    /// Adds the products of this block, the `idx`-th of its group, with `R` rows of activations, times `scales`, to sum
    /// `S` of each.
    #[inline(always)]
    fn add_to<V: Vectors, const R: usize, const S: usize>(
        &self,
        v: V,
        idx: usize,
        x: [&Group; R],
        scales: &[[f32; 8]; R],
        sums: &mut [Sums<V>; R],
    ) {
        for ((sums, x), scales) in sums.iter_mut().zip(x).zip(scales) {
            let dots = v.floats(v.dots(self.quanta(v), x.block(idx)));
            sums[S] = v.mul_add(dots, v.splat(scales[idx]), sums[S]);
        }
    }
}

impl<B: Short> Quantised for B {
    const BLOCKS: usize = GROUP / BLOCK;

    #[inline(always)]
    fn add_products<V: Vectors, const R: usize>(
        v: V,
        blocks: &[Self],
        x: [&Group; R],
        sums: &mut [Sums<V>; R],
    ) {
        let scales = v.f16s(fields(blocks, Self::scale));
        let offsets = Self::offsets(v, blocks, scales);
        let mut products = [[0.0; 8]; R];
        for ((products, sums), x) in products.iter_mut().zip(&mut *sums).zip(x) {
            sums[0] = v.mul_add(offsets, v.load(&x.sums), sums[0]);
            *products = v.store(v.mul(scales, v.load(&x.scales)));
        }
        let (pairs, rest) = blocks.as_chunks::<2>();
        for (idx, [first, second]) in pairs.iter().enumerate() {
            first.add_to::<V, R, 0>(v, 2 * idx, x, &products, sums);
            second.add_to::<V, R, 1>(v, 2 * idx + 1, x, &products, sums);
        }
        if let [last] = rest {
            last.add_to::<V, R, 0>(v, blocks.len() - 1, x, &products, sums);
        }
    }

    #[inline(always)]
    fn unpack<V: Vectors>(v: V, blocks: &[Self], out: &mut Integers) {
        let scales = v.f16s(fields(blocks, Self::scale));
        out.set_scales(v.store(scales), v.store(Self::offsets(v, blocks, scales)));
        for (idx, block) in blocks.iter().enumerate() {
            out.set_block(idx, v.store_bytes(block.quanta(v)));
        }
    }
}

/// A half-precision field of each block; zeros for missing blocks.
#[inline(always)]
fn fields<B>(blocks: &[B], field: impl Fn(&B) -> [u8; 2]) -> [[u8; 2]; GROUP / BLOCK] {
    let mut fields = [[0; 2]; GROUP / BLOCK];
    for (out, block) in fields.iter_mut().zip(blocks) {
        *out = field(block);
    }
    fields
}

impl Short for Q4_0 {
    #[inline(always)]
    fn scale(&self) -> [u8; 2] {
        self.scale
    }

    #[inline(always)]
    fn offsets<V: Vectors>(v: V, _: &[Self], scales: V::Floats) -> V::Floats {
        v.mul(scales, v.splat(-8.0))
    }

    #[inline(always)]
    fn quanta<V: Vectors>(&self, v: V) -> V::Bytes {
        v.nibbles(&self.nibbles)
    }
}

impl Short for Q4_1 {
    #[inline(always)]
    fn scale(&self) -> [u8; 2] {
        self.scale
    }

    #[inline(always)]
    fn offsets<V: Vectors>(v: V, blocks: &[Self], _: V::Floats) -> V::Floats {
        v.f16s(fields(blocks, |block| block.min))
    }

    #[inline(always)]
    fn quanta<V: Vectors>(&self, v: V) -> V::Bytes {
        v.nibbles(&self.nibbles)
    }
}

impl Short for Q5_0 {
    #[inline(always)]
    fn scale(&self) -> [u8; 2] {
        self.scale
    }

    #[inline(always)]
    fn offsets<V: Vectors>(v: V, _: &[Self], scales: V::Floats) -> V::Floats {
        v.mul(scales, v.splat(-16.0))
    }

    #[inline(always)]
    fn quanta<V: Vectors>(&self, v: V) -> V::Bytes {
        v.or(v.nibbles(&self.nibbles), v.bits(self.high, 16))
    }
}

impl Short for Q5_1 {
    #[inline(always)]
    fn scale(&self) -> [u8; 2] {
        self.scale
    }

    #[inline(always)]
    fn offsets<V: Vectors>(v: V, blocks: &[Self], _: V::Floats) -> V::Floats {
        v.f16s(fields(blocks, |block| block.min))
    }

    #[inline(always)]
    fn quanta<V: Vectors>(&self, v: V) -> V::Bytes {
        v.or(v.nibbles(&self.nibbles), v.bits(self.high, 16))
    }
}

/// Signed integers need no offset.
impl Quantised for Q8_0 {
    const BLOCKS: usize = GROUP / BLOCK;

    #[inline(always)]
    fn add_products<V: Vectors, const R: usize>(
        v: V,
        blocks: &[Self],
        x: [&Group; R],
        sums: &mut [Sums<V>; R],
    ) {
        let scales = v.f16s(fields(blocks, |block| block.scale));
        let products = x.map(|x| v.store(v.mul(scales, v.load(&x.scales))));
        let (pairs, rest) = blocks.as_chunks::<2>();
        for (idx, [first, second]) in pairs.iter().enumerate() {
            add_signed::<V, R, 0>(v, first, 2 * idx, x, &products, sums);
            add_signed::<V, R, 1>(v, second, 2 * idx + 1, x, &products, sums);
        }
        if let [last] = rest {
            add_signed::<V, R, 0>(v, last, blocks.len() - 1, x, &products, sums);
        }
    }

    #[inline(always)]
    fn unpack<V: Vectors>(v: V, blocks: &[Self], out: &mut Integers) {
        let scales = v.f16s(fields(blocks, |block| block.scale));
        out.set_scales(v.store(scales), v.store(v.mul(scales, v.splat(-128.0))));
        for (idx, block) in blocks.iter().enumerate() {
            out.set_block(idx, block.quanta.map(|quantum| quantum.cast_unsigned() ^ 0x80));
        }
    }
}

/// Adds the products of a block, the `idx`-th of its group, with `R` rows of activations, times `scales`, to sum `S` of
/// each.
#[inline(always)]
fn add_signed<V: Vectors, const R: usize, const S: usize>(
    v: V,
    block: &Q8_0,
    idx: usize,
    x: [&Group; R],
    scales: &[[f32; 8]; R],
    sums: &mut [Sums<V>; R],
) {
    for ((sums, x), scales) in sums.iter_mut().zip(x).zip(scales) {
        let dots = v.floats(v.signed_dots(&block.quanta, x.block(idx)));
        sums[S] = v.mul_add(dots, v.splat(scales[idx]), sums[S]);
    }
}

/// The scales and offsets of the groups of a block of 256, given the half-precision scale and minimum of the block.
#[inline(always)]
fn long_scales<V: Vectors>(v: V, [scale, min]: [[u8; 2]; 2], group_scales: &[u8; 12]) -> [V::Floats; 2] {
    let halves = v.store(v.f16s([scale, min, [0; 2], [0; 2], [0; 2], [0; 2], [0; 2], [0; 2]]));
    let (scales, mins) = scales_and_mins(group_scales);
    [v.mul(v.u8s(scales), v.splat(halves[0])), v.mul(v.u8s(mins), v.splat(-halves[1]))]
}

/// Adds the products of a block of 256 with groups of 32. `quanta` returns the unsigned integers of a group.
#[inline(always)]
fn add_long<V: Vectors, const R: usize>(
    v: V,
    halves: [[u8; 2]; 2],
    group_scales: &[u8; 12],
    quanta: impl Fn(usize) -> V::Bytes,
    x: [&Group; R],
    sums: &mut [Sums<V>; R],
) {
    let [scales, offsets] = long_scales(v, halves, group_scales);
    let mut products = [[0.0; 8]; R];
    for ((products, sums), x) in products.iter_mut().zip(&mut *sums).zip(x) {
        sums[0] = v.mul_add(offsets, v.load(&x.sums), sums[0]);
        *products = v.store(v.mul(scales, v.load(&x.scales)));
    }
    for k in 0..8 {
        let quanta = quanta(k);
        for ((sums, x), scales) in sums.iter_mut().zip(x).zip(&products) {
            let dots = v.floats(v.dots(quanta, x.block(k)));
            sums[k % 2] = v.mul_add(dots, v.splat(scales[k]), sums[k % 2]);
        }
    }
}

/// The nibbles of group `k` of a block of 256.
#[inline(always)]
fn nibbles<V: Vectors>(v: V, nibbles: &[u8; 128], k: usize) -> V::Bytes {
    let bytes = v.bytes(&nibbles.as_chunks().0[k / 2]);
    if k.is_multiple_of(2) { v.shifted_right::<0>(bytes, 15) } else { v.shifted_right::<4>(bytes, 15) }
}

/// Bit `k` of each byte, as bit 4.
#[inline(always)]
fn fifth_bits<V: Vectors>(v: V, high: V::Bytes, k: usize) -> V::Bytes {
    match k {
        0 => v.shifted_left::<4>(high, 16),
        1 => v.shifted_left::<3>(high, 16),
        2 => v.shifted_left::<2>(high, 16),
        3 => v.shifted_left::<1>(high, 16),
        4 => v.shifted_right::<0>(high, 16),
        5 => v.shifted_right::<1>(high, 16),
        6 => v.shifted_right::<2>(high, 16),
        _ => v.shifted_right::<3>(high, 16),
    }
}

impl Quantised for Q4_K {
    const BLOCKS: usize = 1;

    #[inline(always)]
    fn add_products<V: Vectors, const R: usize>(
        v: V,
        blocks: &[Self],
        x: [&Group; R],
        sums: &mut [Sums<V>; R],
    ) {
        let [block] = blocks else { unreachable!("one block per group") };
        add_long(
            v,
            [block.scale, block.min],
            &block.scales,
            #[inline(always)]
            |k| nibbles(v, &block.nibbles, k),
            x,
            sums,
        );
    }
    #[inline(always)]
    fn unpack<V: Vectors>(v: V, blocks: &[Self], out: &mut Integers) {
        let [block] = blocks else { unreachable!("one block per group") };
        let [scales, offsets] = long_scales(v, [block.scale, block.min], &block.scales);
        out.set_scales(v.store(scales), v.store(offsets));
        for k in 0..8 {
            out.set_block(k, v.store_bytes(nibbles(v, &block.nibbles, k)));
        }
    }
}

impl Quantised for Q5_K {
    const BLOCKS: usize = 1;

    #[inline(always)]
    fn add_products<V: Vectors, const R: usize>(
        v: V,
        blocks: &[Self],
        x: [&Group; R],
        sums: &mut [Sums<V>; R],
    ) {
        let [block] = blocks else { unreachable!("one block per group") };
        let high = v.bytes(&block.high);
        add_long(
            v,
            [block.scale, block.min],
            &block.scales,
            #[inline(always)]
            |k| v.or(nibbles(v, &block.nibbles, k), fifth_bits(v, high, k)),
            x,
            sums,
        );
    }
    #[inline(always)]
    fn unpack<V: Vectors>(v: V, blocks: &[Self], out: &mut Integers) {
        let [block] = blocks else { unreachable!("one block per group") };
        let [scales, offsets] = long_scales(v, [block.scale, block.min], &block.scales);
        out.set_scales(v.store(scales), v.store(offsets));
        let high = v.bytes(&block.high);
        for k in 0..8 {
            out.set_block(k, v.store_bytes(v.or(nibbles(v, &block.nibbles, k), fifth_bits(v, high, k))));
        }
    }
}

impl Quantised for Q6_K {
    const BLOCKS: usize = 1;

    #[inline(always)]
    fn add_products<V: Vectors, const R: usize>(
        v: V,
        blocks: &[Self],
        x: [&Group; R],
        sums: &mut [Sums<V>; R],
    ) {
        let [block] = blocks else { unreachable!("one block per group") };
        let scale = v.store(v.f16s([block.scale; 8]))[0];
        let (group_scales, _) = block.scales.as_chunks::<8>();
        for (part, group_scales) in group_scales.iter().enumerate() {
            let scales = v.mul(v.i8s(*group_scales), v.splat(scale));
            let offsets = v.mul(scales, v.splat(-32.0));
            let mut products = [scales; R];
            for ((products, sums), x) in products.iter_mut().zip(&mut *sums).zip(x) {
                sums[0] = v.mul_add(offsets, v.load(&x.half_sums.as_chunks().0[part]), sums[0]);
                *products = v.mul(scales, v.load(&x.half_scales.as_chunks().0[part]));
            }
            let quanta = six_bits(v, block, part);
            for ((sums, x), products) in sums.iter_mut().zip(x).zip(products) {
                let scales = [
                    v.spread::<0>(products),
                    v.spread::<1>(products),
                    v.spread::<2>(products),
                    v.spread::<3>(products),
                ];
                for (k, (quanta, scales)) in quanta.into_iter().zip(scales).enumerate() {
                    let dots = v.floats(v.dots(quanta, x.block(4 * part + k)));
                    sums[k % 2] = v.mul_add(dots, scales, sums[k % 2]);
                }
            }
        }
    }
    #[inline(always)]
    fn unpack<V: Vectors>(v: V, blocks: &[Self], out: &mut Integers) {
        let [block] = blocks else { unreachable!("one block per group") };
        let scale = v.store(v.f16s([block.scale; 8]))[0];
        for part in 0..2 {
            let scales = v.mul(v.i8s(block.scales.as_chunks().0[part]), v.splat(scale));
            out.scales.as_chunks_mut().0[part] = v.store(scales);
            out.offsets.as_chunks_mut().0[part] = v.store(v.mul(scales, v.splat(-32.0)));
            for (k, quanta) in six_bits(v, block, part).into_iter().enumerate() {
                out.set_block(4 * part + k, v.store_bytes(quanta));
            }
        }
    }
}

/// The integers of half a block.
#[inline(always)]
fn six_bits<V: Vectors>(v: V, block: &Q6_K, part: usize) -> [V::Bytes; 4] {
    let (low, _) = block.low[64 * part..].as_chunks();
    let (first, second) = (v.bytes(&low[0]), v.bytes(&low[1]));
    let high = v.bytes(&block.high.as_chunks().0[part]);
    [
        v.or(v.shifted_right::<0>(first, 15), v.shifted_left::<4>(high, 48)),
        v.or(v.shifted_right::<0>(second, 15), v.shifted_left::<2>(high, 48)),
        v.or(v.shifted_right::<4>(first, 15), v.shifted_right::<0>(high, 48)),
        v.or(v.shifted_right::<4>(second, 15), v.shifted_right::<2>(high, 48)),
    ]
}
