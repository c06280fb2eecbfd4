/// The logits of the next token.
#[derive(Debug, Clone, PartialEq)]
pub enum Logits {
    /// One for each token of the vocabulary.
    All(Vec<f32>),
    /// Those of some tokens, with their ids in ascending order. What is drawn is what all would give if the
    /// [`Options::n_best`](crate::Options::n_best) largest are among them, of equal ones those with the lower ids.
    Best(Vec<(u32, f32)>),
}

impl From<Vec<f32>> for Logits {
    fn from(logits: Vec<f32>) -> Self {
        Self::All(logits)
    }
}
