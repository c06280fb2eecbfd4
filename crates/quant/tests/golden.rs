//! Blocks and values of llama.cpp and its Python package.

use quant::Format;
use sha2::{Digest, Sha256};

/// Made by xtask/golden/quant_blocks.py, which describes the lines.
const GOLDEN: &str = include_str!("fixtures/golden.txt");

const N_BLOCKS: usize = 200;
const N_VALUES: usize = 256 * 54;

/// Zeros, the smallest and largest subnormal values, the smallest normal value, one, the largest values.
const ODD_SCALES: [u16; 10] =
    [0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x3C00, 0xBC00, 0x7BFF, 0xFBFF];

#[test]
fn unpacked_values_equal_those_of_the_gguf_package_bit_for_bit() {
    for format in Format::ALL {
        let bytes = blocks(format);
        let mut values = vec![0.0; bytes.len() / format.block_bytes() * format.block_len()];
        format.unpack(&bytes, &mut values);
        let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
        assert_golden(format, "unpack", &bytes, 4 * 8);
    }
}

#[test]
fn packed_blocks_equal_those_of_llama_cpp_bit_for_bit() {
    let values = values();
    for format in Format::ALL {
        let mut bytes = Vec::new();
        format.pack(&values, &mut bytes).unwrap();
        assert_golden(format, "pack", &bytes, format.block_bytes());
    }
}

fn assert_golden(format: Format, operation: &str, bytes: &[u8], n_last: usize) {
    let prefix = format!("{format} {operation} ");
    let line =
        GOLDEN.lines().find_map(|line| line.strip_prefix(&prefix)).expect("the fixture has all formats");
    let (checksum, last) = line.split_once(' ').expect("a line has four fields");
    // The last bytes first: their difference may explain that of the checksum.
    assert_eq!(hex(&bytes[bytes.len() - n_last..]), last, "last bytes of {prefix}");
    assert_eq!(hex(&Sha256::digest(bytes)), checksum, "checksum of {prefix}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SplitMix64 with seed 0.
fn random_words() -> impl Iterator<Item = u64> {
    (1_u64..).map(|n| {
        let mut z = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    })
}

/// Random blocks. The first 100 have all pairs of odd scales, the others random ones below 2.
fn blocks(format: Format) -> Vec<u8> {
    let offsets: &[usize] = match format {
        Format::F16 => return halves_up_to(0x7C00),
        Format::BF16 => return halves_up_to(0x7F80),
        Format::Q4_0 | Format::Q5_0 | Format::Q8_0 => &[0],
        Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => &[0, 2],
        Format::Q6K => &[208],
    };
    let n_bytes = N_BLOCKS * format.block_bytes();
    let mut bytes: Vec<u8> = random_words().flat_map(u64::to_le_bytes).take(n_bytes).collect();
    for (idx, block) in bytes.chunks_mut(format.block_bytes()).enumerate() {
        for (field, &offset) in offsets.iter().enumerate() {
            block[offset + 1] &= 0xBF;
            if idx < 100 {
                let scale = ODD_SCALES[if field == 0 { idx % 10 } else { idx / 10 }];
                block[offset..offset + 2].copy_from_slice(&scale.to_le_bytes());
            }
        }
    }
    bytes
}

/// All half-precision values but NaN.
fn halves_up_to(infinity: u16) -> Vec<u8> {
    (0..=u16::MAX).filter(|bits| bits & 0x7FFF <= infinity).flat_map(u16::to_le_bytes).collect()
}

/// Groups of 32 values: nearly normal ones of several sizes, of one sign, constant ones, zeros with an outlier, and
/// zeros.
fn values() -> Vec<f32> {
    let power = |exponent: i32| 2.0_f32.powi(exponent);
    let normal = random_words().map(|word| {
        let sum: i32 =
            word.to_le_bytes().as_chunks().0.iter().map(|&part| i32::from(u16::from_le_bytes(part))).sum();
        (sum - 2 * 65_535) as f32 * power(-20)
    });
    let mut values: Vec<f32> = normal.take(N_VALUES).collect();
    let n_groups = N_VALUES / 32;
    for (group, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        // A kind for each block, then all kinds within a block.
        let kind = if group < n_groups / 2 { group / 8 } else { group };
        match kind % 9 {
            1 => *values = values.map(|value| value * power(-10)),
            2 => *values = values.map(|value| value * power(14)),
            3 => *values = values.map(|value| value + 0.5),
            4 => *values = values.map(|value| -value.abs()),
            5 => *values = [values[0]; 32],
            6 => values[..31].fill(0.0),
            7 => values.fill(0.0),
            8 => values.iter_mut().zip((0..16).cycle()).for_each(|(value, idx)| *value *= power(-idx)),
            _ => (),
        }
    }
    values
}
