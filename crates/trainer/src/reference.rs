//! The reference of preference tuning: the margin of each pair by the initial model. It is computed once, before the
//! first step, and kept in the run folder.

use std::sync::Arc;

use checkpoint::RunFolder;
use dataset::{Examples, PackedRows};
use kernels::on_device_thread;
use model::Gpt;
use ranks::Group;

use crate::{Control, Error, Recipe, TrainingData, batches::Batches, training_data::step_shape};

/// The pairs with their reference, computed with the initial model. Other data does not change. `None` if a stop is
/// requested meanwhile.
///
/// # Errors
///
/// If a pair is longer than a block.
pub(crate) fn with_reference(
    data: TrainingData,
    recipe: &Recipe,
    gpt: &Gpt,
    control: &Control,
) -> Result<Option<TrainingData>, Error> {
    let TrainingData::Pairs { train, valid, reference: None } = data else { return Ok(Some(data)) };
    let mut parts: [Arc<[f64]>; 2] = Default::default();
    for (part, examples) in parts.iter_mut().zip([&train, &valid]) {
        let Some(differences) = of_pairs(examples, recipe, gpt, control)? else { return Ok(None) };
        *part = differences.into();
    }
    Ok(Some(TrainingData::Pairs { train, valid, reference: Some(parts) }))
}

/// As [`with_reference`], but reads the reference from the run folder if an earlier session has computed it, and else
/// writes it there. Rank 0 sends it to the others. `step` is the number of steps done; `starts` gets the number of pairs
/// before a computation.
///
/// # Errors
///
/// If the run has done steps and its reference is missing, or belongs to other data; if it can't be written; or if another
/// rank has failed.
pub(crate) fn with_kept_reference(
    data: TrainingData,
    recipe: &Recipe,
    (folder, checksums, step): (&RunFolder, &[String; 2], u64),
    gpt: &Gpt,
    (control, group): (&Control, &dyn Group),
    starts: impl FnOnce(usize),
) -> Result<Option<TrainingData>, Error> {
    let TrainingData::Pairs { train, valid, .. } = data else { return Ok(Some(data)) };
    if group.index() > 0 {
        let values = decode(&group.broadcast(Vec::new(), 0)?);
        let Some((of_train, of_valid)) = values.split_at_checked(train.len() / 2) else { return Ok(None) };
        let reference = Some([of_train, of_valid].map(Arc::from));
        return Ok(Some(TrainingData::Pairs { train, valid, reference }));
    }
    let data = kept_or_computed([train, valid], recipe, (folder, checksums, step), gpt, control, starts)?;
    let parts = match &data {
        Some(TrainingData::Pairs { reference: Some(parts), .. }) => &parts[..],
        _ => &[],
    };
    group.broadcast(
        parts.iter().flat_map(|part| part.iter()).flat_map(|value| value.to_le_bytes()).collect(),
        0,
    )?;
    Ok(data)
}

/// The numbers of rank 0; none if it was asked to stop.
fn decode(bytes: &[u8]) -> Vec<f64> {
    bytes.as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect()
}

/// The pairs with their reference from the run folder, or else computed. `None` if a stop is requested meanwhile.
fn kept_or_computed(
    [train, valid]: [Arc<Examples>; 2],
    recipe: &Recipe,
    (folder, checksums, step): (&RunFolder, &[String; 2], u64),
    gpt: &Gpt,
    control: &Control,
    starts: impl FnOnce(usize),
) -> Result<Option<TrainingData>, Error> {
    if let Some(kept) = folder.load_reference(checksums)? {
        let reference = Some(kept.map(Arc::from));
        return Ok(Some(TrainingData::Pairs { train, valid, reference }));
    }
    if step > 0 {
        return Err(folder.without_reference().into());
    }
    starts((train.len() + valid.len()) / 2);
    let data = TrainingData::Pairs { train, valid, reference: None };
    let data = with_reference(data, recipe, gpt, control)?;
    if let Some(TrainingData::Pairs { reference: Some([train, valid]), .. }) = &data {
        folder.save_reference([&train[..], &valid[..]], checksums)?;
    }
    Ok(data)
}

/// For each pair, in the order of the data, the log-probability of the preferred answer less that of the other one.
fn of_pairs(
    examples: &Arc<Examples>,
    recipe: &Recipe,
    gpt: &Gpt,
    control: &Control,
) -> Result<Option<Vec<f64>>, Error> {
    let rows = PackedRows::of_pairs(examples.clone(), step_shape(recipe), recipe.run.seed)?;
    let batches = rows.in_batches(usize::MAX, recipe.optimizer.batch_size.get());
    let mut all = vec![0.0; examples.len() / 2];
    for batch in Batches::of(batches, &gpt.device()) {
        if control.should_stop() {
            return Ok(None);
        }
        for (idx, difference) in on_device_thread(&gpt.device(), || batch.differences(gpt)) {
            all[idx] = difference;
        }
    }
    Ok(Some(all))
}
