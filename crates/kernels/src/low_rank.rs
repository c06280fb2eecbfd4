//! Low-rank updates of weights (LoRA).

use burn::prelude::*;
use cpu::LowRankShape;

use crate::{RowBlocks, Weight};

/// A low-rank update `scale · B · A` of a range of rows of a weight `[C_out, C_in]`
/// ([Hu et al., 2021](https://arxiv.org/abs/2106.09685)).
#[derive(Debug, Clone)]
pub struct LowRank {
    /// `[R, C_in]`
    pub a: Tensor<2>,
    /// `[rows, R]`
    pub b: Tensor<2>,
    pub first_row: usize,
    pub scale: f64,
}

/// The weight of a linear layer, with its low-rank updates. Each update may cover other rows; their sum counts where
/// they overlap.
#[derive(Debug, Clone)]
pub struct UpdatedWeight<'a> {
    pub weight: Weight<'a>,
    pub updates: Vec<LowRank>,
    /// In training, the probability of dropout of the input before A, the same for all updates.
    pub dropout: f64,
}

/// The updates of a layer as arguments of a fused operation.
pub(crate) struct Stacked {
    /// The matrices A, one below the other, `[ΣR, C_in]`.
    pub(crate) a: Tensor<2>,
    /// The elements of the matrices B, one after another.
    pub(crate) b: Tensor<1>,
    pub(crate) shapes: Vec<LowRankShape>,
}

impl UpdatedWeight<'_> {
    /// Panics if an update does not fit the weight.
    pub(crate) fn check(&self) {
        let [n_out, n_in] = self.weight.dims();
        for LowRank { a, b, first_row, .. } in &self.updates {
            let ([rank, width], [n_rows, b_rank]) = (a.dims(), b.dims());
            assert_eq!(rank, b_rank, "the matrices of a low-rank update must have the same rank");
            assert_eq!(width, n_in, "the update has {width} inputs and the weight has {n_in}");
            let end = first_row + n_rows;
            assert!(end <= n_out, "the update ends at row {end} and the weight has {n_out} rows");
        }
    }

    /// The probability of dropout before the updates; 0 without updates.
    pub(crate) fn dropout(&self) -> f64 {
        if self.updates.is_empty() { 0.0 } else { self.dropout }
    }

    /// `None` without updates.
    pub(crate) fn stacked(&self) -> Option<Stacked> {
        let shape = |LowRank { b, first_row, scale, .. }: &LowRank| {
            let [n, rank] = b.dims();
            #[expect(clippy::cast_possible_truncation, reason = "tensors are f32")]
            let scale = *scale as f32;
            LowRankShape { rank, first: *first_row, n, scale }
        };
        let flat = |update: &LowRank| update.b.clone().reshape([-1]);
        let (a, b) = match &self.updates[..] {
            [] => return None,
            [one] => (one.a.clone(), flat(one)),
            many => (
                Tensor::cat(many.iter().map(|update| update.a.clone()).collect(), 0),
                Tensor::cat(many.iter().map(flat).collect(), 0),
            ),
        };
        Some(Stacked { a, b, shapes: self.updates.iter().map(shape).collect() })
    }
}

impl<'a> From<Weight<'a>> for UpdatedWeight<'a> {
    fn from(weight: Weight<'a>) -> Self {
        Self { weight, updates: Vec::new(), dropout: 0.0 }
    }
}

impl From<Tensor<2>> for UpdatedWeight<'_> {
    fn from(weight: Tensor<2>) -> Self {
        Weight::from(weight).into()
    }
}

