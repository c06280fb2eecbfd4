//! A run that is resumed: its checkpoint, and the changes of its recipe.

use std::{fs, io, path::Path, time::SystemTime};

use anyhow::{Context, bail};
use burn::prelude::Device;
use checkpoint::{RunFolder, TrainerState};
use dataset::Prepared;
use trainer::{Changes, Ending, Recipe, Training, ending, preset};

use super::{
    Args, Begun,
    same_text::same_text,
    short::{first_steps, overrides, steps_of},
};
use crate::{
    card,
    console::{plural, program, quoted, report, warn},
    history::History,
    memory,
    plan::{self, PlannedData},
    plot::update_pictures,
    prepare::{checksums, with_absolute_paths},
    recipe::parse,
    run_paths::{newest, open, run_path},
    usage::{ResultExt, bail_usage},
    words::{further, report_data, resume_command},
};

/// A run that is ready to resume, and the changes of its recipe; with `--dry-run` prints its plan and changes nothing.
pub(super) fn resume(args: &Args, devices: &[Device]) -> anyhow::Result<Option<Begun>> {
    let folder = match &args.run {
        Some(path) => open(&run_path(path))?,
        None => newest()?,
    };
    let before = recipe_of(&folder)?;
    if let Some(named) = &args.subject {
        check_own_recipe(&folder, named)?;
    }
    if args.dry_run {
        let state = folder.load_checkpoint()?.map(|checkpoint| checkpoint.state);
        let Planned { recipe, prepared, .. } = plan(args, &folder, &before, state.as_ref(), devices.len())?;
        let step = state.map_or(0, |state| state.step);
        plan::print(&recipe, &PlannedData::of(&prepared), step, args.device.is_cpu())?;
        return Ok(None);
    }
    let lock = folder.lock()?;
    folder.remove_unfinished()?;
    let checkpoint = folder.load_checkpoint()?;
    // The first checkpoint comes before the first step.
    if checkpoint.is_none() && History::open(folder.clone())?.metrics.iter().any(|line| line.step > 0) {
        return Err(checkpoint::Error::NoCheckpoint { path: folder.path().to_owned() }.into());
    }
    let state = checkpoint.as_ref().map(|checkpoint| &checkpoint.state);
    if state.is_some_and(|state| ending(&before, state).is_some()) {
        update_pictures(&folder)?; // It may have been killed before its last words.
        card::write(&folder, &devices[0])?;
    }
    let Planned { recipe, changes, prepared } = plan(args, &folder, &before, state, devices.len())?;
    report_data(&recipe.data, &prepared);
    if args.device.is_cpu() {
        memory::check_resumed(&recipe)?;
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
    if recipe != before {
        folder.save_recipe(&recipe.to_toml())?; // Before the session is logged.
    }
    let data = checksums(&prepared);
    let Prepared { train, valid, .. } = prepared;
    let resume = checkpoint;
    let (device, more_devices) = (devices[0].clone(), devices[1..].to_vec());
    let training = Training { recipe, folder, lock, model, train, valid, data, resume, device, more_devices };
    Ok(Some(Begun { training, changes }))
}

/// What a run resumes with.
struct Planned {
    recipe: Recipe,
    changes: Changes,
    prepared: Prepared,
}

/// The recipe that a run resumes with, and its tokens. A run that is over, another text and a learning rate of 0 are refused.
fn plan(
    args: &Args,
    folder: &RunFolder,
    before: &Recipe,
    state: Option<&TrainerState>,
    n_devices: usize,
) -> anyhow::Result<Planned> {
    let (mut recipe, mut changes) = changed(args, folder, before, &first_steps(args))?;
    refuse_ended(args, folder, &recipe, state)?; // Before a text is read.
    let prepared = same_text(args, folder, before, &recipe, state)?;
    if let Some(epochs) = args.short.epochs {
        let steps = steps_of(epochs, &recipe, &prepared)?;
        (recipe, changes) = changed(args, folder, before, &[steps])?;
        refuse_ended(args, folder, &recipe, state)?;
    }
    recipe.check_shares(n_devices).usage()?;
    // An unchanged plan of this kind is that of an older version, and resumes as it would have; a warning says so.
    if (&recipe.schedule, &recipe.optimizer) != (&before.schedule, &before.optimizer) {
        recipe.check_plan().usage()?;
    }
    let recipe = recipe.resumed_at(before, state.map_or(0, |state| state.step));
    Ok(Planned { recipe, changes, prepared })
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
        recipe.data = with_absolute_paths(recipe.data, &args.data_dir.data_dir)?;
    }
    let changes = before.changes_to(&recipe).usage()?;
    Ok((with_vocabulary(folder, recipe)?, changes))
}

/// The recipe with the vocabulary size of the run's model, which no key of a recipe holds.
fn with_vocabulary(folder: &RunFolder, mut recipe: Recipe) -> anyhow::Result<Recipe> {
    recipe.model.vocab_size = folder.config()?.vocab_size;
    Ok(recipe)
}

/// Accepts the recipe that a run was begun with, by its name or its path, and the run's own `recipe.toml`, which counts.
fn check_own_recipe(folder: &RunFolder, named: &str) -> anyhow::Result<()> {
    let is_same_file = |one: &Path, other: &Path| match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        // A relative path means nothing in another folder, so only the file names are compared.
        (Err(_), _) => one.file_name() == other.file_name(),
        _ => false,
    };
    let (own_file, named_file) = (folder.recipe_path(), Path::new(named));
    let history = History::open(folder.clone())?;
    let Some(begun_with) = history.recipe_name() else { return Ok(()) };
    let is_own = begun_with == named
        || is_same_file(&own_file, named_file)
        || (preset(begun_with).is_none() && is_same_file(Path::new(begun_with), named_file));
    let path = folder.path().display();
    if !is_own {
        bail_usage!(
            "{path} was begun with the recipe {begun_with}, not {named}. Leave the recipe out to resume the run, or --resume to \
             start another"
        );
    }
    let started = history.sessions.first().map_or(0, |session| session.started);
    let changed = fs::metadata(named_file).and_then(|file| file.modified()).ok();
    let changed = changed.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    if preset(named).is_none()
        && !is_same_file(&own_file, named_file)
        && changed.is_some_and(|time| time.as_secs() > started)
    {
        warn(format_args!(
            "{named} was changed after {path} began. Its own {} counts; change a key with --set",
            own_file.display()
        ));
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
fn refuse_ended(
    args: &Args,
    folder: &RunFolder,
    recipe: &Recipe,
    state: Option<&TrainerState>,
) -> anyhow::Result<()> {
    let Some(state) = state else { return Ok(()) };
    let (path, resume) = (folder.path().display(), resume_command(folder, &args.data_dir));
    match ending(recipe, state) {
        Some(Ending::Finished) => bail!(
            "{path} has done its {}; to train further: {resume}{}",
            plural(state.step, "step"),
            further(recipe, state.step)
        ),
        Some(Ending::StoppedEarly) => bail!(
            "{path} has stopped at step {}, after {} without a better loss; to train further: {resume} --set \
             guards.patience={}",
            state.step,
            plural(state.evaluations_since_best, "evaluation"),
            2 * state.evaluations_since_best
        ),
        Some(Ending::Interrupted) | None => Ok(()),
    }
}
