//! Linear layers, alone and fused with the operations that commonly follow them.

use burn::{backend::Dispatch, prelude::*};

use crate::{
    Activation, LowRank, Precision, UpdatedWeight, Weight, activate,
    device::{count_gpu_path, is_fused, is_operand_on_gpu},
    dropout::{self, dropout},
    fused::{Affine, FusedOps},
    gpu::GpuOps,
    low_rank::Stacked,
    missing::missing,
    precision::{as_f32, product},
};

/// `x · weightᵀ + bias`, over the last axis of `x`, with the weight's low-rank updates.
///
/// # Shapes
///
/// - `x`: `[.., C_in]`
/// - `weight`: `[C_out, C_in]`
/// - `bias`: `[C_out]`
/// - output: `[.., C_out]`
///
/// # Panics
///
/// If the last axes of `x` and `weight` differ, or an update does not fit the weight.
pub fn linear<'a, const D: usize>(
    x: Tensor<D>,
    weight: impl Into<UpdatedWeight<'a>>,
    bias: Option<Tensor<1>>,
    precision: Precision,
) -> Tensor<D> {
    let weight = weight.into();
    check(&x, &weight);
    if is_fused(&x) {
        let update_mask = dropout::mask(&x.device(), weight.dropout(), rows_per_sequence(&x));
        return fused(x, weight, bias, None, Affine { precision, update_mask, ..Affine::default() });
    }
    if is_operand_on_gpu(&x) && weight.updates.is_empty() {
        return linear_on_gpu(x, weight.weight, bias, precision);
    }
    plain(x, &weight, bias, precision)
}

/// [`linear`] for an output that is an operand of products, such as QKV channels. On GPUs, the output has the type of operands
/// in the precision if there are neither a bias nor updates.
///
/// # Shapes
///
/// As [`linear`].
///
/// # Panics
///
/// If the last axes of `x` and `weight` differ, or an update does not fit the weight.
pub fn linear_operand<'a, const D: usize>(
    x: Tensor<D>,
    weight: impl Into<UpdatedWeight<'a>>,
    bias: Option<Tensor<1>>,
    precision: Precision,
) -> Tensor<D> {
    let weight = weight.into();
    if is_operand_on_gpu(&x) && weight.updates.is_empty() && bias.is_none() {
        check(&x, &weight);
        return product_on_gpu(x, weight.weight, precision, precision);
    }
    linear(x, weight, bias, precision)
}

/// [`activate`] of [`linear`]. On GPUs, the output has the type of operands in the precision if there are neither a bias nor
/// updates.
///
/// # Shapes
///
/// As [`linear`].
///
/// # Panics
///
/// If the last axes of `x` and `weight` differ, or an update does not fit the weight.
pub fn linear_activate<'a, const D: usize>(
    x: Tensor<D>,
    weight: impl Into<UpdatedWeight<'a>>,
    bias: Option<Tensor<1>>,
    activation: Activation,
    precision: Precision,
) -> Tensor<D> {
    let weight = weight.into();
    check(&x, &weight);
    if is_fused(&x) {
        let update_mask = dropout::mask(&x.device(), weight.dropout(), rows_per_sequence(&x));
        let affine = Affine { precision, activation: Some(activation), update_mask, ..Affine::default() };
        return fused(x, weight, bias, None, affine);
    }
    if is_operand_on_gpu(&x) && weight.updates.is_empty() && bias.is_none() {
        return activated_on_gpu(x, weight.weight, activation, precision);
    }
    activate(linear(x, weight, bias, precision), activation)
}

/// `residual` + [`dropout`] of [`linear`]: the end of a residual branch.
///
/// # Shapes
///
/// - `x`, `weight`, `bias`: as [`linear`]
/// - `residual`: `[.., C_out]`
/// - output: `[.., C_out]`
///
/// # Panics
///
/// If the last axes of `x` and `weight` differ, or an update does not fit the weight.
pub fn linear_residual<'a, const D: usize>(
    x: Tensor<D>,
    weight: impl Into<UpdatedWeight<'a>>,
    bias: Option<Tensor<1>>,
    dropout_probability: f64,
    residual: Tensor<D>,
    precision: Precision,
) -> Tensor<D> {
    let weight = weight.into();
    check(&x, &weight);
    if is_fused(&x) {
        // The dropout of low-rank updates has an earlier mask.
        let update_mask = dropout::mask(&x.device(), weight.dropout(), rows_per_sequence(&x));
        let mask = dropout::mask(&x.device(), dropout_probability, rows_per_sequence(&x));
        let affine = Affine { precision, mask, update_mask, ..Affine::default() };
        return fused(x, weight, bias, Some(residual), affine);
    }
    if is_operand_on_gpu(&x) && weight.updates.is_empty() && bias.is_none() {
        return residual_on_gpu(x, weight.weight, dropout_probability, residual, precision);
    }
    residual + dropout(linear(x, weight, bias, precision), dropout_probability)
}

