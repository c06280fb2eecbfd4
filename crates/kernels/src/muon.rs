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
    let update = MuonUpdate { step: step.clone(), x, gradient, mean };
    muon_together(vec![update], None).remove(0)
}

/// Whether [`muon_together`] is faster than [`muon`] for several matrices on the device of this one.
pub fn muon_shares_launches<const D: usize>(x: &Tensor<D>) -> bool {
    !is_fused(x)
}

/// A parameter with its gradient and its mean of gradients, all `[out, in]`, and the step to take.
#[derive(Debug, Clone)]
pub struct MuonUpdate {
    pub step: MuonStep,
    pub x: Tensor<2>,
    pub gradient: Tensor<2>,
    pub mean: Tensor<2>,
}

/// [`muon`] on several parameters, with x and m of each. On GPUs, matrices of one shape share their launches.
///
/// A `scale`, `[1]`, that only the device knows replaces `gradient_scale`. A scale of NaN skips the step.
///
/// # Panics
///
/// If the heights of a step do not add up to the rows, or steps differ in `gradient_scale`.
pub fn muon_together(updates: Vec<MuonUpdate>, scale: Option<&Tensor<1>>) -> Vec<(Tensor<2>, Tensor<2>)> {
    together(updates, scale, MAX_SHARED)
}

/// [`muon_together`], with at most `max_shared` elements per launch unless one parameter has more.
fn together(
    updates: Vec<MuonUpdate>,
    scale: Option<&Tensor<1>>,
    max_shared: usize,
) -> Vec<(Tensor<2>, Tensor<2>)> {
    let Some(MuonUpdate { step: MuonStep { gradient_scale, .. }, x, .. }) = updates.first() else {
        return Vec::new();
    };
    let (gradient_scale, device) = (*gradient_scale, x.device());
    for MuonUpdate { step, x, .. } in &updates {
        let ([n_rows, _], MuonStep { heights, .. }) = (x.dims(), step);
        let sum: usize = heights.iter().sum();
        assert_eq!(sum, n_rows, "heights {heights:?} do not add up to {n_rows} rows");
        assert_eq!(step.gradient_scale.to_bits(), gradient_scale.to_bits(), "the steps have one scale");
    }
    let is_fused = |update: &MuonUpdate| is_fused(&update.x) && !update.x.device().is_autodiff();
    if scale.is_none() && updates.iter().all(is_fused) {
        return updates.into_iter().map(fused).collect();
    }
    let scale = scale.cloned().unwrap_or_else(|| Tensor::full([1], gradient_scale, &device));
    let (mut stacks, mut rest) = (Vec::new(), Vec::new());
    for (owner, MuonUpdate { step, x, gradient, mean }) in updates.into_iter().enumerate() {
        let (mean, ahead) = momentum(gradient, mean, scale.clone(), step.momentum);
        stacks.extend(Stack::of(owner, &step, ahead));
        rest.push((x, mean, step.keep()));
    }
    let with_change = |((x, mean, keep), change)| (moved(x, change, scale.clone(), keep), mean);
    rest.into_iter().zip(changes(stacks, max_shared)).map(with_change).collect()
}

/// A Muon step with the fused CPU operation.
fn fused(MuonUpdate { step, x, gradient, mean }: MuonUpdate) -> (Tensor<2>, Tensor<2>) {
    let [x, gradient, mean] = [x, gradient, mean].map(Tensor::into_dispatch);
    let (x, mean) = <Dispatch as InPlaceOps>::muon(x, gradient, mean, step);
    (Tensor::from_dispatch(x), Tensor::from_dispatch(mean))
}

/// The mean with the scaled gradient, and the mean that looks a step ahead. A scale of NaN leaves the mean unchanged.
fn momentum(gradient: Tensor<2>, mean: Tensor<2>, scale: Tensor<1>, momentum: f32) -> (Tensor<2>, Tensor<2>) {
    if is_on_gpu(&mean) {
        let [gradient, mean] = [gradient, mean].map(Tensor::into_dispatch);
        let (mean, ahead) =
            <Dispatch as GpuKernels>::muon_momentum(gradient, mean, scale.into_dispatch(), momentum);
        return (Tensor::from_dispatch(mean), Tensor::from_dispatch(ahead));
    }
    let is_skipped = scale.clone().is_nan().reshape([1, 1]).expand(mean.dims());
    let new = gradient * scale.reshape([1, 1]) * (1.0 - momentum);
    let after = mean.clone() * momentum + new.clone();
    let ahead = new + after.clone() * momentum;
    (after.mask_where(is_skipped, mean), ahead)
}

/// The weights after the decay and the change, unless the scale is NaN.
fn moved(x: Tensor<2>, change: Tensor<2>, scale: Tensor<1>, keep: f32) -> Tensor<2> {
    if is_on_gpu(&x) {
        let [x, change] = [x, change].map(Tensor::into_dispatch);
        return Tensor::from_dispatch(<Dispatch as GpuKernels>::muon_move(
            x,
            change,
            scale.into_dispatch(),
            keep,
        ));
    }
    let is_skipped = scale.is_nan().reshape([1, 1]).expand(x.dims());
    (x.clone() * keep - change).mask_where(is_skipped, x)
}

/// Maximum elements of matrices that share launches, 64 MiB. It bounds the scratch memory of a step.
const MAX_SHARED: usize = 1 << 24;

