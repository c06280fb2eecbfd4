//! A run that is resumed: the changes of its recipe, its checkpoint, and the text it had.

use std::{fs, io, path::Path};

use anyhow::{Context, bail};
use burn::prelude::Device;
use checkpoint::{RunFolder, TrainerState};
use dataset::{Corpus, Prepared, TokenizerChoice};
use trainer::{Changes, Ending, Recipe, Training, ending, preset};

use super::{Args, Begun, checksums, short::overrides};
use crate::{
    card,
    console::{program, quoted, report, warn},
    history::History,
    memory,
    plan::{self, PlannedData},
    plot::update_pictures,
    prepare::{prepare, with_absolute_paths},
    recipe::{parse, read_recipe},
    run_paths::{newest, open, run_path},
    usage::{ResultExt, bail_usage},
};

/// The run to resume, and the changes of its recipe; with `--dry-run` prints its plan and changes nothing.
pub(super) fn resume(args: &Args, devices: &[Device]) -> anyhow::Result<Option<Begun>> {
    let folder = match &args.run {
        Some(path) => open(&run_path(path))?,
        None => newest()?,
    };
    let before = recipe_of(&folder)?;
    if let Some(named) = &args.subject {
        check_own_recipe(&folder, &before, named)?;
    }
    // A plan may be looked at while the run trains.
    let lock = (!args.dry_run).then(|| folder.lock()).transpose()?;
    if lock.is_some() {
        folder.remove_unfinished()?;
    }
    let checkpoint = folder.load_checkpoint()?;
    // The first checkpoint comes before the first step.
    if checkpoint.is_none() && History::open(folder.clone())?.metrics.iter().any(|line| line.step > 0) {
        return Err(checkpoint::Error::NoCheckpoint { path: folder.path().to_owned() }.into());
    }
    let state = checkpoint.as_ref().map(|checkpoint| &checkpoint.state);
    if let Some(state) = state
        && lock.is_some()
        && ending(&before, state).is_some()
    {
        update_pictures(&folder)?; // It may have been killed before its last words.
        card::write(&folder, &devices[0])?;
    }

    let (mut recipe, mut changes) = changed(args, &folder, &before, &[])?;
    if args.short.epochs.is_none() {
        refuse_ended(&folder, &recipe, state)?; // Before a text is read.
    }
    let prepared = same_text(args, &folder, &before, &recipe, state)?;
    let data = checksums(&prepared);
    if let Some(epochs) = args.short.epochs {
        let max_steps = recipe.steps_for(epochs, prepared.train.len());
        (recipe, changes) = changed(args, &folder, &before, &[format!("schedule.max_steps={max_steps}")])?;
        refuse_ended(&folder, &recipe, state)?;
    }
    recipe.check_shares(devices.len()).usage()?;
    let step = state.map_or(0, |state| state.step);
    let recipe = recipe.resumed_at(&before, step);
    // A run that had such a plan before resumes as it was, with a warning.
    if before.check_plan().is_ok() {
        recipe.check_plan().usage()?;
    }
    let Some(lock) = lock else {
        plan::print(&recipe, &PlannedData::of(&prepared), step, args.device.is_cpu())?;
        return Ok(None);
    };

    if args.device.is_cpu() {
        memory::check(&recipe)?;
    }
    if let Some(state) = state
        && !changes.is_empty()
    {
        keep_undone_weights(&folder, state)?;
    }
    let model = match &checkpoint {
        // It has the weights itself.
        Some(_) => recipe.model.zeros(&devices[0])?,
        // Cut off before its first checkpoint, it has those it started from.
        None => folder.load_model(&devices[0])?.with_dropout(recipe.model.dropout),
    };
    let recipe_changed = recipe != before;
    let Prepared { train, valid, .. } = prepared;
    let resume = checkpoint;
    let (device, more_devices) = (devices[0].clone(), devices[1..].to_vec());
    let training = Training { recipe, folder, lock, model, train, valid, data, resume, device, more_devices };
    Ok(Some(Begun { training, changes, recipe_changed }))
}

