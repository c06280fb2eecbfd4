//! Affine maps.

use burn::prelude::*;

/// `x · weight + bias`, over the last axis of `x`.
///
/// The other axes are flattened into one around the product. A batched product would be one small
/// product per sequence, each packing the weight again; one tall product packs it once.
///
/// # Shapes
///
/// - `x`: `[.., C_in]`
/// - `weight`: `[C_in, C_out]`
/// - `bias`: `[C_out]`
/// - output: `[.., C_out]`
///
/// # Panics
///
/// If the last axis of `x` is not the first of `weight`.
pub fn linear<const D: usize>(x: Tensor<D>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<D> {
    let mut shape = x.dims();
    let [d_in, d_out] = weight.dims();
    assert_eq!(shape[D - 1], d_in, "the input is {} wide and the weight takes {d_in}", shape[D - 1]);
    let n_rows = shape[..D - 1].iter().product();
    shape[D - 1] = d_out;

    let y = x.reshape([n_rows, d_in]).matmul(weight); // [rows, C_out]
    match bias {
        Some(bias) => y + bias.unsqueeze(),
        None => y,
    }
    .reshape(shape)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, Tolerance};

    use super::*;
    use crate::test_device;

    #[test]
    fn equals_the_batched_product() {
        let device = test_device();
        device.seed(1);
        let x = Tensor::<3>::random([2, 32, 3], Distribution::Default, &device);
        let weight = Tensor::<2>::random([3, 5], Distribution::Default, &device);
        let bias = Tensor::<1>::random([5], Distribution::Default, &device);

        let batched = x.clone().matmul(weight.clone().unsqueeze()) + bias.clone().unsqueeze();
        let flat = linear(x.clone(), weight.clone(), Some(bias));
        flat.into_data().assert_approx_eq::<f32>(&batched.to_data(), Tolerance::default());

        let unbiased = linear(x, weight, None);
        assert_ne!(unbiased.into_data(), batched.into_data());
    }

    #[test]
    #[should_panic(expected = "the input is 3 wide and the weight takes 4")]
    fn widths_must_agree() {
        let device = test_device();
        let _ = linear(Tensor::<2>::ones([2, 3], &device), Tensor::ones([4, 5], &device), None);
    }
}
