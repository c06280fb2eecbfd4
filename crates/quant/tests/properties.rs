//! Properties of any bytes and any values.

use proptest::{collection::vec, prelude::*, sample::select};
use quant::Format;

fn any_format() -> impl Strategy<Value = Format> {
    select(&Format::ALL)
}

fn any_bytes() -> impl Strategy<Value = (Format, Vec<u8>)> {
    (any_format(), 0..4_usize)
        .prop_flat_map(|(format, n_blocks)| (Just(format), vec(any::<u8>(), n_blocks * format.block_bytes())))
}

/// Bit patterns, so that all magnitudes, infinities and NaNs occur.
fn any_values() -> impl Strategy<Value = Vec<f32>> {
    let value = prop_oneof![4 => -1.0..1.0_f32, 1 => any::<u32>().prop_map(f32::from_bits)];
    prop_oneof![vec(value, 256), vec(any::<u32>().prop_map(f32::from_bits), 512)]
}

/// Two blocks whose groups of 16 have different magnitudes and offsets.
fn ordinary_values() -> impl Strategy<Value = Vec<f32>> {
    let group =
        (-10..10_i32, -1.0..1.0_f32, vec(-1.0..1.0_f32, 16)).prop_map(|(exponent, offset, values)| {
            values.into_iter().map(|value| (value + offset) * 2.0_f32.powi(exponent)).collect::<Vec<_>>()
        });
    vec(group, 32).prop_map(|groups| groups.concat())
}

fn unpacked(format: Format, bytes: &[u8]) -> Vec<f32> {
    let mut values = vec![0.0; bytes.len() / format.block_bytes() * format.block_len()];
    format.unpack(bytes, &mut values);
    values
}

/// The largest error of a value of `block`. `half` is the relative error of a half-precision scale, and `tiny` the
/// absolute one near 0.
fn error_bound(format: Format, block: &[f32]) -> f32 {
    let half = 2.0_f32.powi(-11);
    let tiny = 2.0_f32.powi(-25);
    let largest = block.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let (low, high) =
        block.iter().fold((0.0_f32, 0.0_f32), |(low, high), &value| (low.min(value), high.max(value)));
    // With zero as the smallest or largest value, the range is at least as large.
    let from_minimum =
        |steps: f32| (high - low) * (0.5 / steps + half) + largest * half + (steps + 1.0) * tiny;
    // A value as large as the extreme one, but with the other sign, is a step beyond the range.
    let around_zero = |steps: f32| largest * (1.0 / steps + half) + steps * tiny;
    match format {
        Format::F16 => largest * half + tiny,
        Format::BF16 => largest * 2.0_f32.powi(-8),
        Format::Q8_0 => largest * (0.5 / 127.0 + half) + 127.0 * tiny,
        Format::Q4_0 => around_zero(8.0),
        Format::Q5_0 => around_zero(16.0),
        Format::Q4_1 => from_minimum(15.0),
        Format::Q5_1 => from_minimum(31.0),
        // The least squares may clip extreme values, and scales of groups are rounded: a step of the whole range.
        Format::Q4K => (high - low) / 15.0 + 1e-5,
        Format::Q5K => (high - low) / 31.0 + 1e-5,
        Format::Q6K => 2.0 * largest / 64.0 + 1e-5,
    }
}

proptest! {
    #[test]
    fn values_are_finite_up_to_the_first_bad_scale((format, bytes) in any_bytes()) {
        let values = unpacked(format, &bytes);
        let bad = format.first_bad_scale(&bytes);
        let is_good = |values: &[f32]| values.iter().all(|value| value.is_finite());
        prop_assert_eq!(bad, values.chunks(format.block_len()).position(|block| !is_good(block)));
    }

    #[test]
    fn a_bad_scale_is_found_anywhere(format in any_format(), n_blocks in 1..700_usize, idx in any::<prop::sample::Index>()) {
        let mut bytes = vec![0x11; n_blocks * format.block_bytes()];
        prop_assert_eq!(format.first_bad_scale(&bytes), None);
        let idx = idx.index(n_blocks);
        // Whole blocks of 0xFF have NaN as their scale.
        bytes[idx * format.block_bytes()..].fill(0xFF);
        prop_assert_eq!(format.first_bad_scale(&bytes), Some(idx));
    }

    #[test]
    fn any_values_are_packed_or_one_is_named((format, values) in (any_format(), any_values())) {
        let mut bytes = b"before".to_vec();
        match format.pack(&values, &mut bytes) {
            Ok(()) => {
                let packed = &bytes[b"before".len()..];
                prop_assert_eq!(packed.len(), format.row_bytes(values.len()));
                if values.iter().all(|value| value.is_finite()) {
                    prop_assert_eq!(format.first_bad_scale(packed), None);
                }
            }
            Err(idx) => {
                prop_assert!(!values[idx].is_finite() || values[idx].abs() > 65_504.0, "{}", values[idx]);
                prop_assert_eq!(bytes, b"before");
            }
        }
    }

    #[test]
    fn packed_values_are_near((format, values) in (any_format(), ordinary_values())) {
        let mut bytes = Vec::new();
        format.pack(&values, &mut bytes).unwrap();
        let unpacked = unpacked(format, &bytes);
        let n = format.block_len();
        for (values, unpacked) in values.chunks(n).zip(unpacked.chunks(n)) {
            let bound = 1.001 * error_bound(format, values);
            for (value, unpacked) in values.iter().zip(unpacked) {
                prop_assert!((value - unpacked).abs() <= bound, "{value} became {unpacked}, bound {bound}");
            }
        }
    }

    #[test]
    fn blocks_do_not_affect_each_other((format, values) in (any_format(), ordinary_values())) {
        let mut together = Vec::new();
        format.pack(&values, &mut together).unwrap();
        let mut apart = Vec::new();
        for block in values.chunks(format.block_len()) {
            format.pack(block, &mut apart).unwrap();
        }
        prop_assert_eq!(&together, &apart);
        let mut blocks = vec![0.0; values.len()];
        for (bytes, values) in together.chunks(format.block_bytes()).zip(blocks.chunks_mut(format.block_len())) {
            format.unpack(bytes, values);
        }
        prop_assert_eq!(unpacked(format, &together), blocks);
    }
}
