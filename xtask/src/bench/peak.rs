//! What the machine can do at most, measured: multiply-adds, and reading memory.

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use macerator::{AutoArch, Scalar, Simd, Vector, WithSimd};

/// Measurements of which the best counts: others can only take away from it.
const TRIES: usize = 8;
/// How long one measurement of arithmetic takes.
const TRY_FOR: Duration = Duration::from_millis(60);
/// Independent chains of multiply-adds: enough to hide the latency of one, few enough to stay in registers.
const CHAINS: usize = if cfg!(target_arch = "aarch64") { 24 } else { 12 };
const LINKS: usize = 10_000;
/// 512 MiB of f32, several times what caches hold.
const ARRAY_LEN: usize = 1 << 27;

/// The most f32 operations a second on `n_threads` threads, a multiply-add being two.
pub(crate) fn flops_per_second(n_threads: usize) -> f64 {
    best_of(|| {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..n_threads).map(|_| scope.spawn(multiply_adds_per_second)).collect();
            let rates = threads.into_iter().map(|thread| thread.join().expect("arithmetic does not panic"));
            2.0 * rates.sum::<f64>()
        })
    })
}

/// The most bytes a second that `n_threads` threads read from memory.
pub(crate) fn bytes_per_second(n_threads: usize) -> f64 {
    let array = vec![1.0_f32; ARRAY_LEN];
    best_of(|| {
        let start = Instant::now();
        thread::scope(|scope| {
            for part in array.chunks(ARRAY_LEN.div_ceil(n_threads)) {
                scope.spawn(|| black_box(AutoArch::new().dispatch(Sum(part))));
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
    while start.elapsed() < TRY_FOR {
        n_done += AutoArch::new().dispatch(MultiplyAdds);
    }
    n_done as f64 / start.elapsed().as_secs_f64()
}

/// `CHAINS` chains of `LINKS` links; the output is the number of f32 multiply-adds.
struct MultiplyAdds;

impl WithSimd for MultiplyAdds {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self) -> usize {
        // x ← x / 2 + 1 goes to 2: nothing overflows or becomes subnormal, and no link can be left out.
        let half: Vector<S, f32> = black_box(0.5_f32).splat();
        let one: Vector<S, f32> = black_box(1.0_f32).splat();
        let mut chains: [Vector<S, f32>; CHAINS] = [one; CHAINS];
        for _ in 0..LINKS {
            for x in &mut chains {
                *x = x.mul_add(half, one);
            }
        }
        black_box(chains);
        CHAINS * LINKS * f32::lanes::<S>()
    }
}

/// The sum of a slice.
struct Sum<'a>(&'a [f32]);

impl WithSimd for Sum<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self) -> f32 {
        let (head, body, tail) = f32::align_to::<S>(self.0);
        // From several places at once, as a product of matrices reads; one alone waits at each page's end.
        let quarter = body.len() / 4;
        let (front, back) = body.split_at(2 * quarter);
        let ((e, f), (g, h)) = (front.split_at(quarter), back.split_at(quarter));
        let (h, rest) = h.split_at(quarter);
        let [mut a, mut b, mut c, mut d] = [0.0_f32.splat::<S>(); 4];
        for (((&e, &f), &g), &h) in e.iter().zip(f).zip(g).zip(h) {
            a += e;
            b += f;
            c += g;
            d += h;
        }
        let rest = rest.iter().chain(&[a, b, c, d]).map(|x| x.reduce_add()).sum::<f32>();
        rest + head.iter().chain(tail).sum::<f32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_summed_once() {
        // Of no multiple of a vector, and small enough that every sum is exact.
        let numbers: Vec<f32> = (0..1003_u16).map(f32::from).collect();
        for skipped in 0..3 {
            let sum = AutoArch::new().dispatch(Sum(&numbers[skipped..]));
            assert_eq!(sum, numbers[skipped..].iter().sum::<f32>());
        }
    }

    #[test]
    fn arithmetic_takes_time() {
        let rate = multiply_adds_per_second();
        // A loop that is optimised away is faster than any core.
        assert!((1e7..1e12).contains(&rate), "{rate:.3e} multiply-adds a second");
    }
}
