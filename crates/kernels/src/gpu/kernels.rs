//! Operations with one kernel on GPUs, where Burn's tensor operations would launch many. None has a backward pass;
//! [`GpuOps`](super::GpuOps) has.
//!
//! The default methods are the reference implementation, for the CPU. [`super::cube`] has the kernels.

#[cfg(feature = "gpu")]
use burn::backend::fusion::custom::TensorSpec;
use burn::{
    backend::{
        Autodiff, Backend, Flex, TensorMetadata,
        autodiff::checkpoint::strategy::CheckpointStrategy,
        backend_extension, get_device_settings,
        tensor::{BoolTensor, FloatTensor, IntTensor},
    },
    prelude::Shape,
    tensor::{DType, FloatDType},
};
use cpu::{Activation, AdamWStep, NormKind, Precision, adamw::Coefficients, dropout::Mask};

use super::{
    activation,
    primitive::{narrow, operand_type, reshaped},
};
use crate::dropout_mask::{arange, drop_out, is_dropped};

/// A chunk of attention scores, `[B, H, R, S']`: R consecutive queries, from `first` on, and the S' positions that the last
/// query sees. A query sees one position more than the query before it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScoreChunk {
    /// R
    pub(crate) n_rows: usize,
    /// The index of the first query.
    pub(crate) first: usize,
    /// T, the number of all queries.
    pub(crate) time: usize,
    /// Positions before the first of all queries.
    pub(crate) n_before: usize,
    /// Multiplies the scores.
    pub(crate) scale: f32,
    /// Dropout of the attention weights, `[B, H, T, S]`.
    pub(crate) mask: Option<Mask>,
    /// The precision of the attention weights.
    pub(crate) precision: Precision,
}

#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Fusion: cfg(feature = "gpu"))]
pub(crate) trait GpuKernels: Backend {
    /// `x · y` of two operands, as f32.
    #[fusion(dtype = DType::F32, shape = product_shape(x, y))]
    fn product(x: FloatTensor<Self>, y: FloatTensor<Self>) -> FloatTensor<Self> {
        as_f32::<Self>(Self::float_matmul(x, y))
    }

    /// The kept elements of `x` times the scale of the mask, and zeros, as operands of a precision.
    ///
    /// - `x`: `[rows, columns]`
    #[fusion(dtype = operand_type(*precision).into(), shape = x)]
    fn drop_elements(x: FloatTensor<Self>, mask: Mask, precision: Precision) -> FloatTensor<Self> {
        Self::float_cast(dropped_rows::<Self>(x, mask), operand_type(precision))
    }

    /// `residual` plus the kept elements of `x` times the scale of the mask.
    ///
    /// - `x`, `residual`: `[rows, columns]`
    #[fusion(dtype = residual, shape = residual)]
    fn add_dropped(x: FloatTensor<Self>, residual: FloatTensor<Self>, mask: Mask) -> FloatTensor<Self> {
        Self::float_add(residual, dropped_rows::<Self>(x, mask))
    }

    /// The attention weights: the softmax of scores over the visible positions, with dropout; zero for the others.
    ///
    /// - `scores`, output: `[B, H, R, S']`
    #[fusion(dtype = operand_type(chunk.precision).into(), shape = scores)]
    fn attention_weights(scores: FloatTensor<Self>, chunk: ScoreChunk) -> FloatTensor<Self> {
        let weights = softmax::<Self>(scores, &chunk);
        Self::float_cast(chunk.dropped::<Self>(weights), operand_type(chunk.precision))
    }

    /// The attention weights with dropout, and the gradients of the scores. `d_weights` has the gradients of the weights. Equations
    /// of appendix B.2 of [FlashAttention](https://arxiv.org/abs/2205.14135).
    ///
    /// - all: `[B, H, R, S']`
    #[fusion(meta = attention_gradient_specs)]
    fn attention_gradients(
        scores: FloatTensor<Self>,
        d_weights: FloatTensor<Self>,
        chunk: ScoreChunk,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let weights = softmax::<Self>(scores, &chunk);
        let d_weights = chunk.dropped::<Self>(as_f32::<Self>(d_weights));
        let shared = Self::float_sum_dim(Self::float_mul(weights.clone(), d_weights.clone()), 3);
        let d_scores = Self::float_mul(weights.clone(), Self::float_sub(d_weights, shared));
        let d_scores = Self::float_mul_scalar(d_scores, chunk.scale.into());
        let results = [chunk.dropped::<Self>(weights), d_scores];
        results.map(|x| Self::float_cast(x, operand_type(chunk.precision))).into()
    }

