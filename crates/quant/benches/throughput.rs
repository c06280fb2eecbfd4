//! Speed of unpacking, in bytes of `f32` written, on one core. The buffers fit the second level of the cache.

use divan::counter::BytesCount;
use quant::Format;

/// Values per call: a tile of a matrix product.
const N_VALUES: usize = 1 << 14;

fn main() {
    divan::main();
}

#[divan::bench(args = Format::ALL)]
fn unpack(bencher: divan::Bencher, format: Format) {
    let bytes = vec![0x35; format.row_bytes(N_VALUES)];
    let mut values = vec![0.0; N_VALUES];
    bencher
        .counter(BytesCount::of_many::<f32>(N_VALUES))
        .bench_local(|| format.unpack(divan::black_box(&bytes), divan::black_box(&mut values)));
}

#[divan::bench(args = Format::ALL)]
fn pack(bencher: divan::Bencher, format: Format) {
    let values: Vec<f32> = (0..N_VALUES).map(|idx| (idx as f32).sin()).collect();
    let mut bytes = Vec::with_capacity(format.row_bytes(N_VALUES));
    bencher.counter(BytesCount::of_many::<f32>(N_VALUES)).bench_local(|| {
        bytes.clear();
        format.pack(divan::black_box(&values), &mut bytes)
    });
}

#[divan::bench(args = Format::ALL)]
fn check(bencher: divan::Bencher, format: Format) {
    let bytes = vec![0x35; format.row_bytes(64 * N_VALUES)];
    bencher
        .counter(BytesCount::of_slice(&bytes))
        .bench_local(|| format.first_bad_scale(divan::black_box(&bytes)));
}
