//! The loss of a language model.

use burn::{prelude::*, tensor::activation::log_softmax};

/// The mean over all rows of `-ln softmax(logits)[target]`, in nats.
///
/// # Shapes
///
/// - `logits`: `[N, V]`
/// - `targets`: `[N]`, each below V
/// - output: `[1]`
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    log_softmax(logits, 1).gather(1, targets.unsqueeze_dim(1)).mean().neg()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_device;

    #[test]
    fn equal_logits_cost_the_logarithm_of_their_number() {
        let device = test_device();
        let loss = cross_entropy(Tensor::zeros([3, 7], &device), Tensor::from_ints([0, 3, 6], &device));
        assert!((loss.into_scalar::<f32>() - 7f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn gradient_is_softmax_minus_one_hot_over_n() {
        let device = test_device().autodiff();
        let logits = Tensor::<2>::from_floats([[1.0, 2.0, 0.5], [-1.0, 0.0, 300.0]], &device).require_grad();
        let loss = cross_entropy(logits.clone(), Tensor::from_ints([1, 2], &device));
        let gradient: Vec<f32> =
            logits.grad(&loss.backward()).expect("logits require it").into_data().try_into_vec().unwrap();

        let sum: f64 = [1.0, 2.0, 0.5].into_iter().map(f64::exp).sum();
        let expected = [1f64.exp() / sum, 2f64.exp() / sum - 1.0, 0.5f64.exp() / sum, 0.0, 0.0, 0.0];
        for (got, expected) in gradient.into_iter().zip(expected) {
            assert!((f64::from(got) - expected / 2.0).abs() < 1e-6, "{got} is not {}", expected / 2.0);
        }
    }
}