    /// The heads `first..first + n`, `[B, n, T, D]`, as operands of a precision.
    ///
    /// - `x`: `[B, T, heads · D]`
    #[fusion(dtype = operand_type(*precision).into(), shape = heads_shape(x, *n, *head_dim))]
    fn to_heads(
        x: FloatTensor<Self>,
        first: usize,
        n: usize,
        head_dim: usize,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let [batch, time, _] = x.shape().dims();
        let part = narrow::<Self>(x, 2, first * head_dim..(first + n) * head_dim);
        let part = reshaped::<Self, 4>(part, [batch, time, n, head_dim]);
        Self::float_cast(Self::float_swap_dims(part, 1, 2), operand_type(precision))
    }

    /// Rotates the halves of each head by cosines and sines of its position, `[positions, D/2]`, or back; as operands of a
    /// precision.
    ///
    /// - `x`, output: `[B, n, T, D]`
    #[fusion(dtype = operand_type(*precision).into(), shape = x)]
    fn rotate(
        x: FloatTensor<Self>,
        cosines: FloatTensor<Self>,
        sines: FloatTensor<Self>,
        is_inverse: bool,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let [_, _, time, head_dim] = x.shape().dims();
        let half = head_dim / 2;
        let [cos, sin] = [cosines, sines]
            .map(|factors| reshaped::<Self, 4>(narrow::<Self>(factors, 0, 0..time), [1, 1, time, half]));
        let sin = if is_inverse { Self::float_neg(sin) } else { sin };
        let [a, b] = [0, half].map(|start| narrow::<Self>(x.clone(), 3, start..start + half));
        let product = |x: &FloatTensor<Self>, y: &FloatTensor<Self>| Self::float_mul(x.clone(), y.clone());
        let first = Self::float_sub(product(&a, &cos), product(&b, &sin));
        let second = Self::float_add(product(&b, &cos), product(&a, &sin));
        Self::float_cast(Self::float_cat(vec![first, second], 3), operand_type(precision))
    }

    /// Queries `[B, H, T, D]`, keys and values `[B, KV, T, D]` as `[B, T, (H + 2 KV) · D]`, as f32.
    #[fusion(dtype = DType::F32, shape = joined_shape(queries, keys))]
    fn join_heads(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let parts = [queries, keys, values].map(|part| {
            let [batch, n, time, head_dim] = part.shape().dims();
            let part = Self::float_swap_dims(as_f32::<Self>(part), 1, 2);
            reshaped::<Self, 3>(part, [batch, time, n * head_dim])
        });
        Self::float_cat(parts.into(), 2)
    }

    /// As [`crate::norm`], without an offset.
    ///
    /// - `x`, output: `[rows, C]`
    /// - `gain`: `[C]`
    #[fusion(dtype = x, shape = x)]
    fn norm_rows(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        kind: NormKind,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let (normed, _) = normed::<Self>(x, kind, epsilon);
        let width = gain.shape()[0];
        Self::float_mul(normed, reshaped::<Self, 2>(gain, [1, width]))
    }

    /// The gradients of `x`, `[rows, C]`, and of the gain, `[C]`, given that of [`GpuKernels::norm_rows`].
    ///
    /// With n the normed row and e = dy · gain: dx = (e - n · mean(e · n) - mean(e)) / √(variance + ε). RMS norm has no
    /// last term.
    #[fusion(meta = norm_gradient_specs)]
    fn norm_gradients(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        d_y: FloatTensor<Self>,
        kind: NormKind,
        epsilon: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let width = gain.shape()[0];
        let (normed, factor) = normed::<Self>(x, kind, epsilon);
        let scaled = Self::float_mul(d_y.clone(), reshaped::<Self, 2>(gain, [1, width]));
        let along = Self::float_mean_dim(Self::float_mul(scaled.clone(), normed.clone()), 1);
        let mut d_x = Self::float_sub(scaled.clone(), Self::float_mul(normed.clone(), along));
        if kind == NormKind::Layer {
            d_x = Self::float_sub(d_x, Self::float_mean_dim(scaled, 1));
        }
        let d_gain = Self::float_sum_dim(Self::float_mul(d_y, normed), 0);
        (Self::float_mul(d_x, factor), reshaped::<Self, 1>(d_gain, [width]))
    }

