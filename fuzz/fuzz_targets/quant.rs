//! Blocks and values of every format. The first byte selects the format.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quant::Format;

fuzz_target!(|input: &[u8]| {
    let Some((&format, bytes)) = input.split_first() else { return };
    let format = Format::ALL[usize::from(format) % Format::ALL.len()];
    unpack(format, bytes);
    pack(format, bytes);
});

/// Values are finite in all blocks before the first bad scale, and not in that one.
fn unpack(format: Format, bytes: &[u8]) {
    let n_blocks = bytes.len() / format.block_bytes();
    let bytes = &bytes[..n_blocks * format.block_bytes()];
    let mut values = vec![0.0; n_blocks * format.block_len()];
    format.unpack(bytes, &mut values);
    let bad =
        values.chunks(format.block_len()).position(|block| block.iter().any(|value| !value.is_finite()));
    assert_eq!(format.first_bad_scale(bytes), bad, "{format}");
}

/// All values are packed, with finite scales, or an error names one of them.
fn pack(format: Format, bytes: &[u8]) {
    let values: Vec<f32> = bytes.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)).collect();
    let values = &values[..values.len() / format.block_len() * format.block_len()];
    let mut packed = Vec::new();
    match format.pack(values, &mut packed) {
        Ok(()) => {
            assert_eq!(packed.len(), format.row_bytes(values.len()));
            if values.iter().all(|value| value.is_finite()) {
                assert_eq!(format.first_bad_scale(&packed), None, "{format}");
            }
        }
        Err(idx) => {
            assert!(!values[idx].is_finite() || values[idx].abs() > 65504.0, "{format}: {}", values[idx])
        }
    }
}