impl<'a> From<&'a RowBlocks> for UpdatedWeight<'a> {
    fn from(blocks: &'a RowBlocks) -> Self {
        Weight::from(blocks).into()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tolerance;
    use bytes::Bytes;
    use proptest::prelude::*;
    use quant::Format;

    use super::*;
    use crate::{
        Activation, Precision, RowBlock,
        agreement::{assert_agrees_within, assert_same, normal, output_and_gradients, seeded, shapes},
        linear, linear_activate, linear_residual, supported_precision,
        testing::{test_device, test_tolerance},
    };

    /// Updates of ranges that start at multiples of a third of the rows, and may overlap. `a` is `[ΣR, C_in]`, `b` is
    /// `[C_out, ΣR]`.
    fn updates(ranks: &[usize], n_out: usize, a: &Tensor<2>, b: &Tensor<2>) -> Vec<LowRank> {
        let mut first_rank = 0;
        let update = |(idx, &rank): (usize, &usize)| {
            let (ranks, first_row) = (first_rank..first_rank + rank, idx * n_out / 3);
            first_rank += rank;
            LowRank {
                a: a.clone().slice(s![ranks.clone(), ..]),
                b: b.clone().slice(s![first_row..(first_row + n_out / 2 + 1).min(n_out), ranks]),
                first_row,
                scale: 0.5 + idx as f64,
            }
        };
        ranks.iter().enumerate().map(update).collect()
    }

    proptest! {
        #![proptest_config(shapes())]

        #[test]
        fn fused_updates_agree_with_the_reference(
            n in 1usize..90,
            n_in in 1usize..40,
            half in 1usize..20,
            ranks in prop::collection::vec(1usize..9, 1..4),
            biased: bool,
            drops: bool,
            is_frozen: bool,
        ) {
            let (n_out, n_ranks) = (2 * half, ranks.iter().sum());
            let dropout = if drops { 0.3 } else { 0.0 };
            let inputs = || {
                [
                    normal([n, n_in], 1),
                    normal([n_out, n_in], 2),
                    normal([1, n_out], 3),
                    normal([n, n_out], 4),
                    normal([n_ranks, n_in], 5),
                    normal([n_out, n_ranks], 6),
                ]
            };
            let vector = |b: Tensor<2>| biased.then(|| b.reshape([n_out]));
            let updated = |w: Tensor<2>, a: &Tensor<2>, b: &Tensor<2>| {
                let weight = if is_frozen { w.detach() } else { w };
                UpdatedWeight { weight: weight.into(), updates: updates(&ranks, n_out, a, b), dropout }
            };
            // An update multiplies three values of order one, and activations multiply two such sums.
            let close = || Tolerance::rel_abs(test_tolerance(1e-4), test_tolerance(1e-4 * (n_in * n_ranks) as f32));
            assert_agrees_within(close(), inputs(), |[x, w, bias, _, a, b]| {
                seeded(|| linear(x, updated(w, &a, &b), vector(bias), Precision::F32))
            });
            assert_agrees_within(close(), inputs(), |[x, w, bias, residual, a, b]| {
                seeded(|| linear_residual(x, updated(w, &a, &b), vector(bias), dropout, residual, Precision::F32))
            });
            for activation in [Activation::Swiglu, Activation::Gelu] {
                assert_agrees_within(close(), inputs(), |[x, w, bias, _, a, b]| {
                    seeded(|| linear_activate(x, updated(w, &a, &b), vector(bias), activation, Precision::F32))
                });
            }
        }
    }

    #[test]
    fn an_update_equals_the_merged_weight() {
        let inputs = [normal([70, 9], 1), normal([12, 9], 2), normal([2, 9], 3), normal([12, 2], 4)];
        let close = Tolerance::rel_abs(test_tolerance(1e-4), test_tolerance(1e-4));
        let update = |[x, w, a, b]: [Tensor<2>; 4]| {
            let updates = vec![LowRank { a, b, first_row: 0, scale: 0.5 }];
            linear(x, UpdatedWeight { weight: w.into(), updates, dropout: 0.0 }, None, Precision::F32)
        };
        let merged = |[x, w, a, b]: [Tensor<2>; 4]| linear(x, w + b.matmul(a) * 0.5, None, Precision::F32);
        assert_same(close, &inputs, update, merged);
    }

    #[test]
    fn updates_of_quantised_weights_have_the_gradients_of_the_unpacked_weight() {
        let (n, n_in, n_out) = (70, 64, 10);
        // Scales of 2⁻⁵ and values from -8 to 7.
        let row = |row: usize| (0..2).flat_map(move |block| quantised_block(row + block));
        let data = Bytes::from((0..n_out).flat_map(row).collect::<Vec<u8>>());
        let blocks = RowBlocks::new(vec![RowBlock::quantised(data, [n_out, n_in], Format::Q8_0)]);
        let dense = blocks.dense(&test_device().autodiff());
        let inputs = [normal([n, n_in], 1), normal([5, n_in], 2), normal([n_out, 5], 3)];
        let layer = |weight: Weight<'_>, [x, a, b]: [Tensor<2>; 3]| {
            let updates = updates(&[2, 3], n_out, &a, &b);
            linear(x, UpdatedWeight { weight, updates, dropout: 0.0 }, None, Precision::F32)
        };
        let quantised = output_and_gradients(&inputs, |inputs| layer((&blocks).into(), inputs));
        let expected = output_and_gradients(&inputs, |inputs| layer(dense.clone().into(), inputs));
        // The CPU rounds activations to 8 bits: 64 products of values below 2, each off by at most 0.5 %.
        quantised[0].assert_approx_eq::<f32>(&expected[0], Tolerance::rel_abs(2e-2, 1e-1));
        let close = || Tolerance::<f32>::rel_abs(test_tolerance(1e-4), test_tolerance(1e-3));
        for (quantised, expected) in quantised[1..].iter().zip(&expected[1..]) {
            quantised.assert_approx_eq::<f32>(expected, close());
        }
    }

    /// A block of q8_0.
    fn quantised_block(seed: usize) -> impl Iterator<Item = u8> {
        let value = move |idx: usize| i8::try_from((seed * 7 + idx * 5) % 16).expect("below 16") - 8;
        [0x00, 0x28].into_iter().chain((0..32).map(move |idx| value(idx).to_ne_bytes()[0]))
    }

    #[test]
    fn updates_in_bf16_are_close_to_f32() {
        if supported_precision(Precision::Bf16, &test_device()) == Precision::F32 {
            return;
        }
        let inputs = [normal([70, 20], 1), normal([12, 20], 2), normal([5, 20], 3), normal([12, 5], 4)];
        let run = |precision| {
            output_and_gradients(&inputs, |[x, w, a, b]| {
                let updates = updates(&[2, 3], 12, &a, &b);
                let weight = UpdatedWeight { weight: w.into(), updates, dropout: 0.0 };
                linear_activate(x, weight, None, Activation::Gelu, precision)
            })
        };
        for (exact, rounded) in run(Precision::F32).iter().zip(&run(Precision::Bf16)) {
            assert_ne!(exact, rounded, "bf16 had no effect");
            // Sums of a hundred products of three values of order one, each rounded to 2⁻⁸.
            rounded.assert_approx_eq::<f32>(exact, Tolerance::rel_abs(5e-2, 1.0));
        }
    }

    #[test]
    fn outside_training_there_is_no_dropout() {
        let inputs = [normal([3, 9], 1), normal([12, 9], 2), normal([2, 9], 3), normal([12, 2], 4)];
        let [x, w, a, b] = inputs.map(Tensor::inner);
        let with = |dropout| {
            let updates = vec![LowRank { a: a.clone(), b: b.clone(), first_row: 0, scale: 1.0 }];
            let weight = UpdatedWeight { weight: w.clone().into(), updates, dropout };
            linear(x.clone(), weight, None, Precision::F32).into_data()
        };
        assert_eq!(with(0.5), with(0.0));
    }

    #[test]
    #[should_panic(expected = "the update ends at row 13 and the weight has 12 rows")]
    fn an_update_beyond_the_weight_is_refused() {
        let device = test_device();
        let updates = vec![LowRank {
            a: Tensor::ones([2, 9], &device),
            b: Tensor::ones([8, 2], &device),
            first_row: 5,
            scale: 1.0,
        }];
        let weight = Tensor::<2>::ones([12, 9], &device).into();
        linear(
            Tensor::<2>::ones([1, 9], &device),
            UpdatedWeight { weight, updates, dropout: 0.0 },
            None,
            Precision::F32,
        );
    }
}
