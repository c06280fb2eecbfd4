//! Rounding, ranges and special blocks.

use half::f16;
use quant::Format;

fn packed(format: Format, values: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    format.pack(values, &mut bytes).expect("all values are in range");
    bytes
}

fn unpacked(format: Format, bytes: &[u8]) -> Vec<f32> {
    let mut values = vec![0.0; bytes.len() / format.block_bytes() * format.block_len()];
    format.unpack(bytes, &mut values);
    values
}

fn block_formats() -> impl Iterator<Item = Format> {
    Format::ALL.into_iter().filter(|format| format.block_len() > 1)
}

#[test]
fn halves_are_rounded_to_nearest_ties_to_even() {
    // Near 1, f16 has steps of 2^-10 and bf16 of 2^-7; each pair is half a step above an even and an odd number.
    let step = |exponent: i32| 2.0_f32.powi(exponent);
    let f16_bits = |value| packed(Format::F16, &[value]);
    assert_eq!(f16_bits(1.0 + step(-11)), 0x3C00_u16.to_le_bytes());
    assert_eq!(f16_bits(1.0 + 3.0 * step(-11)), 0x3C02_u16.to_le_bytes());
    assert_eq!(f16_bits(1.0 + step(-11) + step(-20)), 0x3C01_u16.to_le_bytes());
    let bf16_bits = |value| packed(Format::BF16, &[value]);
    assert_eq!(bf16_bits(1.0 + step(-8)), 0x3F80_u16.to_le_bytes());
    assert_eq!(bf16_bits(1.0 + 3.0 * step(-8)), 0x3F82_u16.to_le_bytes());
    assert_eq!(bf16_bits(-(1.0 + step(-8) + step(-20))), 0xBF81_u16.to_le_bytes());
}

#[test]
fn q8_0_rounds_ties_away_from_zero() {
    let mut values = [0.0; 32];
    // The scale is 2, so 1 / 2 and 3 / 2 are ties.
    values[..7].copy_from_slice(&[254.0, 1.0, -1.0, 3.0, -3.0, 0.999_999_94, -254.0]);
    let bytes = packed(Format::Q8_0, &values);
    assert_eq!(bytes[..2], f16::from_f32(2.0).to_le_bytes());
    let quanta: Vec<i8> = bytes[2..].iter().map(|byte| byte.cast_signed()).collect();
    assert_eq!(quanta[..8], [127, 1, -1, 2, -2, 0, -127, 0]);
    assert_eq!(unpacked(Format::Q8_0, &bytes)[..7], [254.0, 2.0, -2.0, 4.0, -4.0, 0.0, -254.0]);
}

#[test]
fn values_are_divided_by_the_scale_before_it_is_rounded() {
    // d = 0.3 / 127 = 1238.48 · 2^-19 is stored as 1238 · 2^-19, whose bits are 0x18D6; 0.1 / d = 42.33.
    let mut values = [0.1; 32];
    values[9] = -0.3;
    let bytes = packed(Format::Q8_0, &values);
    assert_eq!(bytes[..2], 0x18D6_u16.to_le_bytes());
    assert_eq!((bytes[2], bytes[2 + 9].cast_signed()), (42, -127));
    assert_eq!(unpacked(Format::Q8_0, &bytes)[0], 42.0 * 1238.0 * 2.0_f32.powi(-19));
}

#[test]
fn nibbles_of_a_byte_are_sixteen_values_apart() {
    let (scale, smallest) = (f16::from_f32(0.5).to_le_bytes(), f16::from_f32(-3.0).to_le_bytes());
    let mut nibbles = [0x88; 16];
    nibbles[0] = 0xF0;
    nibbles[15] = 0x19;
    let q4_0 = unpacked(Format::Q4_0, &[&scale[..], &nibbles].concat());
    assert_eq!([q4_0[0], q4_0[16], q4_0[1], q4_0[15], q4_0[31]], [-4.0, 3.5, 0.0, 0.5, -3.5]);
    let q4_1 = unpacked(Format::Q4_1, &[&scale[..], &smallest, &nibbles].concat());
    assert_eq!([q4_1[0], q4_1[16], q4_1[1], q4_1[15], q4_1[31]], [-3.0, 4.5, 1.0, 1.5, -2.5]);
}

#[test]
fn zeros_stay_zeros() {
    for format in Format::ALL {
        assert_eq!(unpacked(format, &packed(format, &[0.0; 512])), [0.0; 512], "{format}");
    }
    assert_eq!(packed(Format::Q8_0, &[0.0; 64]), [0; 68]);
}

#[test]
fn values_below_the_smallest_scale_become_zeros() {
    // The scale underflows in f16, and its reciprocal overflows in f32.
    for format in block_formats() {
        assert_eq!(unpacked(format, &packed(format, &[1e-42; 256])), [0.0; 256], "{format}");
    }
}

#[test]
fn equal_values_lose_the_rounding_of_a_scale_only() {
    for format in Format::ALL {
        for value in [1.0, -1.0, 0.3, -77.7, 5000.0] {
            let unpacked = unpacked(format, &packed(format, &[value; 256]));
            assert!(unpacked.iter().all(|value| *value == unpacked[0]), "{format}: {unpacked:?}");
            // Half a step of f16's or bf16's significand.
            let relative = if format == Format::BF16 { 2.0_f32.powi(-8) } else { 2.0_f32.powi(-11) };
            let error = (unpacked[0] - value).abs() / value.abs();
            assert!(error <= 1.001 * relative, "{format}: {value} became {}", unpacked[0]);
        }
    }
}

#[test]
fn values_beyond_the_range_are_named() {
    let pack = |format: Format, values: &[f32]| format.pack(values, &mut Vec::new());
    let mut values = [0.0; 512];
    values[40] = 70_000.0;
    assert_eq!(pack(Format::F16, &values), Err(40));
    assert_eq!(pack(Format::BF16, &values), Ok(()));
    assert_eq!(pack(Format::Q8_0, &values), Ok(()));
    values[300] = -1e9;
    values[301] = 1e8;
    for format in block_formats() {
        assert_eq!(pack(format, &values), Err(300), "{format}");
    }
    values[300] = f32::MIN;
    for format in Format::ALL {
        let idx = if format == Format::F16 { 40 } else { 300 };
        assert_eq!(pack(format, &values), Err(idx), "{format}");
    }
}

#[test]
fn blocks_refuse_values_that_are_not_finite_and_halves_keep_them() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut values = [1.0; 512];
        values[299] = value;
        for format in block_formats() {
            let mut bytes = vec![7];
            assert_eq!(format.pack(&values, &mut bytes), Err(299), "{format}");
            assert_eq!(bytes, [7], "{format}");
        }
        for format in [Format::F16, Format::BF16] {
            let unpacked = unpacked(format, &packed(format, &values));
            assert!(unpacked[299] == value || unpacked[299].is_nan() && value.is_nan(), "{format}");
        }
    }
}

#[test]
#[should_panic(expected = "257 values in q4_K")]
fn part_of_a_block_panics() {
    let _ = Format::Q4K.pack(&[0.0; 257], &mut Vec::new());
}
