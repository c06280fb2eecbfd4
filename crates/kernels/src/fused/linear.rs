//! Linear layers: the forward pass on contiguous CPU tensors, and the backward pass.

use burn::{
    backend::{
        Autodiff, Flex,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        flex::FlexTensor,
        tensor::FloatTensor,
    },
    prelude::Shape,
};
use cpu::{
    Activation, Factor, LowRankUpdates, SimdLevel,
    linear::{self, Layer},
};

use super::{
    forward::factors,
    gradients::Nodes,
    ops::Affine,
    tensors::{contiguous, rows, tensor, tensor_like, values, vector, width},
};

/// The tensors of a layer: the input, the weight, the bias, the residual, and the stacked matrices of low-rank updates.
/// Empty ones are missing.
pub(super) type LinearTensors<T = FlexTensor> = [T; 6];

/// The results of a forward pass.
pub(super) struct Output {
    pub(super) y: FlexTensor,
    /// The derivatives of the activation.
    derivatives: Option<FlexTensor>,
    /// The product of the input with the matrices A of low-rank updates.
    hidden: Option<FlexTensor>,
}

/// The output of a linear layer and of the operations fused with it; with `backward`, also the derivatives of an
/// activation.
pub(super) fn forward(
    [x, weight, bias, residual, a, b]: &LinearTensors,
    affine: &Affine,
    backward: bool,
) -> Output {
    let level = SimdLevel::of(affine.precision);
    let input = rows(x);
    let updates = low_rank(affine, a, b);
    let hidden = updates.map(|updates| updates.hidden(level, input));
    let addend = updates.zip(hidden.as_ref()).map(|(updates, hidden)| updates.addend(level, hidden));
    let weights = factors(weight, affine.blocks.as_ref());
    let layer = Layer { weights: &weights, bias: values(bias), updates: addend.as_ref() };

    let n_outputs: usize = weights.iter().map(Factor::cols).sum();
    let mut derivatives = None;
    let y = if let Some(activation) = affine.activation {
        assert!(
            affine.mask.is_none() && values(residual).is_empty(),
            "an activation excludes dropout and a residual"
        );
        let (y, found) = linear::forward_activated(level, input, layer, activation, backward);
        derivatives = found.map(|derivatives| tensor(derivatives, [input.rows(), n_outputs]));
        y
    } else if values(residual).is_empty() {
        linear::forward_layer(level, input, layer)
    } else {
        linear::forward_residual(level, input, layer, values(residual), affine.mask)
    };
    let mut shape = x.layout().shape().clone();
    let last = shape.num_dims() - 1;
    shape[last] = n_outputs / affine.activation.map_or(1, Activation::n_inputs);
    Output { y: tensor(y, shape), derivatives, hidden: hidden.map(vector) }
}

/// [`forward`] with autodiff.
pub(super) fn tracked<C: CheckpointStrategy>(
    tensors: LinearTensors<FloatTensor<Autodiff<Flex, C>>>,
    affine: Affine,
) -> FloatTensor<Autodiff<Flex, C>> {
    let nodes = tensors.each_ref().map(|tensor| tensor.node());
    let [of_x, of_weight, _, _, of_a, of_b] = tensors.each_ref().map(|tensor| tensor.is_tracked());
    let tensors = tensors.map(|tensor| contiguous(tensor.into_primitive()));
    match LinearBackward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => {
            let Output { y, derivatives, hidden } = forward(&tensors, &affine, true);
            let [x, weight, _, _, a, b] = tensors;
            let state = LinearState {
                shape: x.layout().shape().clone(),
                x: (of_weight || of_a).then_some(x),
                weight: of_x.then_some(weight),
                updates: [a, b],
                hidden: hidden.filter(|_| of_b),
                derivatives,
                affine,
            };
            prep.finish(state, y)
        }
        OpsKind::UnTracked(prep) => prep.finish(forward(&tensors, &affine, false).y),
    }
}

#[derive(Debug)]
struct LinearBackward;

/// The tensors of the forward pass that the gradients of tracked tensors need.
#[derive(Debug, Clone)]
struct LinearState {
    /// The shape of the input.
    shape: Shape,
    /// For the gradients of the weight and of the matrices A.
    x: Option<FlexTensor>,
    /// For the gradient of the input.
    weight: Option<FlexTensor>,
    updates: [FlexTensor; 2],
    /// For the gradients of the matrices B.
    hidden: Option<FlexTensor>,
    /// The activation's derivatives, if there is an activation.
    derivatives: Option<FlexTensor>,
    affine: Affine,
}

impl Backward<Flex, 6> for LinearBackward {
    type State = LinearState;

    fn backward(self, ops: Ops<LinearState, 6>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_x, of_weight, of_bias, of_residual, of_a, of_b] = [0, 1, 2, 3, 4, 5];
        let (nodes, state) = Nodes::split(ops);
        let LinearState { shape, x, weight, updates: [a, b], hidden, derivatives, affine } = state;
        let level = SimdLevel::of(affine.precision);
        let d_y = nodes.consume(grads);
        nodes.register(grads, of_residual, || d_y.clone());
        let d_y = gradient_of_product(d_y, derivatives, &affine);
        nodes.register(grads, of_bias, || vector(linear::sum_rows(level, values(&d_y), width(&d_y))));
        let d_y = rows(&d_y);
        let kept = "the forward pass keeps it for a tracked tensor";
        nodes.register(grads, of_weight, || {
            let x = rows(x.as_ref().expect(kept));
            tensor(linear::backward_weight(level, x, d_y), [d_y.cols(), x.cols()])
        });
        let updates = low_rank(&affine, &a, &b);
        let d_hidden = updates.map_or_else(Vec::new, |updates| updates.backward_hidden(level, d_y));
        if let Some(updates) = &updates {
            nodes.register(grads, of_a, || {
                tensor_like(updates.backward_a(level, rows(x.as_ref().expect(kept)), &d_hidden), &a)
            });
            nodes.register(grads, of_b, || {
                vector(updates.backward_b(level, values(hidden.as_ref().expect(kept)), d_y))
            });
        }
        nodes.register(grads, of_x, || {
            let weights = factors(weight.as_ref().expect(kept), affine.blocks.as_ref());
            let addend = updates.map(|updates| updates.backward_addend(level, &d_hidden));
            tensor(linear::backward_input(level, &weights, d_y, addend.as_ref()), shape)
        });
    }
}

/// The gradient of `x · weightᵀ + updates + bias`, given the gradient of the layer's output without its residual.
fn gradient_of_product(mut d_y: FlexTensor, derivatives: Option<FlexTensor>, affine: &Affine) -> FlexTensor {
    let (level, width) = (SimdLevel::of(affine.precision), width(&d_y));
    if let Some(mask) = affine.mask {
        linear::drop_rows(level, d_y.storage_mut(), width, mask);
    }
    if let (Some(derivatives), Some(activation)) = (derivatives, affine.activation) {
        let mut derivatives = contiguous(derivatives);
        linear::backward_activated(level, derivatives.storage_mut(), values(&d_y), width, activation);
        return derivatives;
    }
    d_y
}

/// The low-rank updates with their stacked matrices.
fn low_rank<'a>(affine: &'a Affine, a: &'a FlexTensor, b: &'a FlexTensor) -> Option<LowRankUpdates<'a>> {
    let shapes = affine.updates.as_ref()?;
    Some(LowRankUpdates { shapes, a: values(a), b: values(b), mask: affine.update_mask })
}
