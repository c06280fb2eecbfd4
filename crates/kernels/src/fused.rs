//! The operations of the crate `cpu` as operations of Burn: forward here, where gradients are recorded in `backward`.

mod backward;
mod tensors;

use burn::backend::{
    Backend, Flex, backend_extension,
    flex::FlexTensor,
    tensor::{FloatTensor, IntTensor},
};
use cpu::{
    Activation, AdamWStep, MuonStep, NormKind, Precision, SimdLevel, adamw,
    attention::{self, HeadLayout},
    cross_entropy::{self, HeadWeight},
    dropout::Mask,
    embedding, linear,
    matrix::Matrix,
    muon, norm,
};

use self::tensors::{indices, numbers, rows, scalar, tensor, tensor_like, vector, whole, width};

/// How the weight of an affine map lies, and what follows the map.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Affine {
    /// Whether the weight is `[C_out, C_in]`.
    pub(crate) transposed: bool,
    pub(crate) precision: Precision,
    pub(crate) activation: Option<Activation>,
    /// Applies before the residual is added.
    pub(crate) mask: Option<Mask>,
}

/// Operations with a backward pass. A vector of no elements stands for one that is not there.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait FusedOps: Backend {
    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        affine: Affine,
    ) -> FloatTensor<Self>;

    fn causal_attention(
        qkv: FloatTensor<Self>,
        query_gain: FloatTensor<Self>,
        key_gain: FloatTensor<Self>,
        layout: HeadLayout,
        mask: Option<Mask>,
    ) -> FloatTensor<Self>;

    fn norm(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        offset: FloatTensor<Self>,
        kind: NormKind,
        epsilon: f32,
    ) -> FloatTensor<Self>;

    fn embed(
        tokens: FloatTensor<Self>,
        positions: FloatTensor<Self>,
        ids: IntTensor<Self>,
        first: usize,
        mask: Option<Mask>,
    ) -> FloatTensor<Self>;

    fn head_loss(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        by_rows: bool,
        precision: Precision,
    ) -> FloatTensor<Self>;
}