    /// As [`crate::activate`], as f32.
    ///
    /// - `x`: `[rows, I]`, or `[rows, 2I]` for SwiGLU
    /// - output: `[rows, I]`
    #[fusion(dtype = DType::F32, shape = activated_shape(x, *activation))]
    fn activate_rows(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        activation::forward::<Self>(as_f32::<Self>(x), activation)
    }

    /// The gradient of the input of [`GpuKernels::activate_rows`], of the same type.
    #[fusion(dtype = x, shape = x)]
    fn activation_gradient(
        x: FloatTensor<Self>,
        d_y: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        let dtype = x.dtype();
        let d_x = activation::backward::<Self>(as_f32::<Self>(x), d_y, activation);
        if dtype == DType::F32 { d_x } else { Self::float_cast(d_x, FloatDType::BF16) }
    }

    /// `-ln softmax(logits)[target]` of each row times its weight, `[R, 1]`.
    ///
    /// - `logits`: `[R, V]`
    /// - `targets`: `[R, 1]`
    /// - `row_weights`: `[R, 1]`
    #[fusion(dtype = row_weights, shape = row_weights)]
    fn row_losses(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        row_weights: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (losses, _) = losses_and_softmax::<Self>(logits, targets);
        Self::float_mul(losses, row_weights)
    }

    /// [`GpuKernels::row_losses`], and their gradients with respect to the logits, `[R, V]`, as operands of a precision.
    #[fusion(meta = loss_specs)]
    fn row_losses_with_gradients(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        row_weights: FloatTensor<Self>,
        precision: Precision,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (losses, probs) = losses_and_softmax::<Self>(logits, targets.clone());
        let is_target = one_hot::<Self>(targets, probs.shape()[1]);
        let others = Self::float_sub_scalar(probs.clone(), 1.0.into());
        let d_logits = Self::float_mask_where(probs, is_target, others);
        let d_logits = Self::float_mul(d_logits, row_weights.clone());
        (Self::float_mul(losses, row_weights), Self::float_cast(d_logits, operand_type(precision)))
    }

    /// [`crate::adamw_on_device`]: the values and the moments after a step. Buffers of moments that are not shared
    /// are reused.
    ///
    /// - `scale`: `[1]`
    /// - the others: `[N]`
    #[fusion(meta = adamw_specs)]
    fn adamw_step(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        step: AdamWStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let Coefficients { keep, rate, second: correction } = step.coefficients();
        let times = |x: FloatTensor<Self>, factor: f32| Self::float_mul_scalar(x, factor.into());
        let booleans = get_device_settings::<Self>(&x.device()).bool_dtype;
        let is_skipped = Self::bool_expand(Self::float_is_nan(scale.clone(), booleans), x.shape());
        let before = [x.clone(), first.clone(), second.clone()];
        let gradient = Self::float_mul(gradient, scale);
        let square = Self::float_mul(gradient.clone(), gradient.clone());
        let first = Self::float_add(times(first, step.beta_1), times(gradient, 1.0 - step.beta_1));
        let second = Self::float_add(times(second, step.beta_2), times(square, 1.0 - step.beta_2));
        let root = Self::float_sqrt(times(second.clone(), correction));
        let root = Self::float_add_scalar(root, step.epsilon.into());
        let change = Self::float_div(first.clone(), root);
        let x = Self::float_sub(times(x, keep), times(change, rate));
        let mut after = [x, first, second]
            .into_iter()
            .zip(before)
            .map(|(after, before)| Self::float_mask_where(after, is_skipped.clone(), before));
        let mut next = || after.next().expect("there are three");
        (next(), next(), next())
    }

    /// `a · x + b · y`, for tensors of one shape.
    #[fusion(dtype = x, shape = x)]
    fn weighted_sum(x: FloatTensor<Self>, a: f32, y: FloatTensor<Self>, b: f32) -> FloatTensor<Self> {
        Self::float_add(Self::float_mul_scalar(x, a.into()), Self::float_mul_scalar(y, b.into()))
    }

