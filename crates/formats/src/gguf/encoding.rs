//! Encoding and decoding of tensor values.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::gguf::TensorType;

/// Values in a quantization block.
const BLOCK: usize = 32;

/// Half-precision values that are converted together.
const CHUNK: usize = 1 << 12;

/// Appends `values`, a whole number of blocks of `ty`, to `bytes`.
///
/// `f16` and `bf16` round to nearest, ties to even. The error is the index of a value that `ty` can't represent: a
/// finite number that would become infinite, or a NaN or infinity in a quantization block.
pub(crate) fn encode(ty: TensorType, values: &[f32], bytes: &mut Vec<u8>) -> Result<(), usize> {
    match ty {
        TensorType::F32 => push_each(bytes, values, f32::to_le_bytes),
        TensorType::F16 => {
            let mut halves = vec![f16::ZERO; values.len()];
            halves.convert_from_f32_slice(values);
            let overflows = |(half, value): (&f16, &f32)| half.is_infinite() && value.is_finite();
            if let Some(idx) = halves.iter().zip(values).position(overflows) {
                return Err(idx);
            }
            push_each(bytes, &halves, f16::to_le_bytes);
        }
        TensorType::BF16 => push_each(bytes, values, |value| bf16::from_f32(value).to_le_bytes()),
        TensorType::Q8_0 => {
            let (blocks, _) = values.as_chunks();
            for (block_idx, block) in blocks.iter().enumerate() {
                encode_q8_0(block, bytes).map_err(|idx| block_idx * BLOCK + idx)?;
            }
        }
        TensorType::Q4_0 | TensorType::Q4_1 => unreachable!("the writer refuses {ty}"),
    }
    Ok(())
}

fn push_each<T: Copy, const N: usize>(bytes: &mut Vec<u8>, values: &[T], encoded: impl Fn(T) -> [u8; N]) {
    let start = bytes.len();
    bytes.resize(start + N * values.len(), 0);
    let (chunks, _) = bytes[start..].as_chunks_mut();
    for (chunk, &value) in chunks.iter_mut().zip(values) {
        *chunk = encoded(value);
    }
}

/// Encodes one block like ggml's `quantize_row_q8_0_ref` (ggml/src/ggml-quants.c). The scale `d = max|x| / 127` is
/// stored in half precision. Each value is `x · (1/d)`, with `d` in single precision, rounded to the nearest integer,
/// ties away from zero.
fn encode_q8_0(block: &[f32; BLOCK], bytes: &mut Vec<u8>) -> Result<(), usize> {
    if let Some(idx) = block.iter().position(|value| !value.is_finite()) {
        return Err(idx);
    }
    let largest = block.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let scale = largest / 127.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let stored_scale = f16::from_f32(scale);
    if stored_scale.is_infinite() {
        return Err(block.iter().position(|value| value.abs() == largest).unwrap_or(0));
    }
    bytes.extend(stored_scale.to_le_bytes());
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the largest is 127; a NaN from 0 times infinity becomes 0"
    )]
    bytes.extend(block.iter().map(|value| (value * inverse).round() as i8).map(i8::cast_unsigned));
    Ok(())
}

/// The values of `bytes`, a whole number of blocks of `ty`.
pub(crate) fn decode(ty: TensorType, bytes: &[u8]) -> Vec<f32> {
    match ty {
        TensorType::F32 => bytes.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)).collect(),
        TensorType::F16 => {
            // By chunks, since the conversion of a slice uses vector instructions.
            let (halves, _) = bytes.as_chunks();
            let mut values = vec![0.0; halves.len()];
            for (values, halves) in values.chunks_mut(CHUNK).zip(halves.chunks(CHUNK)) {
                let halves: Vec<f16> = halves.iter().map(|&half| f16::from_le_bytes(half)).collect();
                halves.convert_to_f32_slice(values);
            }
            values
        }
        TensorType::BF16 => {
            bytes.as_chunks().0.iter().map(|&half| bf16::from_le_bytes(half).to_f32()).collect()
        }
        TensorType::Q8_0 => decode_blocks(bytes, decode_q8_0),
        TensorType::Q4_0 => decode_blocks(bytes, decode_q4_0),
        TensorType::Q4_1 => decode_blocks(bytes, decode_q4_1),
    }
}

