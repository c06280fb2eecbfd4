//! A new run: its recipe, its tokens, its first weights and its folder.

use std::path::Path;

use anyhow::{Context, bail};
use burn::prelude::Device;
use checkpoint::{Marks, RunFolder};
use dataset::{Prepared, TokenizerChoice};
use model::{Gpt, GptConfig};
use trainer::{Changes, Recipe, Training};

use super::{
    Args, Begun, recipe_name,
    short::{first_steps, overrides, steps_of},
};
use crate::{
    console::{plural, program, quoted},
    memory,
    model_folder::check_vocabulary,
    plan::{self, PlannedData},
    prepare::{checksums, prepare, with_absolute_paths},
    recipe::read_recipe,
    run_paths::{RUNS, run_path},
    stored_weights::{ModelFolder, find},
    usage::{ResultExt, bail_usage},
    words::report_data,
};

/// What a new run, or an experiment, begins with.
pub(crate) struct Ready {
    pub(crate) recipe: Recipe,
    pub(crate) model: Gpt,
    pub(crate) prepared: Prepared,
    /// Where texts begin and end.
    marks: Marks,
}

/// A new run without its model.
struct Planned {
    recipe: Recipe,
    prepared: Prepared,
    origin: Option<ModelFolder>,
}

/// Makes a new run; with `--dry-run` prints its plan and makes none.
pub(super) fn start(args: &Args, devices: &[Device]) -> anyhow::Result<Option<Begun>> {
    if let Some(path) = &args.run
        && run_path(path).exists()
    {
        let path = run_path(path).display().to_string();
        bail!(
            "the run {path} exists already. Resume it with {} train --resume --run {}, or choose another name with --run",
            program(),
            quoted(&path)
        );
    }
    let planned = plan(args, devices.len())?;
    planned.recipe.check_plan().usage()?;
    if args.dry_run {
        let data = PlannedData::of(&planned.prepared);
        plan::print(&planned.recipe, &data, 0, args.device.is_cpu())?;
        return Ok(None);
    }
    let Ready { recipe, model, prepared, marks } = planned.ready(args, &devices[0])?;
    let path = match &args.run {
        Some(path) => run_path(path),
        None => RunFolder::next_path(Path::new(RUNS), &stem(recipe_name(args))),
    };
    // With the weights it starts from, so that even a run cut off before its first checkpoint can be resumed.
    let made = RunFolder::create_run(&path, |folder| {
        folder.save_weights(&model)?;
        folder.save_description(&recipe.model, &prepared.tokenizer, &marks, Some(&recipe.to_toml()))
    });
    let (folder, lock) = made.with_context(|| {
        format!(
            "cannot make the run {}; name another place with --run PATH",
            quoted(&path.display().to_string())
        )
    })?;
    let data = checksums(&prepared);
    let Prepared { train, valid, .. } = prepared;
    let (device, more_devices) = (devices[0].clone(), devices[1..].to_vec());
    let resume = None;
    let training = Training { recipe, folder, lock, model, train, valid, data, resume, device, more_devices };
    Ok(Some(Begun { training, changes: Changes::new() }))
}

/// What an experiment begins with.
pub(super) fn make_ready(args: &Args, device: &Device) -> anyhow::Result<Ready> {
    plan(args, 1)?.ready(args, device)
}

/// The recipe and the tokens of a new run.
fn plan(args: &Args, n_devices: usize) -> anyhow::Result<Planned> {
    let origin = args.init_from.as_deref().map(find).transpose()?;
    let (mut recipe, choice) = recipe_with(args, origin.as_ref(), &first_steps(args))?;
    recipe.check_shares(n_devices).usage()?;
    recipe.data = with_absolute_paths(recipe.data, &args.data_dir.data_dir)?;
    let prepared = prepare(&recipe.data, &choice, &args.data_dir.data_dir)?;
    if let Some(epochs) = args.short.epochs {
        let data = recipe.data.clone();
        (recipe, _) = recipe_with(args, origin.as_ref(), &[steps_of(epochs, &recipe, &prepared)?])?;
        recipe.data = data;
    }
    report_data(&recipe.data, &prepared);
    if origin.is_none() {
        recipe.model.vocab_size = prepared.tokenizer.vocab_size();
    }
    check_lengths(&prepared, &recipe)?; // Before a folder is made.
    Ok(Planned { recipe, prepared, origin })
}

