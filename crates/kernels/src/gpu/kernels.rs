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
    heads::{self, HeadSplit},
    norm,
    primitive::{as_f32, narrow, operand, operand_type, reshaped, within},
};
use crate::dropout_mask::{arange, drop_out, is_dropped};

/// A chunk of attention scores, `[B, H, R, S']`: R consecutive queries, from `first` on, and the S' positions that the last
/// query sees. A query sees all positions up to its own, or those from its start on.
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
    /// Whether queries have a start.
    pub(crate) has_starts: bool,
    /// Multiplies the scores.
    pub(crate) scale: f32,
    /// Dropout of the attention weights, `[B, H, T, S]`.
    pub(crate) mask: Option<Mask>,
    /// The precision of the attention weights.
    pub(crate) precision: Precision,
}

#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Fusion: cfg(feature = "gpu"))]
pub(crate) trait GpuKernels: Backend {
    /// `x · y` of two operands, as operands of a precision: that of the factors, or f32.
    #[fusion(dtype = operand_type(*precision).into(), shape = product_shape(x, y))]
    fn product(x: FloatTensor<Self>, y: FloatTensor<Self>, precision: Precision) -> FloatTensor<Self> {
        operand::<Self>(Self::float_matmul(x, y), precision)
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
    /// Without starts, `starts` may be any tensor.
    ///
    /// - `scores`, output: `[B, H, R, S']`
    /// - `starts`: the first position that each query sees, `[B, T]`
    #[fusion(dtype = operand_type(chunk.precision).into(), shape = scores)]
    fn attention_weights(
        scores: FloatTensor<Self>,
        starts: FloatTensor<Self>,
        chunk: ScoreChunk,
    ) -> FloatTensor<Self> {
        let weights = softmax::<Self>(scores, starts, &chunk);
        Self::float_cast(chunk.dropped::<Self>(weights), operand_type(chunk.precision))
    }

    /// The attention weights with dropout, and the gradients of the scores. `d_weights` has the gradients of the weights. Equations
    /// of appendix B.2 of [FlashAttention](https://arxiv.org/abs/2205.14135).
    ///
    /// - `starts`: as for [`GpuKernels::attention_weights`]
    /// - the others: `[B, H, R, S']`
    #[fusion(meta = attention_gradient_specs)]
    fn attention_gradients(
        scores: FloatTensor<Self>,
        d_weights: FloatTensor<Self>,
        starts: FloatTensor<Self>,
        chunk: ScoreChunk,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let weights = softmax::<Self>(scores, starts, &chunk);
        let d_weights = chunk.dropped::<Self>(as_f32::<Self>(d_weights));
        let shared = Self::float_sum_dim(Self::float_mul(weights.clone(), d_weights.clone()), 3);
        let d_scores = Self::float_mul(weights.clone(), Self::float_sub(d_weights, shared));
        let d_scores = Self::float_mul_scalar(d_scores, chunk.scale.into());
        let results = [chunk.dropped::<Self>(weights), d_scores];
        results.map(|x| Self::float_cast(x, operand_type(chunk.precision))).into()
    }

    /// Queries `[B, H, T, D]`, keys and values `[B, KV, T, D]`, as operands of products. QK norm, then RoPE apply to queries
    /// and keys. Without QK norm `gains` may be any tensor; without RoPE `angles` may.
    ///
    /// - `qkv`: `[B, T, (H + 2 KV) · D]`
    /// - `gains`: those of queries and of keys, `[2, D]`
    /// - `angles`: the D/2 cosines and D/2 sines of each position, `[≥ T, D]`, or of each row of the batch, `[B · T, D]`
    #[fusion(meta = head_specs)]
    fn split_heads(
        qkv: FloatTensor<Self>,
        gains: FloatTensor<Self>,
        angles: FloatTensor<Self>,
        split: HeadSplit,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        heads::split::<Self>(qkv, gains, angles, split).into()
    }

    /// The gradients of the channels, `[B, T, (H + 2 KV) · D]`, and of the gains, `[2, D]`, given the head gradients. The
    /// factors are those of [`GpuKernels::split_heads`]. Without QK norm, `qkv` is any tensor too, and the gradients
    /// of the gains are undefined.
    #[fusion(meta = channel_specs)]
    fn channel_gradients(
        d_queries: FloatTensor<Self>,
        d_keys: FloatTensor<Self>,
        d_values: FloatTensor<Self>,
        qkv: FloatTensor<Self>,
        gains: FloatTensor<Self>,
        angles: FloatTensor<Self>,
        split: HeadSplit,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let d_heads = [d_queries, d_keys, d_values];
        heads::gradients::<Self>(d_heads, qkv, gains, angles, split)
    }

    /// Channels `[B, T, H · D]` as heads `[B, H, T, D]`, operands of a precision.
    #[fusion(dtype = operand_type(*precision).into(), shape = heads_shape(x, *n_head))]
    fn to_heads(x: FloatTensor<Self>, n_head: usize, precision: Precision) -> FloatTensor<Self> {
        let [batch, time, width] = x.shape().dims();
        let x = reshaped::<Self, 4>(x, [batch, time, n_head, width / n_head]);
        operand::<Self>(Self::float_swap_dims(x, 1, 2), precision)
    }

    /// The heads of the first R of T positions, `[B, H, R, D]`, as channels `[B, T, H · D]`, undefined for the others.
    #[fusion(dtype = heads, shape = channels_shape(heads, *time))]
    fn first_heads(heads: FloatTensor<Self>, time: usize) -> FloatTensor<Self> {
        let [batch, n_head, n_rows, head_dim] = heads.shape().dims();
        let (device, dtype) = (heads.device(), heads.dtype().into());
        let rows =
            reshaped::<Self, 3>(Self::float_swap_dims(heads, 1, 2), [batch, n_rows, n_head * head_dim]);
        if n_rows == time {
            return rows;
        }
        let rest = Shape::new([batch, time - n_rows, n_head * head_dim]);
        Self::float_cat(vec![rows, Self::float_zeros(rest, &device, dtype)], 1)
    }

    /// Writes the heads of R positions, `[B, H, R, D]`, to the positions from `first` on of channels `[B, T, H · D]`, of
    /// the same type. The buffer of the channels is reused if it is not shared.
    #[fusion(dtype = channels, shape = channels)]
    fn put_heads(channels: FloatTensor<Self>, heads: FloatTensor<Self>, first: usize) -> FloatTensor<Self> {
        let [batch, n_head, n_rows, head_dim] = heads.shape().dims();
        let rows = Self::float_swap_dims(heads, 1, 2);
        let rows = reshaped::<Self, 3>(rows, [batch, n_rows, n_head * head_dim]);
        Self::float_slice_assign(channels, &within(3, 1, first..first + n_rows), rows)
    }

    /// Adds to the first S' of S positions: `[B, n, S', D]` to `[B, n, S, D]`. The buffer of `sums` is reused if it is not
    /// shared.
    #[fusion(dtype = sums, shape = sums)]
    fn add_to_first(sums: FloatTensor<Self>, more: FloatTensor<Self>) -> FloatTensor<Self> {
        let first = within(4, 2, 0..more.shape()[2]);
        let sum = Self::float_add(Self::float_slice(sums.clone(), &first), more);
        Self::float_slice_assign(sums, &first, sum)
    }

    /// As [`crate::norm`], without an offset, as operands of a precision.
    ///
    /// - `x`, output: `[rows, C]`
    /// - `gain`: `[C]`
    #[fusion(dtype = operand_type(*precision).into(), shape = x)]
    fn norm_rows(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        kind: NormKind,
        epsilon: f32,
        precision: Precision,
    ) -> FloatTensor<Self> {
        operand::<Self>(norm::forward::<Self>(x, gain, kind, epsilon), precision)
    }

    /// The gradients of `x`, `[rows, C]`, and of the gain, `[C]`, given that of [`GpuKernels::norm_rows`].
    #[fusion(meta = norm_gradient_specs)]
    fn norm_gradients(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        d_y: FloatTensor<Self>,
        kind: NormKind,
        epsilon: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        norm::backward::<Self>(x, gain, as_f32::<Self>(d_y), kind, epsilon)
    }

    /// As [`crate::activate`], as operands of a precision.
    ///
    /// - `x`: `[rows, I]`, or `[rows, 2I]` for SwiGLU
    /// - output: `[rows, I]`
    #[fusion(dtype = operand_type(*precision).into(), shape = activated_shape(x, *activation))]
    fn activate_rows(
        x: FloatTensor<Self>,
        activation: Activation,
        precision: Precision,
    ) -> FloatTensor<Self> {
        operand::<Self>(activation::forward::<Self>(as_f32::<Self>(x), activation), precision)
    }

    /// The gradient of the input of [`GpuKernels::activate_rows`], of the same type.
    #[fusion(dtype = x, shape = x)]
    fn activation_gradient(
        x: FloatTensor<Self>,
        d_y: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        let dtype = x.dtype();
        let d_x = activation::backward::<Self>(as_f32::<Self>(x), as_f32::<Self>(d_y), activation);
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
        let is_skipped = is_nan::<Self>(scale.clone(), x.shape());
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

    /// The mean of gradients of [`crate::muon`], and the mean that looks a step ahead. A scale of NaN gives the mean twice.
    /// The buffer of the mean is reused if it is not shared.
    ///
    /// - `scale`: `[1]`
    /// - the others: `[out, in]`
    #[fusion(meta = momentum_specs)]
    fn muon_momentum(
        gradient: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        momentum: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let times = |x: FloatTensor<Self>, factor: f32| Self::float_mul_scalar(x, factor.into());
        let is_skipped = is_nan::<Self>(scale.clone(), mean.shape());
        let scale = Self::float_reshape(scale, Shape::new([1, 1]));
        let new = times(Self::float_mul(gradient, scale), 1.0 - momentum);
        let after = Self::float_add(times(mean.clone(), momentum), new.clone());
        let ahead = Self::float_add(new, times(after.clone(), momentum));
        let [after, ahead] =
            [after, ahead].map(|x| Self::float_mask_where(x, is_skipped.clone(), mean.clone()));
        (after, ahead)
    }

    /// `keep · x - change`, or `x` if the scale is NaN.
    ///
    /// - `scale`: `[1]`
    /// - the others: `[out, in]`
    #[fusion(dtype = x, shape = x)]
    fn muon_move(
        x: FloatTensor<Self>,
        change: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        keep: f32,
    ) -> FloatTensor<Self> {
        let is_skipped = is_nan::<Self>(scale, x.shape());
        let moved = Self::float_sub(Self::float_mul_scalar(x.clone(), keep.into()), change);
        Self::float_mask_where(moved, is_skipped, x)
    }

    /// `a · x + b · y`, for tensors of one shape.
    #[fusion(dtype = x, shape = x)]
    fn weighted_sum(x: FloatTensor<Self>, a: f32, y: FloatTensor<Self>, b: f32) -> FloatTensor<Self> {
        Self::float_add(Self::float_mul_scalar(x, a.into()), Self::float_mul_scalar(y, b.into()))
    }

    /// Adds squares of the elements of six vectors to partial sums, `[P]`. Which of them each is added to is undefined.
    #[fusion(dtype = sums, shape = sums)]
    fn add_squares(
        sums: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        e: FloatTensor<Self>,
        f: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let n_sums = sums.shape()[0];
        let rest = Self::float_zeros(Shape::new([n_sums - 6]), &sums.device(), FloatDType::F32);
        let square = |x: FloatTensor<Self>| Self::float_sum(Self::float_mul(x.clone(), x));
        let squares = [a, b, c, d, e, f].map(|x| reshaped::<Self, 1>(square(x), [1]));
        let new = squares.into_iter().chain([rest]).collect();
        Self::float_add(sums, Self::float_cat(new, 0))
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

    /// Whether each position, `[B, 1, R, S']`, is before the start of the query. `starts` is `[B, T]`.
    fn is_before_start<B: Backend>(&self, starts: FloatTensor<B>, n_seen: usize) -> BoolTensor<B> {
        let (device, batch) = (starts.device(), starts.shape()[0]);
        let starts = narrow::<B>(starts, 1, self.first..self.first + self.n_rows);
        let starts = reshaped::<B, 4>(starts, [batch, 1, self.n_rows, 1]);
        let positions = B::int_into_float(arange::<B>(0..n_seen, &device), FloatDType::F32);
        let positions = reshaped::<B, 4>(positions, [1, 1, 1, n_seen]);
        let shape = Shape::new([batch, 1, self.n_rows, n_seen]);
        let [positions, starts] = [positions, starts].map(|x| B::float_expand(x, shape.clone()));
        B::float_lower(positions, starts, get_device_settings::<B>(&device).bool_dtype)
    }
}

/// Whether a scale, `[1]`, is NaN, for each element of a shape.
fn is_nan<B: Backend>(scale: FloatTensor<B>, shape: Shape) -> BoolTensor<B> {
    let booleans = get_device_settings::<B>(&scale.device()).bool_dtype;
    let ones = Shape::from(vec![1; shape.num_dims()]);
    B::bool_expand(B::bool_reshape(B::float_is_nan(scale, booleans), ones), shape)
}

/// Applies a mask to rows.
fn dropped_rows<B: Backend>(x: FloatTensor<B>, mask: Mask) -> FloatTensor<B> {
    let [n_rows, n_columns] = x.shape().dims();
    let is_dropped = is_dropped::<B>(mask, arange::<B>(0..n_rows, &x.device()), n_columns);
    drop_out::<B>(x, is_dropped, mask)
}

/// The softmax of the scaled scores over the visible positions, `[B, H, R, S']`.
fn softmax<B: Backend>(scores: FloatTensor<B>, starts: FloatTensor<B>, chunk: &ScoreChunk) -> FloatTensor<B> {
    let (shape, device) = (scores.shape(), scores.device());
    let n_seen = shape[3];
    let is_future = chunk.is_future::<B>(n_seen, &device);
    let is_future = B::bool_reshape(is_future, Shape::new([1, 1, chunk.n_rows, n_seen]));
    let mut scores = B::float_mul_scalar(as_f32::<B>(scores), chunk.scale.into());
    let hide = |scores, hidden| {
        B::float_mask_fill(scores, B::bool_expand(hidden, shape.clone()), f32::NEG_INFINITY.into())
    };
    scores = hide(scores, is_future);
    if chunk.has_starts {
        scores = hide(scores, chunk.is_before_start::<B>(starts, n_seen));
    }
    let largest = B::float_max_dim(scores.clone(), 3);
    let weights = B::float_exp(B::float_sub(scores, largest));
    let sums = B::float_sum_dim(weights.clone(), 3);
    B::float_div(weights, sums)
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
pub(super) fn product_shape(x: &Shape, y: &Shape) -> Shape {
    let mut shape = x.clone();
    let last = shape.num_dims() - 1;
    shape[last] = y[last];
    shape
}

#[cfg(feature = "gpu")]
fn head_specs(
    qkv: &TensorSpec,
    _gains: &TensorSpec,
    _angles: &TensorSpec,
    split: &HeadSplit,
) -> (TensorSpec, TensorSpec, TensorSpec) {
    let [batch, time, width] = qkv.shape.dims();
    let heads = |n: usize| {
        let shape = Shape::new([batch, n, time, split.head_dim(width)]);
        TensorSpec::new(shape, operand_type(split.precision).into())
    };
    (heads(split.n_head), heads(split.n_kv_head), heads(split.n_kv_head))
}

#[cfg(feature = "gpu")]
fn channel_specs(
    d_queries: &TensorSpec,
    _d_keys: &TensorSpec,
    _d_values: &TensorSpec,
    _qkv: &TensorSpec,
    _gains: &TensorSpec,
    _angles: &TensorSpec,
    split: &HeadSplit,
) -> (TensorSpec, TensorSpec) {
    let [batch, n_head, time, head_dim] = d_queries.shape.dims();
    let channels = Shape::new([batch, time, (n_head + 2 * split.n_kv_head) * head_dim]);
    let channels = TensorSpec::new(channels, operand_type(split.channels).into());
    (channels, TensorSpec::new(Shape::new([2, head_dim]), DType::F32))
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
    _starts: &TensorSpec,
    chunk: &ScoreChunk,
) -> (TensorSpec, TensorSpec) {
    let spec = TensorSpec::new(scores.shape.clone(), operand_type(chunk.precision).into());
    (spec.clone(), spec)
}

#[cfg(feature = "gpu")]
fn channels_shape(heads: &Shape, time: usize) -> Shape {
    let [batch, n_head, _, head_dim] = heads.dims();
    Shape::new([batch, time, n_head * head_dim])
}

#[cfg(feature = "gpu")]
fn heads_shape(x: &Shape, n_head: usize) -> Shape {
    let [batch, time, width] = x.dims();
    Shape::new([batch, n_head, time, width / n_head])
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
fn momentum_specs(
    _gradient: &TensorSpec,
    mean: &TensorSpec,
    _scale: &TensorSpec,
    _momentum: &f32,
) -> (TensorSpec, TensorSpec) {
    (mean.clone(), mean.clone())
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