/// Decodes blocks of `N` bytes. Values are written in place, a block at a time, so that the compiler vectorises the
/// loop.
fn decode_blocks<const N: usize>(bytes: &[u8], decode: impl Fn(&[u8; N], &mut [f32; BLOCK])) -> Vec<f32> {
    let (blocks, _) = bytes.as_chunks();
    let mut values = vec![0.0; blocks.len() * BLOCK];
    let (decoded, _) = values.as_chunks_mut();
    for (decoded, block) in decoded.iter_mut().zip(blocks) {
        decode(block, decoded);
    }
    values
}

fn decode_q8_0([low, high, quanta @ ..]: &[u8; 2 + BLOCK], values: &mut [f32; BLOCK]) {
    let scale = half([low, high]);
    for (value, quantum) in values.iter_mut().zip(quanta) {
        *value = scale * f32::from(quantum.cast_signed());
    }
}

/// ggml's `dequantize_row_q4_0`: the low nibbles are the first 16 values, the high nibbles the others; the zero point
/// is 8.
fn decode_q4_0([low, high, quanta @ ..]: &[u8; 2 + BLOCK / 2], values: &mut [f32; BLOCK]) {
    let scale = half([low, high]);
    decode_nibbles(quanta, values, |quantum| (f32::from(quantum) - 8.0) * scale);
}

/// ggml's `dequantize_row_q4_1`: like [`decode_q4_0`], but 0 stands for the minimum, which is stored after the scale.
fn decode_q4_1([low, high, min_low, min_high, quanta @ ..]: &[u8; 4 + BLOCK / 2], values: &mut [f32; BLOCK]) {
    let (scale, smallest) = (half([low, high]), half([min_low, min_high]));
    decode_nibbles(quanta, values, |quantum| f32::from(quantum) * scale + smallest);
}

fn decode_nibbles(quanta: &[u8; BLOCK / 2], values: &mut [f32; BLOCK], decode: impl Fn(u8) -> f32) {
    let (first, last) = values.split_at_mut(BLOCK / 2);
    for ((first, last), quantum) in first.iter_mut().zip(last).zip(quanta) {
        *first = decode(quantum & 0x0F);
        *last = decode(quantum >> 4);
    }
}

