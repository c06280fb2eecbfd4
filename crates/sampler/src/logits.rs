/// The logits of the next token.
#[derive(Debug, Clone, PartialEq)]
pub enum Logits {
    /// One logit for each token of the vocabulary.
    All(Vec<f32>),
    /// The logits of some tokens, with ids in ascending order. The result equals that of all logits if these include
    /// the [`Options::n_best`](crate::Options::n_best) largest, with ties broken by the lower id.
    Best(Vec<(u32, f32)>),
}

impl From<Vec<f32>> for Logits {
    fn from(logits: Vec<f32>) -> Self {
        Self::All(logits)
    }
}