    /// Adds squares of the elements of `x` to partial sums, `[P]`. Which of them each is added to is undefined.
    #[fusion(dtype = sums, shape = sums)]
    fn add_squares(sums: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self> {
        let n_sums = sums.shape()[0];
        let sum = reshaped::<Self, 1>(Self::float_sum(Self::float_mul(x.clone(), x)), [1]);
        let zeros = Self::float_zeros(Shape::new([n_sums - 1]), &sums.device(), FloatDType::F32);
        Self::float_add(sums, Self::float_cat(vec![sum, zeros], 0))
    }
}

impl GpuKernels for Flex {}

/// Required by `GpuOps`, whose methods for `Autodiff` call these operations on the backend below.
impl<B: Backend, C: CheckpointStrategy> GpuKernels for Autodiff<B, C> {}

impl ScoreChunk {
    /// Applies dropout to attention weights, or to their gradients.
    fn dropped<B: Backend>(&self, x: FloatTensor<B>) -> FloatTensor<B> {
        let Some(mask) = self.mask else { return x };
        let (shape, device) = (x.shape(), x.device());
        let [batch, n_head, _, n_seen] = shape.dims();
        let rows = |n: usize, stride: usize| {
            let stride = i64::try_from(stride).expect("positions are far below 2^63");
            B::int_mul_scalar(arange::<B>(0..n, &device), stride.into())
        };
        let heads = B::int_reshape(rows(batch * n_head, self.time), Shape::new([batch * n_head, 1]));
        let rows_of_one = arange::<B>(self.first..self.first + self.n_rows, &device);
        let rows_of_one = B::int_reshape(rows_of_one, Shape::new([1, self.n_rows]));
        let rows = B::int_add(heads, rows_of_one);
        let rows = B::int_reshape(rows, Shape::new([batch * n_head * self.n_rows]));
        let is_dropped = B::bool_reshape(is_dropped::<B>(mask, rows, n_seen), shape);
        drop_out::<B>(x, is_dropped, mask)
    }

    /// Whether each position, `[R, S']`, is after the query.
    fn is_future<B: Backend>(&self, n_seen: usize, device: &B::Device) -> BoolTensor<B> {
        let first = self.n_before + self.first;
        let queries = arange::<B>(first..first + self.n_rows, device);
        let queries = B::int_reshape(queries, Shape::new([self.n_rows, 1]));
        let positions = B::int_reshape(arange::<B>(0..n_seen, device), Shape::new([1, n_seen]));
        B::int_lower(queries, positions, get_device_settings::<B>(device).bool_dtype)
    }
}

/// Applies a mask to rows.
fn dropped_rows<B: Backend>(x: FloatTensor<B>, mask: Mask) -> FloatTensor<B> {
    let [n_rows, n_columns] = x.shape().dims();
    let is_dropped = is_dropped::<B>(mask, arange::<B>(0..n_rows, &x.device()), n_columns);
    drop_out::<B>(x, is_dropped, mask)
}

fn as_f32<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    if x.dtype() == DType::F32 { x } else { B::float_cast(x, FloatDType::F32) }
}

/// The softmax of the scaled scores over the visible positions, `[B, H, R, S']`.
fn softmax<B: Backend>(scores: FloatTensor<B>, chunk: &ScoreChunk) -> FloatTensor<B> {
    let (shape, device) = (scores.shape(), scores.device());
    let n_seen = shape[3];
    let is_future = chunk.is_future::<B>(n_seen, &device);
    let is_future = B::bool_reshape(is_future, Shape::new([1, 1, chunk.n_rows, n_seen]));
    let scores = B::float_mul_scalar(as_f32::<B>(scores), chunk.scale.into());
    let scores = B::float_mask_fill(scores, B::bool_expand(is_future, shape), f32::NEG_INFINITY.into());
    let largest = B::float_max_dim(scores.clone(), 3);
    let weights = B::float_exp(B::float_sub(scores, largest));
    let sums = B::float_sum_dim(weights.clone(), 3);
    B::float_div(weights, sums)
}

