//! The samples that a run trains and validates on.

use std::sync::Arc;

use dataset::{Example, Examples, PackedRows, RngStream, Samples, StepShape, Tokens, Windows};

use crate::{EvaluationSize, Recipe};

/// The training and validation parts of a run's data.
#[derive(Debug, Clone)]
pub enum TrainingData {
    /// A text: windows of it, all tokens of which are trained.
    Text { train: Arc<Tokens>, valid: Arc<Tokens> },
    /// Examples such as conversations, packed into rows.
    Examples { train: Arc<Examples>, valid: Arc<Examples> },
    /// Pairs of a preferred and another answer: examples 0 and 1, 2 and 3, and so on.
    Pairs {
        train: Arc<Examples>,
        valid: Arc<Examples>,
        /// The margins of the pairs of both parts by the initial model: how much more probable the preferred answer is, in
        /// nats. `None` until they are computed.
        reference: Option<[Arc<[f64]>; 2]>,
    },
}

impl TrainingData {
    /// Number of training tokens.
    pub fn n_train_tokens(&self) -> usize {
        match self {
            Self::Text { train, .. } => train.len(),
            Self::Examples { train, .. } | Self::Pairs { train, .. } => train.n_tokens(),
        }
    }

    /// The positions that one epoch processes. Packed rows are whole blocks, with padding.
    ///
    /// # Errors
    ///
    /// If an example is longer than a block, or there are no examples.
    pub fn tokens_per_epoch(&self, recipe: &Recipe) -> dataset::Result<usize> {
        match self {
            Self::Text { train, .. } => Ok(train.len()),
            Self::Examples { train, .. } => {
                let rows = PackedRows::new(train.clone(), step_shape(recipe), recipe.run.seed)?;
                Ok(rows.n_rows() * recipe.model.block_size)
            }
            Self::Pairs { train, .. } => {
                let rows = PackedRows::of_pairs(train.clone(), step_shape(recipe), recipe.run.seed)?;
                Ok(rows.n_rows() * recipe.model.block_size)
            }
        }
    }

    /// The starts of the first `n` validation examples, or pairs, up to their first trained token: the questions of
    /// conversations. Empty for a text.
    pub fn questions(&self, n: usize) -> Vec<Vec<u32>> {
        let question = |example: Example<'_>| {
            let end = example.trained.iter().position(|&it| it).expect("a token is trained");
            example.ids[..end].to_vec()
        };
        match self {
            Self::Text { .. } => Vec::new(),
            Self::Examples { valid, .. } => valid.iter().take(n).map(question).collect(),
            Self::Pairs { valid, .. } => valid.iter().step_by(2).take(n).map(question).collect(),
        }
    }

    /// The batches of the optimizer steps.
    ///
    /// # Errors
    ///
    /// If a text is shorter than a block, or an example longer, or there are no examples.
    pub(crate) fn training_samples(&self, recipe: &Recipe) -> dataset::Result<Samples> {
        let seed = recipe.run.seed;
        Ok(match self {
            Self::Text { train, .. } => {
                let (block_size, batch_size) = (recipe.model.block_size, recipe.optimizer.batch_size.get());
                Windows::new(train.clone(), block_size, batch_size, seed, RngStream::Train)?.into()
            }
            Self::Examples { train, .. } => PackedRows::new(train.clone(), step_shape(recipe), seed)?.into(),
            Self::Pairs { train, reference, .. } => {
                pairs(train, reference.as_ref().map(|[it, _]| it), recipe)?
            }
        })
    }

    /// The rows of evaluations.
    ///
    /// # Errors
    ///
    /// As [`TrainingData::training_samples`].
    pub(crate) fn validation_samples(&self, recipe: &Recipe) -> dataset::Result<Samples> {
        let seed = recipe.run.seed;
        Ok(match self {
            Self::Text { valid, .. } => {
                let batch_size = recipe.optimizer.batch_size.get();
                let n_rows = match recipe.schedule.evaluation_size() {
                    size @ EvaluationSize::Windows(_) => size.n_rows(batch_size),
                    EvaluationSize::Batches(_) => batch_size, // Each batch is sampled separately.
                };
                let block_size = recipe.model.block_size;
                Windows::new(valid.clone(), block_size, n_rows, seed, RngStream::Evaluate)?.into()
            }
            Self::Examples { valid, .. } => PackedRows::new(valid.clone(), step_shape(recipe), seed)?.into(),
            Self::Pairs { valid, reference, .. } => {
                pairs(valid, reference.as_ref().map(|[_, it]| it), recipe)?
            }
        })
    }
}

/// Rows of pairs.
///
/// # Panics
///
/// If the reference is not computed yet.
fn pairs(
    examples: &Arc<Examples>,
    reference: Option<&Arc<[f64]>>,
    recipe: &Recipe,
) -> dataset::Result<Samples> {
    let rows = PackedRows::of_pairs(examples.clone(), step_shape(recipe), recipe.run.seed)?;
    Ok(rows.with_reference(reference.expect("the reference is computed before training").clone()).into())
}

/// The shape of a recipe's optimizer step.
pub(crate) fn step_shape(recipe: &Recipe) -> StepShape {
    let n_batches = usize::try_from(recipe.optimizer.grad_accumulation.get()).unwrap_or(usize::MAX);
    StepShape {
        block_size: recipe.model.block_size,
        batch_size: recipe.optimizer.batch_size.get(),
        grad_accumulation: n_batches.try_into().expect("it is not zero"),
    }
}