/// Consecutive matrices of one shape of a parameter.
struct Stack {
    place: Place,
    /// `[N, rows, columns]`
    matrices: Tensor<3>,
    /// Multiplies the orthogonalised matrices.
    rate: f32,
}

/// Rows of a parameter.
struct Place {
    /// The index of the parameter.
    owner: usize,
    /// The first row.
    row: usize,
    n_rows: usize,
}

impl Stack {
    /// The matrices of a parameter, `[out, in]`.
    fn of(owner: usize, step: &MuonStep, x: Tensor<2>) -> Vec<Self> {
        let [_, n_in] = x.dims();
        let mut end = 0;
        let of_run = |run: &[usize]| {
            let (n, height) = (run.len(), run[0]);
            let place = Place { owner, row: end, n_rows: n * height };
            end += place.n_rows;
            let matrices = rows(&x, place.row, place.n_rows).reshape([n, height, n_in]);
            Self { place, matrices, rate: step.rate([height, n_in]) }
        };
        step.heights.chunk_by(|a, b| a == b).map(of_run).collect()
    }

    /// Stacks with the same key can share launches.
    fn key(&self) -> ([usize; 2], u32) {
        let [_, rows, columns] = self.matrices.dims();
        ([rows, columns], self.rate.to_bits())
    }

    fn len(&self) -> usize {
        self.matrices.shape().num_elements()
    }
}

/// The change of each parameter, `[out, in]`: its matrices with singular values near 1, times the rate.
fn changes(mut stacks: Vec<Stack>, max_shared: usize) -> Vec<Tensor<2>> {
    stacks.sort_by_key(Stack::key);
    let mut stacks = stacks.into_iter().peekable();
    let mut changes = Vec::new();
    while let Some(first) = stacks.next() {
        let (key, rate, mut len) = (first.key(), first.rate, first.len());
        let mut shared = vec![first];
        while let Some(next) = stacks.next_if(|next| next.key() == key && len + next.len() <= max_shared) {
            len += next.len();
            shared.push(next);
        }
        let parts = shared.into_iter().map(|Stack { place, matrices, .. }| (place, matrices));
        let (places, matrices): (Vec<_>, Vec<_>) = parts.unzip();
        let all = joined(matrices);
        let [n, height, n_in] = all.dims();
        let change = (orthogonal(all) * rate).reshape([n * height, n_in]);
        let mut first_row = 0;
        for Place { owner, row, n_rows } in places {
            changes.push(((owner, row), rows(&change, first_row, n_rows)));
            first_row += n_rows;
        }
    }
    changes.sort_by_key(|(place, _)| *place);
    let of_parameter = changes.chunk_by(|((a, _), _), ((b, _), _)| a == b);
    of_parameter.map(|parts| joined(parts.iter().map(|(_, part)| part.clone()).collect())).collect()
}

/// The tensors one after the other, without a launch if there is one.
fn joined<const D: usize>(mut parts: Vec<Tensor<D>>) -> Tensor<D> {
    if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, 0) }
}

/// Rows of a matrix, without a launch if they are all.
fn rows(x: &Tensor<2>, first: usize, n: usize) -> Tensor<2> {
    let [n_rows, _] = x.dims();
    if n == n_rows { x.clone() } else { x.clone().narrow(0, first, n) }
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
    fn parameters_together_move_as_each_alone() {
        let device = test_device();
        device.seed(4);
        // Two parameters of one shape, one whose matrices have that shape, others alone, and another rate.
        let parameters: [([usize; 2], &[usize], f64); 6] = [
            ([10, 12], &[10], 0.02),
            ([26, 12], &[10, 10, 6], 0.02),
            ([12, 10], &[12], 0.02),
            ([10, 12], &[10], 0.02),
            ([16, 12], &[6, 10], 0.02),
            ([10, 12], &[10], 0.3),
        ];
        let updates: Vec<MuonUpdate> = parameters
            .map(|(shape, heights, learning_rate)| {
                let [x, gradient, mean] = [(); 3].map(|()| random(shape, &device));
                let step = MuonStep { learning_rate, gradient_scale: 0.5, ..step(heights) };
                MuonUpdate { step, x, gradient, mean }
            })
            .into();
        let copies = || updates.clone();
        let alone: Vec<_> = with_plain_operations(|| {
            let alone = |MuonUpdate { step, x, gradient, mean }| muon(&step, x, gradient, mean);
            copies().into_iter().map(alone).collect()
        });
        let scale = |scale: f32| Tensor::<1>::from_floats([scale], &device);
        let close = Tolerance::absolute(test_tolerance(2e-5));
        let check = |got: Vec<(Tensor<2>, Tensor<2>)>, expected: &[(Tensor<2>, Tensor<2>)]| {
            assert_eq!(got.len(), expected.len());
            for ((x, mean), (expected_x, expected_mean)) in got.into_iter().zip(expected.iter().cloned()) {
                x.into_data().assert_approx_eq::<f32>(&expected_x.into_data(), close);
                mean.into_data().assert_approx_eq::<f32>(&expected_mean.into_data(), close);
            }
        };
        // All in one launch, two at a time, one at a time.
        for max_shared in [MAX_SHARED, 480, 1] {
            check(together(copies(), None, max_shared), &alone);
            check(together(copies(), Some(&scale(0.5)), max_shared), &alone);
        }
        let before: Vec<_> = updates.iter().map(|it| (it.x.clone(), it.mean.clone())).collect();
        check(muon_together(copies(), Some(&scale(f32::NAN))), &before);
        assert!(muon_together(Vec::new(), None).is_empty());
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