/// Rows with mean square 1, after layer norm has subtracted their mean, and the factor of each row.
fn normed<B: Backend>(x: FloatTensor<B>, kind: NormKind, epsilon: f32) -> (FloatTensor<B>, FloatTensor<B>) {
    let centred = match kind {
        NormKind::Layer => B::float_sub(x.clone(), B::float_mean_dim(x, 1)),
        NormKind::Rms => x,
    };
    let mean_square = B::float_mean_dim(B::float_mul(centred.clone(), centred.clone()), 1);
    let factor = B::float_recip(B::float_sqrt(B::float_add_scalar(mean_square, epsilon.into())));
    (B::float_mul(centred, factor.clone()), factor)
}

/// The losses of the rows, `[R, 1]`, and the softmax of the logits, `[R, V]`.
fn losses_and_softmax<B: Backend>(
    logits: FloatTensor<B>,
    targets: IntTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let logits = as_f32::<B>(logits);
    let largest = B::float_max_dim(logits.clone(), 1);
    let shifted = B::float_sub(logits, largest);
    let target = B::float_gather(1, shifted.clone(), targets);
    let exponentials = B::float_exp(shifted);
    let sums = B::float_sum_dim(exponentials.clone(), 1);
    (B::float_sub(B::float_log(sums.clone()), target), B::float_div(exponentials, sums))
}

/// Whether each column is the target of its row, `[R, V]`.
fn one_hot<B: Backend>(targets: IntTensor<B>, n_vocab: usize) -> BoolTensor<B> {
    let device = targets.device();
    let columns = B::int_cast(arange::<B>(0..n_vocab, &device), targets.dtype().into());
    let columns = B::int_reshape(columns, Shape::new([1, n_vocab]));
    B::int_equal(targets, columns, get_device_settings::<B>(&device).bool_dtype)
}

#[cfg(feature = "gpu")]
fn product_shape(x: &Shape, y: &Shape) -> Shape {
    let mut shape = x.clone();
    let last = shape.num_dims() - 1;
    shape[last] = y[last];
    shape
}

#[cfg(feature = "gpu")]
fn joined_shape(queries: &Shape, keys: &Shape) -> Shape {
    let ([batch, n_head, time, head_dim], [_, n_kv_head, _, _]) = (queries.dims(), keys.dims());
    Shape::new([batch, time, (n_head + 2 * n_kv_head) * head_dim])
}

#[cfg(feature = "gpu")]
fn activated_shape(x: &Shape, activation: Activation) -> Shape {
    let [n_rows, width] = x.dims();
    Shape::new([n_rows, width / activation.n_inputs()])
}

#[cfg(feature = "gpu")]
fn attention_gradient_specs(
    scores: &TensorSpec,
    _d_weights: &TensorSpec,
    chunk: &ScoreChunk,
) -> (TensorSpec, TensorSpec) {
    let spec = TensorSpec::new(scores.shape.clone(), operand_type(chunk.precision).into());
    (spec.clone(), spec)
}

#[cfg(feature = "gpu")]
fn heads_shape(x: &Shape, n: usize, head_dim: usize) -> Shape {
    let [batch, time, _] = x.dims();
    Shape::new([batch, n, time, head_dim])
}

#[cfg(feature = "gpu")]
fn norm_gradient_specs(
    x: &TensorSpec,
    gain: &TensorSpec,
    _d_y: &TensorSpec,
    _kind: &NormKind,
    _epsilon: &f32,
) -> (TensorSpec, TensorSpec) {
    (x.clone(), gain.clone())
}

#[cfg(feature = "gpu")]
fn adamw_specs(
    x: &TensorSpec,
    _gradient: &TensorSpec,
    first: &TensorSpec,
    second: &TensorSpec,
    _scale: &TensorSpec,
    _step: &AdamWStep,
) -> (TensorSpec, TensorSpec, TensorSpec) {
    (x.clone(), first.clone(), second.clone())
}

#[cfg(feature = "gpu")]
fn loss_specs(
    logits: &TensorSpec,
    _targets: &TensorSpec,
    row_weights: &TensorSpec,
    precision: &Precision,
) -> (TensorSpec, TensorSpec) {
    (row_weights.clone(), TensorSpec::new(logits.shape.clone(), operand_type(*precision).into()))
}
