//! The global gradient norm and gradient clipping.

use std::collections::HashSet;

use burn::{
    module::{Module, ModuleVisitor, Param, ParamId},
    optim::GradientsParams,
    prelude::*,
};

/// Added to the norm before dividing by it, as in PyTorch's `clip_grad_norm_`.
const EPSILON: f64 = 1e-6;

/// The Euclidean norm over all gradients of a module. The result stays on the device.
///
/// # Shapes
///
/// - output: `[1]`; zero if there are no gradients
pub(crate) fn global_norm<M: Module>(module: &M, grads: &GradientsParams, device: &Device) -> Tensor<1> {
    let mut gradients = Flatten { grads, parts: Vec::new() };
    module.visit(&mut gradients);
    kernels::sum_of_all_squares(gradients.parts, device).sqrt()
}

/// The parameters of a module that have a gradient.
pub(crate) fn trained<M: Module>(module: &M, grads: &GradientsParams) -> HashSet<ParamId> {
    struct Trained<'a>(&'a GradientsParams, HashSet<ParamId>);
    impl ModuleVisitor for Trained<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if self.0.get::<D>(param.id).is_some() {
                self.1.insert(param.id);
            }
        }
    }
    let mut trained = Trained(grads, HashSet::new());
    module.visit(&mut trained);
    trained.1
}

/// These parameters of a module, each as its own gradient, for a pass over the optimizers that ignores gradients.
pub(crate) fn as_own<M: Module>(module: &M, ids: &HashSet<ParamId>) -> GradientsParams {
    struct AsOwn<'a>(&'a HashSet<ParamId>, GradientsParams);
    impl ModuleVisitor for AsOwn<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if self.0.contains(&param.id) {
                self.1.register(param.id, param.val());
            }
        }
    }
    let mut own = AsOwn(ids, GradientsParams::new());
    module.visit(&mut own);
    own.1
}

/// The Euclidean norm over all weights of a module. The result stays on the device.
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

/// The factor that scales gradients of this norm down to the limit; 1 if the norm is below it or there is no limit.
#[expect(clippy::cast_possible_truncation, reason = "gradients are f32")]
pub(crate) fn clip_scale(norm: f64, limit: Option<f64>) -> f32 {
    limit.map_or(1.0, |limit| (limit / (norm + EPSILON)).min(1.0)) as f32
}

/// [`clip_scale`] on the device; the output is `[1]`.
pub(crate) fn clip_scale_on_device(norm: Tensor<1>, limit: Option<f64>) -> Tensor<1> {
    match limit {
        Some(limit) => ((norm + EPSILON).recip() * limit).clamp_max(1.0),
        None => norm.ones_like(),
    }
}

/// Collects the gradients, flattened to `[N]`.
struct Flatten<'a> {
    grads: &'a GradientsParams,
    parts: Vec<Tensor<1>>,
}

impl ModuleVisitor for Flatten<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.parts.extend(self.grads.get::<D>(param.id).map(|grad| grad.reshape([-1])));
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
    fn only_gradients_above_the_limit_are_scaled() {
        let device = kernels::testing::test_device();
        for (norm, limit, expected) in
            [(13.0, Some(6.5), 0.5), (13.0, Some(20.0), 1.0), (0.0, Some(1.0), 1.0), (13.0, None, 1.0)]
        {
            assert!((clip_scale(norm, limit) - expected).abs() < 1e-6);
            let on_device: f32 =
                clip_scale_on_device(Tensor::from_floats([norm], &device), limit).into_scalar();
            assert!((on_device - expected).abs() < 1e-6, "{on_device} for {norm} and {limit:?}");
        }
    }
}