fn half([low, high]: [&u8; 2]) -> f32 {
    f16::from_le_bytes([*low, *high]).to_f32()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(ty: TensorType, values: &[f32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(ty, values, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn halves_are_rounded_to_nearest_ties_to_even() {
        // Near 1, f16 has steps of 2^-10 and bf16 of 2^-7; each pair is half a step above an even and an odd number.
        let step = |exponent: i32| 2.0_f32.powi(exponent);
        let f16_bits = |value| encoded(TensorType::F16, &[value]);
        assert_eq!(f16_bits(1.0 + step(-11)), 0x3C00_u16.to_le_bytes());
        assert_eq!(f16_bits(1.0 + 3.0 * step(-11)), 0x3C02_u16.to_le_bytes());
        assert_eq!(f16_bits(1.0 + step(-11) + step(-20)), 0x3C01_u16.to_le_bytes());
        let bf16_bits = |value| encoded(TensorType::BF16, &[value]);
        assert_eq!(bf16_bits(1.0 + step(-8)), 0x3F80_u16.to_le_bytes());
        assert_eq!(bf16_bits(1.0 + 3.0 * step(-8)), 0x3F82_u16.to_le_bytes());
        assert_eq!(bf16_bits(-(1.0 + step(-8) + step(-20))), 0xBF81_u16.to_le_bytes());
    }

    #[test]
    fn a_block_matches_ggml() {
        let mut values = [0.0; BLOCK];
        // The scale is 2, so 1 / 2 and 3 / 2 are ties and round away from zero.
        values[..7].copy_from_slice(&[254.0, 1.0, -1.0, 3.0, -3.0, 0.9, -254.0]);
        let bytes = encoded(TensorType::Q8_0, &values);
        assert_eq!(bytes[..2], f16::from_f32(2.0).to_le_bytes());
        let quanta: Vec<i8> = bytes[2..].iter().map(|byte| byte.cast_signed()).collect();
        assert_eq!(quanta[..8], [127, 1, -1, 2, -2, 0, -127, 0]);
        assert_eq!(decode(TensorType::Q8_0, &bytes)[..7], [254.0, 2.0, -2.0, 4.0, -4.0, 0.0, -254.0]);
    }

    #[test]
    fn values_are_divided_by_the_scale_before_it_is_rounded() {
        // d = 0.3 / 127 = 1238.48 · 2^-19 is stored as 1238 · 2^-19, whose bits are 0x18D6; 0.1 / d = 42.33.
        let mut values = [0.1; BLOCK];
        values[9] = -0.3;
        let bytes = encoded(TensorType::Q8_0, &values);
        assert_eq!(bytes[..2], 0x18D6_u16.to_le_bytes());
        assert_eq!((bytes[2], bytes[2 + 9].cast_signed()), (42, -127));
        let decoded = decode(TensorType::Q8_0, &bytes);
        assert_eq!(decoded[0], 42.0 * 1238.0 * 2.0_f32.powi(-19));
    }

    #[test]
    fn nibbles_of_a_byte_are_sixteen_values_apart() {
        let (scale, smallest) = (f16::from_f32(0.5).to_le_bytes(), f16::from_f32(-3.0).to_le_bytes());
        let mut quanta = [0x88; BLOCK / 2];
        quanta[0] = 0xF0;
        quanta[15] = 0x19;
        let q4_0 = decode(TensorType::Q4_0, &[&scale[..], &quanta].concat());
        assert_eq!([q4_0[0], q4_0[16], q4_0[1], q4_0[15], q4_0[31]], [-4.0, 3.5, 0.0, 0.5, -3.5]);
        let q4_1 = decode(TensorType::Q4_1, &[&scale[..], &smallest, &quanta].concat());
        assert_eq!([q4_1[0], q4_1[16], q4_1[1], q4_1[15], q4_1[31]], [-3.0, 4.5, 1.0, 1.5, -2.5]);
    }

    #[test]
    fn zeros_become_blocks_of_zeros() {
        assert_eq!(encoded(TensorType::Q8_0, &[0.0; 64]), [0; 68]);
        // The scale underflows in f16, and its inverse overflows in f32.
        assert_eq!(decode(TensorType::Q8_0, &encoded(TensorType::Q8_0, &[1e-42; BLOCK])), [0.0; BLOCK]);
    }

    #[test]
    fn unrepresentable_values_are_found() {
        let mut values = [0.0; 2 * BLOCK];
        values[40] = 70_000.0;
        assert_eq!(encode(TensorType::F16, &values, &mut Vec::new()), Err(40));
        assert_eq!(encode(TensorType::BF16, &values, &mut Vec::new()), Ok(()));
        assert_eq!(encode(TensorType::Q8_0, &values, &mut Vec::new()), Ok(()));
        values[40] = -1e7;
        assert_eq!(encode(TensorType::Q8_0, &values, &mut Vec::new()), Err(40));
        values[40] = f32::NAN;
        assert_eq!(encode(TensorType::Q8_0, &values, &mut Vec::new()), Err(40));
        assert_eq!(encode(TensorType::F16, &values, &mut Vec::new()), Ok(()));
    }
}
