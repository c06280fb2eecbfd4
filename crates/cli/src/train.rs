//! `kindling train`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, ExitCode},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail};
use burn::prelude::Device;
use checkpoint::RunFolder;
use dataset::{Prepared, TokenizerChoice, Tokens};
use model::GptConfig;
use trainer::{Interrupter, Outcome, PRESETS, Recipe, RecipeError, Training, preset};

use crate::{
    console::{count, duration, program, quoted, report},
    device::DeviceArgs,
    model_folder::{RUNS, check_vocabulary, newest, open, run_path},
    observer::Display,
    prepare::prepare,
    samples::SampleLog,
};

/// The exit code of a run that was interrupted and can be resumed.
const INTERRUPTED: u8 = 130;

/// Trains a model, or goes on training one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Presets: tiny (the default), nanogpt-cpu, nanogpt-gpu, gpt2, finetune, debug.

Examples:
  kindling train                                          learn Shakespeare in a few minutes
  kindling train --data my.txt --run mine                 learn from your own text
  kindling train --data books/ --set data.tokenizer=bpe:4096 --set schedule.max_steps=10000
  kindling train finetune --init-from gpt2 --data my.txt  go on with another model
  kindling train --resume                                 go on with the newest run
  kindling train --resume --run mine --set schedule.max_steps=20000")]
pub(crate) struct Args {
    /// A preset's name or a TOML file.
    #[arg(value_name = "RECIPE", conflicts_with = "resume")]
    recipe: Option<String>,

    /// What to learn from: a text file, a folder of them, or the name of a known corpus.
    #[arg(long, value_name = "NAME or PATH", conflicts_with = "resume")]
    data: Option<String>,

    /// A text to validate on; without it, the end of the corpus.
    #[arg(long, value_name = "PATH", conflicts_with = "resume")]
    valid: Option<String>,

    /// The run's name, or a path; without it, the next free one.
    #[arg(long, value_name = "NAME")]
    run: Option<PathBuf>,

    /// Go on with the run of --run, or with the newest.
    #[arg(long)]
    resume: bool,

    /// Start from the weights, the sizes and the tokenizer of a model.
    #[arg(long, value_name = "MODEL", conflicts_with = "resume")]
    init_from: Option<PathBuf>,

    /// Set a key of the recipe; may be given several times. `none` switches an optional key off, as in
    /// optimizer.grad_clip=none.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,

    #[command(flatten)]
    device: DeviceArgs,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let device = args.device.open()?;
    let training = if args.resume { resume(&args, &device)? } else { start(&args, &device)? };
    let folder = training.folder.clone();
    let corpus = training.recipe.data.corpus.clone();
    let tokenizer = folder.load_tokenizer()?;
    announce(&training);

    let samples_path = folder.samples_path();
    let step = training.resume.as_ref().map_or(0, |checkpoint| checkpoint.state.step);
    let samples =
        SampleLog::open(&samples_path, step).with_context(|| format!("open {}", samples_path.display()))?;
    let mut display = Display::new(tokenizer, samples, training.recipe.run.seed);
    let interrupter = Interrupter::new();
    stop_on_signal(&interrupter)?;
    let outcome = trainer::train(training, interrupter, Box::new(move |event| display.event(event)))?;
    Ok(conclude(&folder, &corpus, &outcome))
}