/// The number of rows of a sequence: the sequences of a batch are on the first axis.
fn rows_per_sequence<const D: usize>(x: &Tensor<D>) -> usize {
    x.dims().get(1..D - 1).unwrap_or_default().iter().product()
}

fn check<const D: usize>(x: &Tensor<D>, weight: &UpdatedWeight<'_>) {
    let ([_, d_in], width) = (weight.weight.dims(), x.dims()[D - 1]);
    assert_eq!(width, d_in, "the input has {width} channels, but the weight takes {d_in}");
    weight.check();
}

fn fused<const D: usize>(
    x: Tensor<D>,
    weight: UpdatedWeight<'_>,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<D>>,
    mut affine: Affine,
) -> Tensor<D> {
    let [d_out, _] = weight.weight.dims();
    if let Some(bias) = &bias {
        assert_eq!(bias.dims(), [d_out], "bias and output differ in width");
    }
    if let Some(residual) = &residual {
        let mut expected = x.dims();
        expected[D - 1] = d_out;
        assert_eq!(residual.dims(), expected, "residual and output differ in shape");
    }
    let device = x.device();
    let none = || missing(&device).into_dispatch();
    let bias = bias.map_or_else(none, Tensor::into_dispatch);
    let residual = residual.map_or_else(none, Tensor::into_dispatch);
    let (a, b) = match weight.stacked() {
        Some(Stacked { a, b, shapes }) => {
            affine.updates = Some(shapes.into());
            (a.into_dispatch(), b.into_dispatch())
        }
        None => (none(), none()),
    };
    let weight = match weight.weight {
        Weight::Dense(weight) => weight.into_dispatch(),
        Weight::Blocks(blocks) => {
            affine.blocks = Some(blocks.clone());
            none()
        }
    };
    let y = <Dispatch as FusedOps>::linear(x.into_dispatch(), weight, bias, residual, a, b, affine);
    Tensor::from_dispatch(y)
}

/// [`linear`] without updates, with its own backward pass.
pub(crate) fn linear_on_gpu<const D: usize>(
    x: Tensor<D>,
    weight: Weight<'_>,
    bias: Option<Tensor<1>>,
    precision: Precision,
) -> Tensor<D> {
    let y = product_on_gpu(x, weight, precision, Precision::F32);
    match bias {
        Some(bias) => y + bias.unsqueeze(),
        None => y,
    }
}

/// `x · weightᵀ` with its own backward pass; the output has the type of operands in the precision `output`.
fn product_on_gpu<const D: usize>(
    x: Tensor<D>,
    weight: Weight<'_>,
    precision: Precision,
    output: Precision,
) -> Tensor<D> {
    count_gpu_path();
    let (mut shape, [d_out, d_in]) = (x.dims(), weight.dims());
    let weight = weight.dense(&x.device());
    let x = x.reshape([shape[..D - 1].iter().product(), d_in]);
    shape[D - 1] = d_out;
    let y = <Dispatch as GpuOps>::linear(x.into_dispatch(), weight.into_dispatch(), precision, output);
    Tensor::<2>::from_dispatch(y).reshape(shape)
}

/// [`linear_residual`] without updates and bias, with its own backward pass.
pub(crate) fn residual_on_gpu<const D: usize>(
    x: Tensor<D>,
    weight: Weight<'_>,
    dropout_probability: f64,
    residual: Tensor<D>,
    precision: Precision,
) -> Tensor<D> {
    count_gpu_path();
    let (shape, [d_out, d_in]) = (residual.dims(), weight.dims());
    let mask = dropout::mask(&x.device(), dropout_probability, rows_per_sequence(&x));
    let weight = weight.dense(&x.device());
    let [x, residual] = [(x, d_in), (residual, d_out)].map(|(x, width)| {
        let rows = Tensor::<D>::reshape::<2, _>(x, [-1, width.cast_signed()]);
        rows.into_dispatch()
    });
    let y = <Dispatch as GpuOps>::linear_residual(x, weight.into_dispatch(), residual, mask, precision);
    Tensor::<2>::from_dispatch(y).reshape(shape)
}

