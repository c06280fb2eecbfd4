//! Losses and log-probabilities of targets.

use burn::prelude::*;

use crate::Gpt;

/// The targets of a batch: the token after each position, or some of these.
#[derive(Debug, Clone)]
pub struct Targets {
    /// `[B, T]`
    ids: Tensor<2, Int>,
    /// `[N]`, indices in `[B · T]`; `None` for all.
    selected: Option<Tensor<1, Int>>,
}

impl Targets {
    /// All targets, `[B, T]`, each below V.
    pub fn all(ids: Tensor<2, Int>) -> Self {
        Self { ids, selected: None }
    }

    /// The targets with indices `selected`, `[N]`, of those in `ids`, `[B, T]`. The head is computed for these alone.
    pub fn some(ids: Tensor<2, Int>, selected: Tensor<1, Int>) -> Self {
        Self { ids, selected: Some(selected) }
    }

    /// The token after each position, `[B, T]`.
    pub fn ids(&self) -> Tensor<2, Int> {
        self.ids.clone()
    }

    /// The hidden vectors before the targets, `[N, C]`, and the targets, `[N]`.
    fn select(self, hidden: Tensor<3>) -> (Tensor<2>, Tensor<1, Int>) {
        let [batch, time, width] = hidden.dims();
        assert_eq!(self.ids.dims(), [batch, time], "targets and hidden vectors differ in rows");
        let (hidden, ids) = (hidden.reshape([batch * time, width]), self.ids.reshape([batch * time]));
        match self.selected {
            None => (hidden, ids),
            Some(selected) => (hidden.select(0, selected.clone()), ids.select(0, selected)),
        }
    }
}

impl Gpt {
    /// The mean cross-entropy loss of all targets, in nats.
    ///
    /// # Shapes
    ///
    /// - `tokens`, `targets`: `[B, T]`, with T ≤ `block_size`
    /// - output: `[1]`
    ///
    /// # Panics
    ///
    /// If `tokens` is longer than `block_size`.
    pub fn loss(&self, tokens: Tensor<2, Int>, targets: Tensor<2, Int>) -> Tensor<1> {
        self.head_loss(self.hidden(tokens, None), Targets::all(targets))
    }

    /// The log-probability of each target given the tokens up to it. The full logits are never in memory.
    ///
    /// # Shapes
    ///
    /// - `tokens`, `targets`: `[B, T]`, with T ≤ `block_size`
    /// - output: `[B, T]`
    ///
    /// # Panics
    ///
    /// If `tokens` is longer than `block_size`.
    pub fn logprobs(&self, tokens: Tensor<2, Int>, targets: Tensor<2, Int>) -> Tensor<2> {
        let shape = tokens.dims();
        self.head_logprobs(self.hidden(tokens, None), Targets::all(targets)).reshape(shape)
    }

    /// The mean cross-entropy loss of targets after their [hidden vectors](Gpt::hidden), in nats.
    ///
    /// # Shapes
    ///
    /// - `hidden`: `[B, T, C]`
    /// - output: `[1]`
    ///
    /// # Panics
    ///
    /// If targets and hidden vectors differ in rows.
    pub fn head_loss(&self, hidden: Tensor<3>, targets: Targets) -> Tensor<1> {
        let (hidden, targets) = targets.select(hidden);
        self.head().loss(hidden, targets, self.precision())
    }

    /// The log-probabilities of targets after their [hidden vectors](Gpt::hidden), without gradients.
    ///
    /// # Shapes
    ///
    /// - `hidden`: `[B, T, C]`
    /// - output: `[N]`
    ///
    /// # Panics
    ///
    /// If targets and hidden vectors differ in rows.
    pub fn head_logprobs(&self, hidden: Tensor<3>, targets: Targets) -> Tensor<1> {
        let (hidden, targets) = targets.select(hidden);
        self.head().logprobs(hidden, targets, self.precision())
    }

    /// The sum of the negative log-probability of each target times its weight. `weigh` computes the weights from the
    /// log-probabilities, and has no gradient itself. So any loss that depends on log-probabilities alone gets its exact
    /// gradient from one pass: the weights are its derivatives.
    ///
    /// # Shapes
    ///
    /// - `hidden`: `[B, T, C]`, see [`Gpt::hidden`]
    /// - `weigh`: from N log-probabilities to N weights
    /// - output: `[1]`
    ///
    /// # Panics
    ///
    /// If targets and hidden vectors differ in rows, or there are not N weights.
    pub fn head_weighted_loss(
        &self,
        hidden: Tensor<3>,
        targets: Targets,
        weigh: impl FnOnce(&[f32]) -> Vec<f32>,
    ) -> Tensor<1> {
        let (hidden, targets) = targets.select(hidden);
        let logprobs = self.head().logprobs(hidden.clone(), targets.clone(), self.precision());
        let logprobs: Vec<f32> = logprobs.into_data().try_into_vec().expect("log-probabilities are f32");
        self.head().weighted_loss(hidden, targets, weigh(&logprobs), self.precision())
    }
}