/// A new run.
fn start(args: &Args, device: &Device) -> anyhow::Result<Training> {
    let name = args.recipe.as_deref().unwrap_or(PRESETS[0].0);
    let origin = args.init_from.as_deref().map(open).transpose()?;
    let sizes = match &origin {
        Some(origin) => Recipe::sizes(&origin.config()?),
        None => Vec::new(),
    };
    let mut recipe = read_recipe(name, &[sizes, overrides(args)].concat())?;
    if let Some(path) = &args.run
        && run_path(path).exists()
    {
        bail!(
            "the run {} exists already; go on with it by --resume, or name another",
            run_path(path).display()
        );
    }
    let choice = match &origin {
        Some(origin) => {
            let tokenizer = origin.load_tokenizer()?;
            let decided = |set: &&String| {
                let key = set.split('=').next().unwrap_or_default().trim();
                let is_free = ["model.dropout", "model.block_size"].contains(&key);
                key == "data.tokenizer" || (key.starts_with("model.") && !is_free)
            };
            if let Some(set) = args.set.iter().find(decided) {
                bail!(
                    "--set {set} has no effect with --init-from: sizes and tokenizer are those of {}",
                    origin.path().display()
                );
            }
            let config = origin.config()?;
            check_vocabulary(&tokenizer, &config)?;
            let GptConfig { dropout, block_size, .. } = recipe.model;
            if block_size > config.block_size {
                bail!(
                    "--set model.block_size={block_size}: {} has learnt {} positions; its block can be cropped and \
                     not grown",
                    origin.path().display(),
                    config.block_size
                );
            }
            recipe.model = GptConfig { dropout, block_size, ..config };
            // A tokenizer from elsewhere has no name in a recipe; the run has it in its folder all the same.
            if let Some(kind) = tokenizer.kind() {
                recipe.data.tokenizer = kind;
            }
            TokenizerChoice::Given(tokenizer)
        }
        None => TokenizerChoice::Kind(recipe.data.tokenizer),
    };
    // Sizes that can't work are found before a corpus of gigabytes is read.
    GptConfig { vocab_size: 1, ..recipe.model.clone() }.check()?;
    let prepared = prepare(&recipe.data, &choice)?;
    let model = match &origin {
        Some(origin) => {
            let model = origin.load_model(device)?.with_dropout(recipe.model.dropout);
            model.with_block_size(recipe.model.block_size)
        }
        None => {
            recipe.model.vocab_size = prepared.tokenizer.vocab_size();
            recipe.model.init(recipe.run.seed, device)?
        }
    };
    // Both splits are long enough, or no folder is made.
    check_length(&prepared.train, &recipe).with_context(|| format!("train on {}", recipe.data.corpus))?;
    check_length(&prepared.valid, &recipe).with_context(|| match &recipe.data.valid {
        Some(path) => format!("validate on {path}"),
        None => format!("validate on the end of {}", recipe.data.corpus),
    })?;

    let folder = match &args.run {
        Some(path) => RunFolder::create(&run_path(path))?,
        None => RunFolder::create_next(Path::new(RUNS), &stem(name))?,
    };
    folder.save_description(&recipe.model, &prepared.tokenizer, Some(&recipe.to_toml()))?;
    let data = checksums(&prepared);
    let Prepared { train, valid, .. } = prepared;
    Ok(Training { recipe, folder, model, train, valid, data, resume: None, device: device.clone() })
}

/// The run to go on with.
fn resume(args: &Args, device: &Device) -> anyhow::Result<Training> {
    let folder = match &args.run {
        Some(path) => open(&run_path(path))?,
        None => newest()?,
    };
    let path = folder.recipe_path();
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let name = path.display().to_string();
    let before = parse(&name, &text, &[])?;
    let recipe = parse(&name, &text, &args.set)?;
    refuse_changes(&before, &recipe)?;

    let checkpoint = folder.load_checkpoint()?;
    if checkpoint.state.step >= recipe.schedule.max_steps {
        bail!(
            "{} has done its {} steps; to go further, add --set schedule.max_steps={}",
            folder.path().display(),
            checkpoint.state.step,
            2 * checkpoint.state.step
        );
    }
    let tokenizer = folder.load_tokenizer()?;
    let model = folder.load_model(device)?.with_dropout(recipe.model.dropout);
    let recipe = Recipe { model: model.config().clone(), ..recipe };
    let prepared = prepare(&recipe.data, &TokenizerChoice::Given(tokenizer))?;
    let data = checksums(&prepared);
    if data != checkpoint.state.data {
        bail!(
            "the text of {} has changed since {} began; put it back, or start a new run on it with --init-from {}",
            recipe.data.corpus,
            folder.path().display(),
            quoted(&folder.path().display().to_string())
        );
    }
    folder.save_description(&recipe.model, &prepared.tokenizer, Some(&recipe.to_toml()))?;
    let Prepared { train, valid, .. } = prepared;
    let resume = Some(checkpoint);
    Ok(Training { recipe, folder, model, train, valid, data, resume, device: device.clone() })
}

/// What a checkpoint remembers of the data.
fn checksums(prepared: &Prepared) -> [String; 2] {
    [prepared.meta.train.sha256.clone(), prepared.meta.valid.sha256.clone()]
}

/// What can't change in the middle of a run: the sizes of the model and what it learns from.
fn refuse_changes(before: &Recipe, after: &Recipe) -> anyhow::Result<()> {
    let sizes = |recipe: &Recipe| GptConfig { dropout: 0.0, ..recipe.model.clone() };
    if sizes(before) != sizes(after) {
        bail!("a run can't change its [model] when it is resumed, but for dropout; start a new run for that");
    }
    if before.data != after.data {
        bail!("a run can't change its [data] when it is resumed; start a new one with --init-from for that");
    }
    if before.run != after.run {
        bail!("a run can't change its [run] when it is resumed; start a new one for that");
    }
    Ok(())
}

/// Reads a preset or a file.
pub(crate) fn read_recipe(name: &str, overrides: &[String]) -> anyhow::Result<Recipe> {
    let text = match preset(name) {
        Some(text) => text.to_owned(),
        None => fs::read_to_string(name).with_context(|| {
            let presets: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).collect();
            format!("read the recipe {name} (the presets are {})", presets.join(", "))
        })?,
    };
    parse(name, &text, overrides)
}