/// Operations that no gradient passes through.
#[backend_extension(Flex)]
pub(crate) trait InPlaceOps: Backend {
    fn adamw(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        step: AdamWStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// The output, the keys and the values.
    fn cached_attention(
        qkv: FloatTensor<Self>,
        query_gain: FloatTensor<Self>,
        key_gain: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        layout: HeadLayout,
        len: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// The parameters and the mean of gradients.
    fn muon(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        step: MuonStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    fn sum_of_squares(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl FusedOps for Flex {
    fn linear(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        residual: FlexTensor,
        affine: Affine,
    ) -> FlexTensor {
        linear_forward([&whole(x), &whole(weight), &whole(bias), &whole(residual)], affine, false).0
    }

    fn causal_attention(
        qkv: FlexTensor,
        query_gain: FlexTensor,
        key_gain: FlexTensor,
        layout: HeadLayout,
        mask: Option<Mask>,
    ) -> FlexTensor {
        attention_forward(&whole(qkv), &[query_gain, key_gain].map(whole), &layout, mask).0
    }

    fn norm(x: FlexTensor, gain: FlexTensor, offset: FlexTensor, kind: NormKind, epsilon: f32) -> FlexTensor {
        norm_forward(&whole(x), &whole(gain), &whole(offset), kind, epsilon).0
    }

    fn embed(
        tokens: FlexTensor,
        positions: FlexTensor,
        ids: FlexTensor,
        first: usize,
        mask: Option<Mask>,
    ) -> FlexTensor {
        embed_forward(&whole(tokens), &whole(positions), &ids, &indices(&ids), first, mask)
    }

    fn head_loss(
        hidden: FlexTensor,
        weight: FlexTensor,
        targets: FlexTensor,
        by_rows: bool,
        precision: Precision,
    ) -> FlexTensor {
        let level = SimdLevel::of(precision);
        scalar(loss_forward(level, &whole(hidden), &whole(weight), &indices(&targets), by_rows, false).mean)
    }
}

impl InPlaceOps for Flex {
    fn adamw(
        x: FlexTensor,
        gradient: FlexTensor,
        first: FlexTensor,
        second: FlexTensor,
        step: AdamWStep,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let (mut x, mut first, mut second) = (whole(x), whole(first), whole(second));
        let gradient = whole(gradient);
        let moments = [first.storage_mut(), second.storage_mut()];
        adamw::step(SimdLevel::best(), &step, x.storage_mut(), numbers(&gradient), moments);
        (x, first, second)
    }

    fn cached_attention(
        qkv: FlexTensor,
        query_gain: FlexTensor,
        key_gain: FlexTensor,
        keys: FlexTensor,
        values: FlexTensor,
        layout: HeadLayout,
        len: usize,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let (qkv, mut keys, mut values) = (whole(qkv), whole(keys), whole(values));
        let gains = [query_gain, key_gain].map(whole);
        let call = attention_call(&qkv, &gains, &layout, None);
        let cache = attention::Cache { keys: keys.storage_mut(), values: values.storage_mut(), len };
        let out = attention::cached(SimdLevel::best(), &call, cache);
        (tensor(out, call.sizes.output_shape()), keys, values)
    }

    fn muon(
        x: FlexTensor,
        gradient: FlexTensor,
        mean: FlexTensor,
        step: MuonStep,
    ) -> (FlexTensor, FlexTensor) {
        let (mut x, gradient, mut mean) = (whole(x), whole(gradient), whole(mean));
        let n_columns = width(&x);
        muon::step(
            SimdLevel::best(),
            &step,
            n_columns,
            x.storage_mut(),
            numbers(&gradient),
            mean.storage_mut(),
        );
        (x, mean)
    }

    fn sum_of_squares(x: FlexTensor) -> FlexTensor {
        #[expect(clippy::cast_possible_truncation, reason = "tensors are f32")]
        scalar(adamw::sum_of_squares(SimdLevel::best(), numbers(&whole(x))) as f32)
    }
}

/// The output of an affine map and of what follows it; with `backward` also the slopes of an activation. The
/// tensors are the input, the weight, the bias and the residual.
fn linear_forward(
    tensors: [&FlexTensor; 4],
    affine: Affine,
    backward: bool,
) -> (FlexTensor, Option<FlexTensor>) {
    let [x, weight, bias, residual] = tensors;
    let level = SimdLevel::of(affine.precision);
    let (input, matrix, bias) = (rows(x), matrix_of(weight, affine), numbers(bias));
    let shaped = |y: Vec<f32>| {
        let mut shape = x.layout().shape().clone();
        let last = shape.num_dims() - 1;
        shape[last] = matrix.cols() / affine.activation.map_or(1, Activation::n_inputs);
        tensor(y, shape)
    };
    if let Some(activation) = affine.activation {
        assert!(affine.mask.is_none() && numbers(residual).is_empty(), "only one of them follows a map");
        let (y, slopes) = linear::forward_activated(level, input, matrix, bias, activation, backward);
        return (shaped(y), slopes.map(|slopes| tensor(slopes, [input.rows(), matrix.cols()])));
    }
    if numbers(residual).is_empty() {
        return (shaped(linear::forward(level, input, matrix, bias)), None);
    }
    let y = linear::forward_onto(level, input, matrix, bias, numbers(residual), affine.mask);
    (shaped(y), None)
}

fn matrix_of(weight: &FlexTensor, affine: Affine) -> Matrix<'_> {
    if affine.transposed { rows(weight).transposed() } else { rows(weight) }
}

fn attention_call<'a>(
    qkv: &'a FlexTensor,
    gains: &'a [FlexTensor; 2],
    layout: &'a HeadLayout,
    mask: Option<Mask>,
) -> attention::Call<'a> {
    let shape = qkv.layout().shape();
    let HeadLayout { n_head, n_kv_head, .. } = *layout;
    let sizes = attention::Sizes {
        batch: shape[0],
        time: shape[1],
        n_head,
        n_kv_head,
        head_dim: shape[2] / (n_head + 2 * n_kv_head),
    };
    attention::Call { qkv: numbers(qkv), gains: gains.each_ref().map(numbers), layout, sizes, mask }
}

fn attention_forward(
    qkv: &FlexTensor,
    gains: &[FlexTensor; 2],
    layout: &HeadLayout,
    mask: Option<Mask>,
) -> (FlexTensor, FlexTensor) {
    let call = attention_call(qkv, gains, layout, mask);
    let (out, sums) = attention::forward(SimdLevel::best(), &call);
    (tensor(out, call.sizes.output_shape()), vector(sums))
}

fn norm_forward(
    x: &FlexTensor,
    gain: &FlexTensor,
    offset: &FlexTensor,
    kind: NormKind,
    epsilon: f32,
) -> (FlexTensor, FlexTensor) {
    let (y, moments) =
        norm::forward(SimdLevel::best(), kind, numbers(x), numbers(gain), numbers(offset), epsilon);
    (tensor_like(y, x), vector(moments))
}

fn embed_forward(
    tokens: &FlexTensor,
    positions: &FlexTensor,
    ids: &FlexTensor,
    index: &[usize],
    first: usize,
    mask: Option<Mask>,
) -> FlexTensor {
    check_ids(index, tokens.layout().shape()[0]);
    let shape = ids.layout().shape();
    let ([batch, time], width) = ([shape[0], shape[1]], width(tokens));
    let positions = numbers(positions);
    let positions =
        if positions.is_empty() { positions } else { &positions[first * width..(first + time) * width] };
    let y = embedding::forward(SimdLevel::best(), numbers(tokens), positions, width, index, time, mask);
    tensor(y, [batch, time, width])
}

fn loss_forward(
    level: SimdLevel,
    hidden: &FlexTensor,
    weight: &FlexTensor,
    targets: &[usize],
    by_rows: bool,
    backward: bool,
) -> cross_entropy::Loss {
    let weight = if by_rows { rows(weight) } else { rows(weight).transposed() };
    check_ids(targets, weight.rows());
    cross_entropy::loss(level, numbers(hidden), HeadWeight { weight, by_rows }, targets, backward)
}

fn check_ids(ids: &[usize], n_vocab: usize) {
    if let Some(id) = ids.iter().find(|&&id| id >= n_vocab) {
        panic!("token {id} is outside a vocabulary of {n_vocab}");
    }
}
