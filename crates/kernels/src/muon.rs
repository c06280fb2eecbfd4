//! The Muon step.

use burn::{backend::Dispatch, prelude::*};
use cpu::{
    MuonStep,
    muon::{COEFFICIENTS, EPSILON},
};

use crate::{
    device::{is_fused, is_on_gpu},
    fused::InPlaceOps,
    gpu::GpuKernels,
};

/// One step of [Muon](https://kellerjordan.github.io/posts/muon/). With g the scaled gradient: m = μm + (1 - μ)g,
/// x = (1 - ηλ)x - η √max(1, out/in) · O, where O is (1 - μ)g + μm with its singular values replaced by values near 1.
///
/// Returns x and m. Buffers that are not shared are reused.
///
/// # Shapes
///
/// All `[out, in]`.
///
/// # Panics
///
/// If `step.heights` do not add up to the rows.
pub fn muon(step: &MuonStep, x: Tensor<2>, gradient: Tensor<2>, mean: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
    let [n_rows, n_in] = x.dims();
    let MuonStep { heights, .. } = step;
    assert_eq!(heights.iter().sum::<usize>(), n_rows, "heights {heights:?} do not add up to {n_rows} rows");
    if is_fused(&x) && !x.device().is_autodiff() {
        let [x, gradient, mean] = [x, gradient, mean].map(Tensor::into_dispatch);
        let (x, mean) = <Dispatch as InPlaceOps>::muon(x, gradient, mean, step.clone());
        return (Tensor::from_dispatch(x), Tensor::from_dispatch(mean));
    }
    // A scale that only the device knows has been applied, and a launch would change nothing.
    let gradient = if step.gradient_scale == 1.0 { gradient } else { gradient * step.gradient_scale };
    let mean = mean * step.momentum + gradient.clone() * (1.0 - step.momentum);
    let ahead = gradient * (1.0 - step.momentum) + mean.clone() * step.momentum;
    let runs: Vec<_> = heights.chunk_by(|a, b| a == b).map(|run| (run.len(), run[0])).collect();
    let parts = ahead.split_with_sizes(runs.iter().map(|(n, height)| n * height).collect(), 0);
    let changes = parts.into_iter().zip(runs).map(|(part, (n, height))| {
        let change = orthogonal(part.reshape([n, height, n_in])) * step.rate([height, n_in]);
        change.reshape([n * height, n_in])
    });
    (x * step.keep() - Tensor::cat(changes.collect(), 0), mean)
}

/// The matrices with the same singular vectors, and singular values near 1. Matrices of one shape share their launches.
///
/// `[N, rows, columns]`
fn orthogonal(x: Tensor<3>) -> Tensor<3> {
    let [n, rows, columns] = x.dims();
    let is_tall = rows > columns;
    let norm = x.clone().reshape([n, rows * columns]).square().sum_dim(1).sqrt() + EPSILON; // [N, 1]
    let x = if is_tall { x.transpose() } else { x };
    let mut x = x / norm.reshape([n, 1, 1]);
    for [a, b, c] in COEFFICIENTS {
        let gram = x.clone().matmul(x.clone().transpose());
        let polynomial = weighted_sum(gram.clone(), b, gram.clone().matmul(gram), c);
        x = weighted_sum(x.clone(), a, polynomial.matmul(x), 1.0);
    }
    if is_tall { x.transpose() } else { x }
}

