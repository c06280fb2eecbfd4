//! Resumes a run: from arguments to the remaining training.

use std::path::Path;

use burn::prelude::Device;
use checkpoint::{RunFolder, TrainerState};
use console::report;
use dataset::Rules;
use journal::{update_loss_charts, write_card};
use monitor::{report_data, with_progress};
use trainer::{Changes, ResumePlan, ResumeRequest, StoppedRun, Training, ending};

use super::{args::Args, errors::explain, own_recipe::check_own_recipe, ranks::Ranks, run_files};
use crate::{
    allocator, memory,
    model_args::models,
    plan::{self, PlannedData},
    prepare::{warn_of_older_rules, with_absolute_paths},
};

/// Prepares a run to resume, with the changes of its recipe. With `--dry-run`, only prints the plan.
pub(super) fn resume(
    args: &Args,
    devices: &[Device],
    ranks: &Ranks,
) -> anyhow::Result<Option<(Training, Changes)>> {
    if let Some(path) = ranks.scratch_run() {
        return resume_with_others(args, &path, devices, ranks).map(Some);
    }
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
        let ResumePlan { recipe, data, .. } = plan(args, &run, state.as_ref(), devices.len(), ranks)?;
        let step = state.map_or(0, |state| state.step);
        plan::print(&recipe, &PlannedData::of(&data, &recipe)?, step, args.device.is_cpu())?;
        return Ok(None);
    }
    let held = run.lock().map_err(explain)?;
    if held.state().is_some_and(|state| ending(&run.recipe, state).is_some()) {
        update_loss_charts(&run.folder)?; // The run may have been killed before it wrote them.
        write_card(&run.folder, &devices[0])?;
    }
    if ranks.are_several() {
        run_files::send(&**ranks.group(), &run.folder, held.state().map(|state| state.step))?;
    }
    let n_devices = devices.len() * ranks.group().size();
    let planned = ranks.root_first(|| plan(args, &run, held.state(), n_devices, ranks))?;
    report_data(&planned.recipe.data, &planned.data);
    if held.has_older_format() {
        report(format_args!(
            "note: an older version of kindling saved this run; it resumes equal up to rounding, not bit for bit"
        ));
    }
    if args.device.is_cpu() {
        memory::check_resumed(&ranks.recipe_of_one(&planned.recipe), ranks.counts())?;
    }
    if !planned.changes.is_empty()
        && let Some(kept) = held.keep_undone_weights().map_err(explain)?
    {
        report(format_args!(
            "the best weights so far (step {}, validation loss {:.4}) are from a step that this resume undoes; they are kept \
             in {}",
            kept.step,
            kept.loss,
            kept.path.display()
        ));
    }
    let changes = planned.changes.clone();
    allocator::release_free_memory();
    let training = held.training(&run.recipe, planned, devices).map_err(explain)?;
    Ok(Some((training, changes)))
}

/// Prepares a rank other than 0, with the files of the run that rank 0 sends to the new folder `path`.
fn resume_with_others(
    args: &Args,
    path: &Path,
    devices: &[Device],
    ranks: &Ranks,
) -> anyhow::Result<(Training, Changes)> {
    let explain = |error| explain(error, &args.data_dir);
    run_files::receive(&**ranks.group(), path)?;
    let run = StoppedRun::open(RunFolder::open(path)?).map_err(explain)?;
    let held = run.lock().map_err(explain)?;
    let n_devices = devices.len() * ranks.group().size();
    let planned = ranks.root_first(|| plan(args, &run, held.state(), n_devices, ranks))?;
    if args.device.is_cpu() {
        memory::check_resumed(&ranks.recipe_of_one(&planned.recipe), ranks.counts())?;
    }
    let training = held.training(&run.recipe, planned, devices).map_err(explain)?;
    Ok((training, Changes::new()))
}

/// The recipe and data that the run resumes with.
fn plan(
    args: &Args,
    run: &StoppedRun,
    state: Option<&TrainerState>,
    n_devices: usize,
    ranks: &Ranks,
) -> anyhow::Result<ResumePlan> {
    let (explain, data_dir) = (|error| explain(error, &args.data_dir), &args.data_dir.data_dir);
    let request = ResumeRequest { overrides: args.overrides(), epochs: args.short.epochs, n_devices };
    let mut data = run.recipe_with(&request).map_err(explain)?.data;
    if data != run.recipe.data {
        data = with_absolute_paths(data, data_dir)?;
    }
    let planned = with_progress(|show| run.plan(&request, &data, state, data_dir, &ranks.progress(show)));
    let planned = planned.map_err(explain)?;
    if planned.rules != Rules::NEWEST {
        warn_of_older_rules(&data);
    }
    Ok(planned)
}
