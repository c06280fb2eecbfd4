//! Measured peaks of the machine: multiply-adds and memory bandwidth.

use std::{
    hint::black_box,
    thread,
    time::{Duration, Instant},
};

use pulp::{Arch, Simd, WithSimd};

/// Number of measurements, of which the best counts: other processes can only lower a result.
const TRIES: usize = 8;
/// Duration of one measurement of arithmetic.
const TRY_DURATION: Duration = Duration::from_millis(60);
/// Independent chains of multiply-adds: enough to hide the latency of one, few enough to stay in registers.
const CHAINS: usize = if cfg!(target_arch = "aarch64") { 24 } else { 12 };
const LINKS: usize = 10_000;
/// 512 MiB of f32, several times the size of the caches.
const ARRAY_LEN: usize = 1 << 27;

/// Peak f32 operations per second on `n_threads` threads; a multiply-add counts as two. Takes half a second.
#[must_use]
pub fn peak_flops(n_threads: usize) -> f64 {
    best_of(|| {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..n_threads).map(|_| scope.spawn(multiply_adds_per_second)).collect();
            let rates = threads.into_iter().map(|thread| thread.join().expect("arithmetic does not panic"));
            2.0 * rates.sum::<f64>()
        })
    })
}

/// Peak bytes per second that `n_threads` threads read from memory. Takes a second and 512 MiB.
#[must_use]
pub fn peak_bandwidth(n_threads: usize) -> f64 {
    let array = vec![1.0_f32; ARRAY_LEN];
    best_of(|| {
        let start = Instant::now();
        thread::scope(|scope| {
            for part in array.chunks(ARRAY_LEN.div_ceil(n_threads)) {
                scope.spawn(|| black_box(Arch::new().dispatch(Sum(part))));
            }
        });
        size_of_val(array.as_slice()) as f64 / start.elapsed().as_secs_f64()
    })
}

fn best_of(measure: impl Fn() -> f64) -> f64 {
    (0..TRIES).map(|_| measure()).fold(0.0, f64::max)
}

fn multiply_adds_per_second() -> f64 {
    let start = Instant::now();
    let mut n_done = 0;
    while start.elapsed() < TRY_DURATION {
        n_done += Arch::new().dispatch(MultiplyAdds);
    }
    n_done as f64 / start.elapsed().as_secs_f64()
}

/// `CHAINS` chains of `LINKS` links; the output is the number of f32 multiply-adds.
struct MultiplyAdds;

impl WithSimd for MultiplyAdds {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> usize {
        // x ← x / 2 + 1 converges to 2: it neither overflows nor becomes subnormal, and no link can be optimised away.
        let half = simd.splat_f32s(black_box(0.5));
        let one = simd.splat_f32s(black_box(1.0));
        let mut chains = [one; CHAINS];
        for _ in 0..LINKS {
            for x in &mut chains {
                *x = simd.mul_add_e_f32s(*x, half, one);
            }
        }
        black_box(chains);
        CHAINS * LINKS * S::F32_LANES
    }
}

/// The sum of a slice.
struct Sum<'a>(&'a [f32]);

impl WithSimd for Sum<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let (body, tail) = S::as_simd_f32s(self.0);
        // Reads four streams at a time, as a matrix product does; a single stream stalls at each page boundary.
        let quarter = body.len() / 4;
        let (front, back) = body.split_at(2 * quarter);
        let ((e, f), (g, h)) = (front.split_at(quarter), back.split_at(quarter));
        let (h, rest) = h.split_at(quarter);
        let [mut a, mut b, mut c, mut d] = [simd.splat_f32s(0.0); 4];
        for (((&e, &f), &g), &h) in e.iter().zip(f).zip(g).zip(h) {
            a = simd.add_f32s(a, e);
            b = simd.add_f32s(b, f);
            c = simd.add_f32s(c, g);
            d = simd.add_f32s(d, h);
        }
        let vectors = rest.iter().chain(&[a, b, c, d]).map(|&x| simd.reduce_sum_f32s(x)).sum::<f32>();
        vectors + tail.iter().sum::<f32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_is_summed_once() {
        // A length that is no multiple of a vector, and values so small that every sum is exact.
        let values: Vec<f32> = (0..1003_u16).map(f32::from).collect();
        for skipped in 0..3 {
            let sum = Arch::new().dispatch(Sum(&values[skipped..]));
            assert_eq!(sum, values[skipped..].iter().sum::<f32>());
        }
    }

    #[test]
    fn arithmetic_takes_time() {
        let rate = multiply_adds_per_second();
        // A loop that is optimised away would be faster than any core.
        assert!((1e7..1e12).contains(&rate), "{rate:.3e} multiply-adds a second");
    }
}
