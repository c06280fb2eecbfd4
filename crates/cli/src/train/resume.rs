//! A run that is resumed, from arguments to the training that is left.

use burn::prelude::Device;
use checkpoint::TrainerState;
use console::report;
use dataset::Rules;
use journal::{update_pictures, write_card};
use monitor::{report_data, with_progress};
use trainer::{Changes, ResumePlan, ResumeRequest, StoppedRun, Training, ending};

use super::{args::Args, errors::explain, own_recipe::check_own_recipe};
use crate::{
    memory,
    model_args::models,
    plan::{self, PlannedData},
    prepare::{warn_of_older_rules, with_absolute_paths},
};

/// A run that is ready to resume, and the changes of its recipe; with `--dry-run` prints its plan and changes nothing.
pub(super) fn resume(args: &Args, devices: &[Device]) -> anyhow::Result<Option<(Training, Changes)>> {
    let folder = match &args.run {
        Some(path) => models().open_folder(&models().run_path(path))?,
        None => models().newest()?,
    };
    let explain = |error| explain(error, &args.data_dir);
    let run = StoppedRun::open(folder).map_err(explain)?;
    if let Some(named) = &args.subject {
        check_own_recipe(&run.folder, named)?;
    }
    if args.dry_run {
        let state = run.folder.load_checkpoint()?.map(|checkpoint| checkpoint.state);
        let ResumePlan { recipe, prepared, .. } = plan(args, &run, state.as_ref(), devices.len())?;
        let step = state.map_or(0, |state| state.step);
        plan::print(&recipe, &PlannedData::of(&prepared), step, args.device.is_cpu())?;
        return Ok(None);
    }
    let held = run.hold().map_err(explain)?;
    if held.state().is_some_and(|state| ending(&run.recipe, state).is_some()) {
        update_pictures(&run.folder)?; // It may have been killed before its last words.
        write_card(&run.folder, &devices[0])?;
    }
    let planned = plan(args, &run, held.state(), devices.len())?;
    report_data(&planned.recipe.data, &planned.prepared);
    if held.is_of_older_version() {
        report(format_args!(
            "note: an older version of kindling saved this run; it resumes with the same numbers up to rounding, not bit for bit"
        ));
    }
    if args.device.is_cpu() {
        memory::check_resumed(&planned.recipe)?;
    }
    if !planned.changes.is_empty()
        && let Some(kept) = held.keep_undone_weights().map_err(explain)?
    {
        report(format_args!(
            "the best weights so far, of step {} with a validation loss of {:.4}, are of a step that is undone; \
             they are kept in {}",
            kept.step,
            kept.loss,
            kept.path.display()
        ));
    }
    let changes = planned.changes.clone();
    let training = held.training(&run.recipe, planned, devices).map_err(explain)?;
    Ok(Some((training, changes)))
}

/// What the run resumes with.
fn plan(
    args: &Args,
    run: &StoppedRun,
    state: Option<&TrainerState>,
    n_devices: usize,
) -> anyhow::Result<ResumePlan> {
    let (explain, data_dir) = (|error| explain(error, &args.data_dir), &args.data_dir.data_dir);
    let request = ResumeRequest { overrides: args.overrides(), epochs: args.short.epochs, n_devices };
    let mut data = run.recipe_with(&request).map_err(explain)?.data;
    if data != run.recipe.data {
        data = with_absolute_paths(data, data_dir)?;
    }
    let planned = with_progress(|show| run.plan(&request, &data, state, data_dir, show)).map_err(explain)?;
    if planned.rules != Rules::NEWEST {
        warn_of_older_rules(&data);
    }
    Ok(planned)
}
