//! The length of the gradient of all parameters together, and its limit.

use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::GradientsParams,
    prelude::*,
};

use crate::process_group::{Left, Rank};

/// Added to the norm before dividing by it, as in PyTorch's `clip_grad_norm_`.
const EPSILON: f64 = 1e-6;

/// The Euclidean norm of all gradients of a module as one vector. It stays on the device.
///
/// # Shapes
///
/// - output: `[1]`; zero where there are no gradients
pub(crate) fn global_norm<M: Module>(module: &M, grads: &GradientsParams, device: &Device) -> Tensor<1> {
    let mut squares = SumOfSquares { grads, sum: Tensor::zeros([1], device) };
    module.visit(&mut squares);
    squares.sum.sqrt()
}

/// The mean of gradients and of a loss over the devices that train together, in one exchange.
///
/// # Errors
///
/// If another device has left.
pub(crate) fn mean_over<M: Module>(
    rank: &Rank,
    module: &M,
    grads: GradientsParams,
    loss: Tensor<1>,
) -> Result<(GradientsParams, Tensor<1>), Left> {
    if rank.size == 1 {
        return Ok((grads, loss));
    }
    let mut parts = Flattened { grads: &grads, parts: Vec::new() };
    module.visit(&mut parts);
    parts.parts.push(loss); // Last, so that gradients stay where a GPU reads several numbers at a time.
    let mean = rank.mean(Tensor::cat(parts.parts, 0))?;
    let mut apart = Apart { before: &grads, mean, start: 0, grads: GradientsParams::new() };
    module.visit(&mut apart);
    let loss = apart.mean.narrow(0, apart.start, 1);
    Ok((apart.grads, loss))
}

/// The Euclidean norm of all weights of a module as one vector. It stays on the device.
///
/// # Shapes
///
/// - output: `[1]`
pub(crate) fn weights_norm<M: Module>(module: &M, device: &Device) -> Tensor<1> {
    struct Squares(Tensor<1>);
    impl ModuleVisitor for Squares {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0 = self.0.clone() + kernels::sum_of_squares(param.val());
        }
    }
    let mut squares = Squares(Tensor::zeros([1], device));
    module.visit(&mut squares);
    squares.0.sqrt()
}

/// What gradients are multiplied with so that their norm, which is `norm`, is at most the limit, if there is one.
#[expect(clippy::cast_possible_truncation, reason = "gradients are f32")]
pub(crate) fn clip_scale(norm: f64, limit: Option<f64>) -> f32 {
    limit.map_or(1.0, |limit| (limit / (norm + EPSILON)).min(1.0)) as f32
}

/// [`clip_scale`] on the device, `[1]`.
pub(crate) fn clip_scale_on_device(norm: Tensor<1>, limit: Option<f64>) -> Tensor<1> {
    match limit {
        Some(limit) => ((norm + EPSILON).recip() * limit).clamp_max(1.0),
        None => norm.ones_like(),
    }
}

/// Gathers all gradients as vectors, in the order of the parameters.
struct Flattened<'a> {
    grads: &'a GradientsParams,
    parts: Vec<Tensor<1>>,
}

impl ModuleVisitor for Flattened<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.parts.extend(self.grads.get::<D>(param.id).map(|grad| grad.reshape([-1])));
    }
}

/// Takes gradients out of one vector of all, in the order of the parameters.
struct Apart<'a> {
    /// Which there are, and their shapes.
    before: &'a GradientsParams,
    mean: Tensor<1>,
    /// Of the next one.
    start: usize,
    grads: GradientsParams,
}

impl ModuleVisitor for Apart<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(before) = self.before.get::<D>(param.id) {
            let n = before.shape().num_elements();
            let grad: Tensor<D> = self.mean.clone().narrow(0, self.start, n).reshape(before.shape());
            self.grads.register(param.id, grad);
            self.start += n;
        }
    }
}

struct SumOfSquares<'a> {
    grads: &'a GradientsParams,
    sum: Tensor<1>,
}

impl ModuleVisitor for SumOfSquares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.get::<D>(param.id) {
            self.sum = self.sum.clone() + kernels::sum_of_squares(grad);
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::{Linear, LinearConfig};

    use super::*;

    /// Gradients 3, 4 and 12 have the norm 13.
    fn three_gradients(device: &Device) -> (Linear, GradientsParams) {
        let layer = LinearConfig::new(2, 1).init(device);
        let mut grads = GradientsParams::new();
        grads.register(layer.weight.id, Tensor::<2>::from_floats([[3.0], [4.0]], device));
        let bias = layer.bias.as_ref().expect("it has a bias");
        grads.register(bias.id, Tensor::<1>::from_floats([12.0], device));
        (layer, grads)
    }

    fn norm_of(layer: &Linear, grads: &GradientsParams, device: &Device) -> f32 {
        global_norm(layer, grads, device).into_scalar()
    }

    #[test]
    fn the_norm_is_over_all_parameters() {
        let device = kernels::testing::test_device();
        let (layer, grads) = three_gradients(&device);
        assert!((norm_of(&layer, &grads, &device) - 13.0).abs() < 1e-5);
        assert_eq!(norm_of(&layer, &GradientsParams::new(), &device), 0.0);
    }

    #[test]
    fn a_long_gradient_is_scaled_and_a_short_one_left_alone() {
        let device = kernels::testing::test_device();
        for (norm, limit, expected) in
            [(13.0, Some(6.5), 0.5), (13.0, Some(20.0), 1.0), (0.0, Some(1.0), 1.0), (13.0, None, 1.0)]
        {
            assert!((clip_scale(norm, limit) - expected).abs() < 1e-6);
            let there: f32 = clip_scale_on_device(Tensor::from_floats([norm], &device), limit).into_scalar();
            assert!((there - expected).abs() < 1e-6, "{there} for {norm} and {limit:?}");
        }
    }
}