/// `a · x + b · y`
fn weighted_sum(x: Tensor<3>, a: f32, y: Tensor<3>, b: f32) -> Tensor<3> {
    if is_on_gpu(&x) {
        let [x, y] = [x, y].map(Tensor::into_dispatch);
        return Tensor::from_dispatch(<Dispatch as GpuKernels>::weighted_sum(x, a, y, b));
    }
    x * a + y * b
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, Tolerance};

    use super::*;
    use crate::{
        device::with_plain_operations,
        testing::{test_device, test_tolerance},
    };

    fn step(heights: &[usize]) -> MuonStep {
        MuonStep {
            learning_rate: 0.02,
            momentum: 0.95,
            weight_decay: 0.1,
            heights: heights.to_vec(),
            gradient_scale: 1.0,
        }
    }

    fn random(shape: [usize; 2], device: &Device) -> Tensor<2> {
        Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
    }

    #[test]
    fn singular_values_are_near_one() {
        let device = test_device();
        device.seed(1);
        for shape in [[8, 8], [6, 20], [20, 6], [33, 70]] {
            let x = random(shape, &device);
            let step = MuonStep { learning_rate: 1.0, weight_decay: 0.0, ..step(&[shape[0]]) };
            let zeros = Tensor::zeros(shape, &device);
            let (moved, _) = muon(&step, zeros.clone(), x.clone(), zeros);
            let stretch = (shape[0] as f32 / shape[1] as f32).max(1.0).sqrt();
            let q = moved / -stretch;
            let q = if shape[0] > shape[1] { q.transpose() } else { q };
            let x = if shape[0] > shape[1] { x.transpose() } else { x };
            // q has the singular vectors of x, so q·xᵀ is symmetric.
            let product = q.clone().matmul(x.transpose());
            let scale = product.clone().abs().max().into_scalar::<f32>();
            product.clone().transpose().into_data().assert_approx_eq::<f32>(
                &product.into_data(),
                Tolerance::absolute(scale * test_tolerance(1e-4)),
            );
            // The singular values are within about 0.5 of 1, except the smallest ones of a square matrix.
            let gram = q.clone().matmul(q.transpose());
            let [n, _] = gram.dims();
            let squares: f32 = gram.clone().square().sum().into_scalar();
            let trace: f32 = (gram * Tensor::eye(n, &device)).sum().into_scalar();
            let mean = trace / n as f32;
            assert!((0.5..1.5).contains(&mean) && squares / n as f32 <= 1.5_f32.powi(4), "{shape:?}: {mean}");
        }
    }

    #[test]
    fn stacked_matrices_are_orthogonalised_separately() {
        let device = test_device();
        device.seed(2);
        let [x, gradient, mean] = [(); 3].map(|()| random([36, 12], &device));
        let all = MuonStep { gradient_scale: 0.5, ..step(&[20, 10, 6]) };
        let (moved, mean_after) = muon(&all, x.clone(), gradient.clone(), mean.clone());
        for (start, height) in [(0, 20), (20, 10), (30, 6)] {
            let of = |all: &Tensor<2>| all.clone().narrow(0, start, height);
            let one = MuonStep { gradient_scale: 0.5, ..step(&[height]) };
            let (alone, mean_alone) = muon(&one, of(&x), of(&gradient), of(&mean));
            let close = Tolerance::absolute(test_tolerance(1e-6));
            of(&moved).into_data().assert_approx_eq::<f32>(&alone.into_data(), close);
            of(&mean_after).into_data().assert_approx_eq::<f32>(&mean_alone.into_data(), close);
        }
    }

    #[test]
    fn the_fused_step_matches_the_reference() {
        let device = test_device();
        device.seed(3);
        let cases: [([usize; 2], &[usize]); 8] = [
            ([8, 8], &[8]),
            ([48, 40], &[48]),
            ([40, 48], &[40]),
            ([48, 16], &[16, 16, 16]),
            ([32, 16], &[16, 8, 8]),
            ([33, 7], &[33]),
            ([40, 130], &[40]),
            ([512, 128], &[256, 256]),
        ];
        for (shape, heights) in cases {
            let [x, gradient, mean] = [(); 3].map(|()| random(shape, &device));
            let step = MuonStep { gradient_scale: 0.7, ..step(heights) };
            let run = || muon(&step, x.clone(), gradient.clone(), mean.clone());
            let (moved, mean_after) = run();
            let (expected, mean_expected) = with_plain_operations(run);
            // Three iterations of f32 products in another order, with terms below one.
            moved
                .into_data()
                .assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(test_tolerance(2e-5)));
            mean_after
                .into_data()
                .assert_approx_eq::<f32>(&mean_expected.into_data(), Tolerance::absolute(1e-6));
        }
    }

    #[test]
    fn a_zero_gradient_only_decays_weights() {
        let device = test_device();
        let ones = Tensor::<2>::ones([4, 4], &device);
        let zeros = Tensor::zeros([4, 4], &device);
        let (x, mean) = muon(&step(&[4]), ones, zeros.clone(), zeros);
        assert_eq!(x.into_data().try_into_vec::<f32>().unwrap(), [1.0 - 0.02 * 0.1; 16]);
        assert_eq!(mean.into_data().try_into_vec::<f32>().unwrap(), [0.0; 16]);
    }
}