/// [`linear_activate`] without updates and bias, with its own backward pass. It keeps the input of the activation in the
/// precision of products.
pub(crate) fn activated_on_gpu<const D: usize>(
    x: Tensor<D>,
    weight: Weight<'_>,
    activation: Activation,
    precision: Precision,
) -> Tensor<D> {
    count_gpu_path();
    let (mut shape, [d_out, d_in]) = (x.dims(), weight.dims());
    let weight = weight.dense(&x.device());
    let x = x.reshape([shape[..D - 1].iter().product(), d_in]);
    shape[D - 1] = d_out / activation.n_inputs();
    let [x, weight] = [x.into_dispatch(), weight.into_dispatch()];
    let y = <Dispatch as GpuOps>::linear_activated(x, weight, activation, precision);
    Tensor::<2>::from_dispatch(y).reshape(shape)
}

/// The reference implementation. It flattens all axes but the last: a batched product would be a small product per
/// sequence, each packing the weight again.
fn plain<const D: usize>(
    x: Tensor<D>,
    UpdatedWeight { weight, updates, dropout: probability }: &UpdatedWeight<'_>,
    bias: Option<Tensor<1>>,
    precision: Precision,
) -> Tensor<D> {
    let mut shape = x.dims();
    let [d_out, d_in] = weight.dims();
    let weight = weight.dense(&x.device());
    let n_rows = shape[..D - 1].iter().product();
    shape[D - 1] = d_out;
    // Norms and activations on GPUs may give operands of products.
    let x = as_f32(x);

    let mut y = product(x.clone().reshape([n_rows, d_in]), weight.transpose(), precision); // [rows, C_out]
    if !updates.is_empty() {
        let x = dropout(x, *probability).reshape([n_rows, d_in]);
        y = updates.iter().fold(y, |y, update| update.add_to(y, x.clone(), precision));
    }
    match bias {
        Some(bias) => y + bias.unsqueeze(),
        None => y,
    }
    .reshape(shape)
}

impl LowRank {
    /// The reference implementation. Adds the update to the output of a layer.
    ///
    /// - `y`, output: `[rows, C_out]`
    /// - `x`: `[rows, C_in]`
    fn add_to(&self, y: Tensor<2>, x: Tensor<2>, precision: Precision) -> Tensor<2> {
        let Self { a, b, first_row, scale } = self.clone();
        let [n, _] = b.dims();
        let hidden = product(x, a.transpose(), precision); // [rows, R]
        let change = product(hidden, b.transpose(), precision) * scale;
        let columns = first_row..first_row + n;
        let changed = y.clone().slice(s![.., columns.clone()]) + change;
        y.slice_assign(s![.., columns], changed)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, Tolerance};

    use super::*;
    use crate::testing::{test_device, test_tolerance};

    #[test]
    fn equals_the_batched_product() {
        let device = test_device();
        device.seed(1);
        let x = Tensor::<3>::random([2, 32, 3], Distribution::Default, &device);
        let weight = Tensor::<2>::random([5, 3], Distribution::Default, &device);
        let bias = Tensor::<1>::random([5], Distribution::Default, &device);

        let batched = x.clone().matmul(weight.clone().transpose().unsqueeze()) + bias.clone().unsqueeze();
        let flat = linear(x.clone(), weight.clone(), Some(bias), Precision::F32);
        flat.into_data()
            .assert_approx_eq::<f32>(&batched.to_data(), Tolerance::absolute(test_tolerance(1e-6)));

        let unbiased = linear(x, weight, None, Precision::F32);
        assert_ne!(unbiased.into_data(), batched.into_data());
    }

    #[test]
    #[should_panic(expected = "the input has 3 channels, but the weight takes 4")]
    fn widths_must_agree() {
        let device = test_device();
        let _ =
            linear(Tensor::<2>::ones([2, 3], &device), Tensor::ones([5, 4], &device), None, Precision::F32);
    }
}
