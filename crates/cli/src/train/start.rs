//! Starts a new run: from arguments to a run folder.

use std::path::Path;

use anyhow::{Context, bail};
use burn::prelude::Device;
use checkpoint::{Base, RunFolder};
use console::program;
use engine::{Source, StoredWeights, WeightStorage, check_vocabulary, quoted};
use model::Gpt;
use monitor::{report_data, with_progress};
use trainer::{BaseModel, Changes, LoraRecipe, NewRun, PlannedRun, RecipeRequest, Training};

use super::{args::Args, errors::explain, ranks::Ranks};
use crate::{
    allocator,
    data::shown,
    memory,
    model_args::models,
    plan::{self, PlannedData},
    prepare::with_absolute_paths,
    recipe::open_recipe,
    usage::{ResultExt, bail_usage},
};

/// Makes a new run. With `--dry-run`, only prints the plan.
pub(super) fn start(
    args: &Args,
    devices: &[Device],
    ranks: &Ranks,
) -> anyhow::Result<Option<(Training, Changes)>> {
    let scratch = ranks.scratch_run();
    if let Some(path) = args.run.as_ref().map(|path| models().run_path(path))
        && scratch.is_none()
        && path.exists()
    {
        let path = path.display().to_string();
        bail!(
            "the run {path} already exists. Resume it with {} train --resume --run {}, or choose another name with --run",
            program(),
            quoted(&path)
        );
    }
    let n_devices = devices.len() * ranks.group().size();
    let (planned, origin) = ranks.root_first(|| plan(args, n_devices, &devices[0], ranks))?;
    planned.recipe.check_plan().usage()?;
    if args.dry_run {
        let data = PlannedData::of(&planned.data, &planned.recipe)?;
        plan::print(&planned.recipe, &data, 0, args.device.is_cpu())?;
        return Ok(None);
    }
    let model = first_model(args, &planned, origin.as_ref(), (&devices[0], ranks))?;
    if let Some(path) = scratch {
        let training = planned.create_without_weights(&path, model, devices)?;
        return Ok(Some((training, Changes::new())));
    }
    let path = match &args.run {
        Some(path) => models().run_path(path),
        None => RunFolder::next_path(&models().runs, &stem(args.recipe_name())),
    };
    let base = match (&planned.recipe.lora, &origin) {
        (Some(_), Some(Source::Folder(origin))) => Some(Base::of_folder(&origin.folder)?),
        (Some(_), Some(Source::Gguf(file))) => Some(Base::of_gguf(file.path())?),
        (None, _) | (_, None) => None,
    };
    let training = planned.create(&path, model, base, devices).with_context(|| {
        format!(
            "cannot make the run {}; choose another path with --run PATH",
            quoted(&path.display().to_string())
        )
    })?;
    Ok(Some((training, Changes::new())))
}

/// The recipe, tokens and initial model of an experiment.
pub(super) fn experiment(args: &Args, device: &Device, ranks: &Ranks) -> anyhow::Result<(PlannedRun, Gpt)> {
    let (planned, origin) = plan(args, 1, device, ranks)?;
    let model = first_model(args, &planned, origin.as_ref(), (device, ranks))?;
    Ok((planned, model))
}

/// The recipe and tokens of a new run, and the model of `--init-from`.
fn plan(
    args: &Args,
    n_devices: usize,
    device: &Device,
    ranks: &Ranks,
) -> anyhow::Result<(PlannedRun, Option<Source>)> {
    let origin = args.init_from.as_deref().map(|path| models().open(path)).transpose()?;
    let request = RecipeRequest {
        source: open_recipe(args.recipe_name())?,
        overrides: args.overrides(),
        epochs: args.short.epochs,
    };
    let described = origin.as_ref().map(|origin| describe(args, origin)).transpose()?;
    let run = NewRun::new(request, described, n_devices);
    let (explain, data_dir) = (|error| explain(error, &args.data_dir), &args.data_dir.data_dir);
    let recipe = run.recipe().map_err(explain)?;
    if let (Some(lora), Some(origin)) = (&recipe.lora, &origin) {
        check_base(lora, origin, device)?;
    }
    let data = with_absolute_paths(recipe.data, data_dir)?;
    let planned = with_progress(|show| run.plan(data, data_dir, &ranks.progress(show))).map_err(explain)?;
    report_data(&planned.recipe.data, &planned.data);
    shown::report_first(&planned.data);
    planned.check_lengths().map_err(explain)?;
    Ok((planned, origin))
}

/// Checks that a model can be the base of low-rank updates, before the data is read.
fn check_base(lora: &LoraRecipe, origin: &Source, device: &Device) -> anyhow::Result<()> {
    let storage = lora.storage(device)?;
    let Source::Folder(origin) = origin else { return Ok(()) };
    if origin.weights != StoredWeights::Kept {
        bail_usage!(
            "the checkpoint {origin} can't be the base of an adapter, because training replaces it later; export it to a \
             folder first, with {} export {origin} --format safetensors",
            program()
        );
    }
    Ok(origin.folder.check_is_base(storage)?)
}

/// Sizes and tokenizer of the model of `--init-from`. Overrides of them are refused.
fn describe(args: &Args, origin: &Source) -> anyhow::Result<BaseModel> {
    let is_fixed = |set: &&String| {
        let key = set.split('=').next().unwrap_or_default().trim();
        let is_free = ["model.dropout", "model.block_size"].contains(&key);
        key == "data.tokenizer" || (key.starts_with("model.") && !is_free)
    };
    if let Some(set) = args.set.iter().find(is_fixed) {
        bail_usage!(
            "--set {set} has no effect with --init-from: sizes and tokenizer come from {origin}; omit --init-from to \
             choose them"
        );
    }
    let ((tokenizer, special_tokens), config) = (origin.load_tokenizer()?, origin.config()?);
    check_vocabulary(&tokenizer, &config)?;
    Ok(BaseModel { name: origin.to_string(), config, tokenizer, special_tokens })
}

/// The initial model. Checks first that the run fits in memory.
fn first_model(
    args: &Args,
    planned: &PlannedRun,
    origin: Option<&Source>,
    (device, ranks): (&Device, &Ranks),
) -> anyhow::Result<Gpt> {
    if args.device.is_cpu() {
        memory::check(&ranks.recipe_of_one(&planned.recipe), ranks.counts())?;
    }
    allocator::release_free_memory();
    let Some(origin) = origin else { return Ok(planned.random_model(device)?) };
    let storage = match &planned.recipe.lora {
        Some(lora) => lora.storage(device)?,
        None => WeightStorage::Owned,
    };
    let model = match origin {
        Source::Gguf(file) => file.load_model(storage, device)?,
        Source::Folder(origin) if planned.recipe.lora.is_none() => origin.load_model(storage, device)?,
        Source::Folder(origin) => origin.folder.load_as_base(storage, device)?,
    };
    Ok(planned.model_from(model, device))
}

fn stem(recipe: &str) -> String {
    Path::new(recipe).file_stem().map_or_else(|| "run".to_owned(), |stem| stem.to_string_lossy().into_owned())
}