/// The tokens of a run's text, which may lie elsewhere than before, but is to be the same.
fn same_text(
    args: &Args,
    folder: &RunFolder,
    before: &Recipe,
    recipe: &Recipe,
    state: Option<&TrainerState>,
) -> anyhow::Result<Prepared> {
    let has_moved = recipe.data != before.data;
    let choice = TokenizerChoice::Given(folder.load_tokenizer()?);
    // Of two known corpora it is known that they differ, without a download.
    let are_two_corpora = before.data.corpus != recipe.data.corpus
        && [before, recipe].iter().all(|it| Corpus::find(&it.data.corpus).is_some());
    let failure = if are_two_corpora {
        None
    } else {
        match prepare(&recipe.data, &choice, &args.data_dir.data_dir) {
            Ok(prepared) if state.is_none_or(|state| state.data == checksums(&prepared)) => {
                return Ok(prepared);
            }
            Ok(_) => None,
            Err(error) => Some(error),
        }
    };
    let lacks_characters =
        |error: &anyhow::Error| matches!(error.downcast_ref(), Some(dataset::Error::UnknownCharacter { .. }));
    match failure {
        Some(error) if !has_moved => Err(error).with_context(|| {
            let origin = folder.recipe_path();
            format!("{} names a text that can't be used; if it has moved, add --data PATH (--valid PATH for one to validate on)", origin.display())
        }),
        Some(error) if !lacks_characters(&error) => Err(error),
        // Another text, by its checksum or its letters. A model can go on with it if it knows the letters.
        other => {
            let path = folder.path().display().to_string();
            let init_from = match other {
                None => format!(" --init-from {}", quoted(&path)),
                Some(_) => String::new(),
            };
            bail!(
                "{} is not the text that {path} has trained on; name that text, or start a new run on this one: {} train --data \
                 {}{init_from}",
                recipe.data.corpus,
                program(),
                quoted(&recipe.data.corpus)
            )
        }
    }
}

/// The recipe that a run has so far.
fn recipe_of(folder: &RunFolder) -> anyhow::Result<Recipe> {
    let path = folder.recipe_path();
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(
            "{} was not trained here and can't be resumed; start a run from its weights: {} train finetune --init-from {}",
            folder.path().display(),
            program(),
            quoted(&folder.path().display().to_string())
        ),
        text => text.with_context(|| format!("cannot read {}", path.display()))?,
    };
    with_vocabulary(folder, parse(&path.display().to_string(), &text, &[])?)
}

/// The recipe of a run with what the arguments change, and these changes.
fn changed(
    args: &Args,
    folder: &RunFolder,
    before: &Recipe,
    more: &[String],
) -> anyhow::Result<(Recipe, Changes)> {
    let path = folder.recipe_path().display().to_string();
    let mut recipe = parse(&path, &before.to_toml(), &[&overrides(args), more].concat())?;
    if recipe.data != before.data {
        recipe.data = with_absolute_paths(recipe.data)?;
    }
    let changes = before.changes_to(&recipe).usage()?;
    Ok((with_vocabulary(folder, recipe)?, changes))
}

/// A recipe with the vocabulary of the run's model, which is none of its keys.
fn with_vocabulary(folder: &RunFolder, mut recipe: Recipe) -> anyhow::Result<Recipe> {
    recipe.model.vocab_size = folder.config()?.vocab_size;
    Ok(recipe)
}

/// Accepts the name of the recipe that a run was begun with. What its own `recipe.toml` says counts.
fn check_own_recipe(folder: &RunFolder, before: &Recipe, named: &str) -> anyhow::Result<()> {
    let history = History::open(folder.clone())?;
    let Some(own) = history.recipe_name() else { return Ok(()) };
    let path = folder.path().display();
    if own != named && Path::new(own).file_name() != Path::new(named).file_name() {
        bail_usage!(
            "{path} was begun with the recipe {own}, not {named}; to resume it, leave the recipe out; to start a new run, leave \
             --resume out"
        );
    }
    if preset(named).is_none() && read_recipe(named, &[]).is_ok_and(|file| file.to_toml() != before.to_toml())
    {
        warn(format_args!("{named} differs from {path}/recipe.toml, which counts; change a key with --set"));
    }
    Ok(())
}

/// Keeps the best weights if they are of a step that a resume undoes. By the same recipe it would come back to them;
/// by another, others would be written over them.
fn keep_undone_weights(folder: &RunFolder, state: &TrainerState) -> anyhow::Result<()> {
    let history = History::open(folder.clone())?;
    let Some((best, loss)) = history.best().and_then(|line| Some((line, line.loss?))) else { return Ok(()) };
    if best.step > state.step && state.best_loss.is_none_or(|before| loss < before) {
        let copy = folder.keep_weights(best.step)?;
        report(format_args!(
            "the best weights so far, of step {} with a validation loss of {loss:.4}, are of a step that is undone; \
             they are kept in {}",
            best.step,
            copy.display()
        ));
    }
    Ok(())
}

/// Refuses to resume a run that is over.
fn refuse_ended(folder: &RunFolder, recipe: &Recipe, state: Option<&TrainerState>) -> anyhow::Result<()> {
    let Some(state) = state else { return Ok(()) };
    let path = folder.path().display().to_string();
    let resume = format!("{} train --resume --run {}", program(), quoted(&path));
    match ending(recipe, state) {
        Some(Ending::Finished) => bail!(
            "{path} has done its {} steps; to train further: {resume} --max-steps {}",
            state.step,
            (2 * state.step).max(1)
        ),
        Some(Ending::StoppedEarly) => bail!(
            "{path} has stopped at step {}, after {} evaluations without a better loss; to train further: {resume} --set \
             guards.patience={}",
            state.step,
            state.evaluations_since_best,
            2 * state.evaluations_since_best
        ),
        Some(Ending::Interrupted) | None => Ok(()),
    }
}