/// Reads the text of a recipe. An error names the `--set` it is about, or else the recipe.
fn parse(name: &str, text: &str, overrides: &[String]) -> anyhow::Result<Recipe> {
    let starts_from_another = |recipe: &str| {
        let table: Option<toml::Table> = recipe.parse().ok();
        table.is_some_and(|table| table.get("model").is_none_or(|model| model.get("n_layer").is_none()))
    };
    if starts_from_another(text) && !overrides.iter().any(|set| set.starts_with("model.n_layer=")) {
        bail!("the recipe {name} has no sizes: it goes on from a model, which --init-from MODEL names");
    }
    Recipe::parse(text, overrides).map_err(|error| match error {
        RecipeError::Assignment { .. } | RecipeError::Override { .. } => error.into(),
        error => anyhow::Error::new(error).context(format!("understand the recipe {name}")),
    })
}

/// `--set`, and the options that are short for it.
fn overrides(args: &Args) -> Vec<String> {
    let quoted = |key: &str, value: &String| format!("data.{key}={}", toml::Value::from(value.as_str()));
    let data = args.data.iter().map(|value| quoted("corpus", value));
    let valid = args.valid.iter().map(|value| quoted("valid", value));
    args.set.iter().cloned().chain(data).chain(valid).collect()
}

fn stem(recipe: &str) -> String {
    Path::new(recipe).file_stem().map_or_else(|| "run".to_owned(), |stem| stem.to_string_lossy().into_owned())
}

/// Refuses a part of the data that has no window in it.
fn check_length(tokens: &Tokens, recipe: &Recipe) -> Result<(), dataset::Error> {
    let (n_tokens, block_size) = (tokens.len(), recipe.model.block_size);
    if n_tokens > block_size { Ok(()) } else { Err(dataset::Error::TooShort { n_tokens, block_size }) }
}

/// Says what is about to happen.
fn announce(training: &Training) {
    let Training { recipe, folder, train, valid, resume, device, .. } = training;
    let config = &recipe.model;
    report(format_args!(
        "{} {}: {} parameters ({} layers, {} heads, {} wide, block {}), {} of {} tokens and {} to validate on",
        if resume.is_some() { "going on with" } else { "training of" },
        folder.path().display(),
        count(config.n_params() as u64),
        config.n_layer,
        config.n_head,
        config.n_embd,
        config.block_size,
        recipe.data.tokenizer,
        count(train.len() as u64),
        count(valid.len() as u64),
    ));
    let schedule = &recipe.schedule;
    if schedule.warmup_steps > schedule.max_steps {
        report(format_args!(
            "warning: schedule.warmup_steps = {} is above schedule.max_steps = {}: the learning rate does not get \
             to its highest",
            schedule.warmup_steps, schedule.max_steps
        ));
    }
    warn_of_precision(recipe, device);
}

/// Says where a precision is asked for that the device does not have.
pub(crate) fn warn_of_precision(recipe: &Recipe, device: &Device) {
    if recipe.run.precision.on(device) != recipe.run.precision {
        report(format_args!(
            "warning: run.precision = \"bf16\" needs a processor with AVX-512 BF16; this one has none, so products \
             are computed in f32"
        ));
    }
}

/// The first Ctrl-C lets the step in hand finish and be saved; the second one ends at once.
fn stop_on_signal(interrupter: &Interrupter) -> anyhow::Result<()> {
    let interrupter = interrupter.clone();
    let asked = Arc::new(AtomicBool::new(false));
    ctrlc::set_handler(move || {
        if asked.swap(true, Ordering::SeqCst) {
            process::exit(i32::from(INTERRUPTED));
        }
        report(format_args!("\nstopping after this step; once more to stop at once and lose it"));
        interrupter.stop(Some("signal"));
    })
    .context("listen for Ctrl-C")
}

/// Says how it went and what to type next.
fn conclude(folder: &RunFolder, corpus: &str, outcome: &Outcome) -> ExitCode {
    let state = &outcome.state;
    let path = folder.path().display().to_string();
    if outcome.interrupted {
        report(format_args!("stopped after step {}, which is saved. Go on with:", state.step));
        report(format_args!("  {} train --resume --run {}", program(), quoted(&path)));
        return ExitCode::from(INTERRUPTED);
    }
    if let Some(loss) = state.best_loss {
        let time = duration(Duration::from_secs_f64(state.elapsed_seconds));
        report(format_args!(
            "done in {time}: best validation loss {loss:.4} after step {}, kept in {path}. Write with it:",
            state.best_step
        ));
    }
    // A name that the model knows, where we know one.
    let prompt = if corpus == "shakespeare" { " --prompt 'ROMEO:'" } else { "" };
    report(format_args!("  {} generate {}{prompt}", program(), quoted(&path)));
    ExitCode::SUCCESS
}