/// The recipe and the tokenizer of a new run. With `--init-from`, the model decides its sizes and its tokenizer.
fn recipe_with(
    args: &Args,
    origin: Option<&ModelFolder>,
    more: &[String],
) -> anyhow::Result<(Recipe, TokenizerChoice)> {
    let sizes = match origin {
        Some(origin) => Recipe::sizes(&origin.folder.config()?),
        None => Vec::new(),
    };
    let mut recipe = read_recipe(recipe_name(args), &[&sizes, &overrides(args)[..], more].concat())?;
    let Some(origin) = origin else {
        let choice = TokenizerChoice::Kind(recipe.data.tokenizer);
        return Ok((recipe, choice));
    };
    let tokenizer = origin.folder.load_tokenizer()?;
    let decided = |set: &&String| {
        let key = set.split('=').next().unwrap_or_default().trim();
        let is_free = ["model.dropout", "model.block_size"].contains(&key);
        key == "data.tokenizer" || (key.starts_with("model.") && !is_free)
    };
    if let Some(set) = args.set.iter().find(decided) {
        bail_usage!(
            "--set {set} has no effect with --init-from: sizes and tokenizer are those of {origin}; leave --init-from \
             out to choose them"
        );
    }
    let config = origin.folder.config()?;
    check_vocabulary(&tokenizer, &config)?;
    let GptConfig { dropout, block_size, .. } = recipe.model;
    if block_size > config.block_size {
        bail_usage!(
            "model.block_size={block_size} is too long: {origin} has learnt {} positions; its block can be cropped and not \
             grown",
            config.block_size
        );
    }
    recipe.model = GptConfig { dropout, block_size, ..config };
    // A tokenizer from elsewhere has no name in a recipe; the run has it in its folder all the same.
    if let Some(kind) = tokenizer.kind() {
        recipe.data.tokenizer = kind;
    }
    Ok((recipe, TokenizerChoice::Given(tokenizer)))
}

impl Planned {
    /// Draws the first weights, or loads them.
    fn ready(self, args: &Args, device: &Device) -> anyhow::Result<Ready> {
        let Self { recipe, prepared, origin } = self;
        if args.device.is_cpu() {
            memory::check(&recipe)?;
        }
        let model = match &origin {
            Some(origin) => {
                let model = origin.load_model(device)?.with_dropout(recipe.model.dropout);
                model.with_block_size(recipe.model.block_size)
            }
            None => recipe.model.init(recipe.run.seed, device)?,
        };
        let own = Marks::of(&prepared.tokenizer);
        let marks = match &origin {
            Some(origin) => origin.folder.marks()?.or(own),
            None => own,
        };
        Ok(Ready { recipe, model, prepared, marks })
    }
}

fn stem(recipe: &str) -> String {
    Path::new(recipe).file_stem().map_or_else(|| "run".to_owned(), |stem| stem.to_string_lossy().into_owned())
}

/// Refuses a text with a part that has no window in it, with what to type for one that has.
fn check_lengths(prepared: &Prepared, recipe: &Recipe) -> anyhow::Result<()> {
    let (train, valid, block_size) = (prepared.train.len(), prepared.valid.len(), recipe.model.block_size);
    let corpus = &recipe.data.corpus;
    let (part, n_tokens) = match &recipe.data.valid {
        _ if train <= block_size => (format!("the training part of {corpus}"), train),
        _ if valid > block_size => return Ok(()),
        Some(path) => (path.clone(), valid),
        None => (format!("the validation part of {corpus}"), valid),
    };
    let shortest = train.min(valid);
    let mut advice = Vec::new();
    if shortest > 1 {
        // A power of two, as blocks commonly are.
        advice.push(format!("--set model.block_size={}", 1_usize << (shortest - 1).ilog2()));
    }
    let share = (block_size + 1) as f64 / (train + valid) as f64;
    if train > block_size && recipe.data.valid.is_none() && share < 0.4 {
        // A little more than needed, for tokens are of different lengths.
        advice.push(format!("--set data.valid_fraction={:.2}", (1.2 * share + 0.005).max(0.01)));
    }
    advice.push(
        if train <= block_size { "--data with a longer text" } else { "--valid with a text of its own" }
            .to_owned(),
    );
    bail!(
        "{part} has {}, and model.block_size={block_size} needs at least {}; add {}",
        plural(n_tokens, "token"),
        block_size + 1,
        advice.join(", or ")
    );
}
