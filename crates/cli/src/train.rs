//! `kindling train`.

use std::{
    any::Any,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    slice,
};

use anyhow::{Context, bail};
use burn::prelude::Device;
use checkpoint::{Marks, RunFolder, Session, TrainerState};
use dataset::{Prepared, TokenizerChoice, Tokens};
use model::{Gpt, GptConfig};
use trainer::{Changes, Control, Ending, PRESETS, Recipe, Training, ending};

use crate::{
    card,
    console::{can_draw, is_quiet, quoted, report, warn},
    device::DeviceArgs,
    history::History,
    lines::Lines,
    live_view::LiveView,
    memory,
    model_folder::{RUNS, check_vocabulary, newest, open, run_path},
    observer::Observer,
    plot::update_pictures,
    prepare::prepare,
    probe,
    recipe::{parse, read_recipe},
    samples::SampleLog,
    screen::Screen,
    signals::Signals,
    views::{Log, Views},
    words::{announce, conclude, sizes, tell_how_to_go_on},
};

/// Trains a model, or goes on training one.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Presets: tiny (the default), small, gpu, nanogpt-cpu, nanogpt-gpu, gpt2, finetune, debug.

Examples:
  kindling train                                          learn Shakespeare in a few minutes
  kindling train --data my.txt --run mine                 learn from your own text
  kindling train --data books/ --set data.tokenizer=bpe:4096 --set schedule.max_steps=10000
  kindling train finetune --init-from gpt2 --data my.txt  go on with another model
  kindling train --resume                                 go on with the newest run
  kindling train --resume --run mine --set schedule.max_steps=20000"
)]
pub(crate) struct Args {
    /// A preset's name or a TOML file.
    #[arg(value_name = "RECIPE", conflicts_with = "resume")]
    recipe: Option<String>,

    /// What to learn from: a text file, a folder of them, or the name of a known corpus.
    #[arg(long, value_name = "NAME or PATH", conflicts_with = "resume", help_heading = "Recipe")]
    data: Option<String>,

    /// A text to validate on; without it, the end of the corpus.
    #[arg(long, value_name = "PATH", conflicts_with = "resume", help_heading = "Recipe")]
    valid: Option<String>,

    /// The run's name, or a path; without it, the next free one.
    #[arg(long, value_name = "NAME", help_heading = "Run")]
    run: Option<PathBuf>,

    /// Go on with the run of --run, or with the newest.
    #[arg(long, help_heading = "Run")]
    resume: bool,

    /// Start from the weights, the sizes and the tokenizer of a model.
    #[arg(long, value_name = "MODEL", conflicts_with = "resume", help_heading = "Recipe")]
    init_from: Option<PathBuf>,

    /// Set a key of the recipe; may be given several times. `none` switches an optional key off, as in
    /// optimizer.grad_clip=none.
    #[arg(long, value_name = "SECTION.KEY=VALUE", help_heading = "Recipe")]
    set: Vec<String>,

    /// What is logged beside metrics.jsonl.
    #[arg(long, value_enum, default_value_t = Log::Tensorboard, help_heading = "Output")]
    log: Log,

    /// Show lines, and no live view, on a terminal too.
    #[arg(long, help_heading = "Output")]
    no_tui: bool,

    /// Learn one batch by heart and make no run: shows in seconds whether the model can learn.
    #[arg(long, conflicts_with_all = ["resume", "run", "log", "no_tui"], help_heading = "Experiments")]
    overfit_one_batch: bool,

    /// Try learning rates from small to large and make no run: shows which one suits, and draws learning-rate-sweep.svg.
    #[arg(
        long,
        conflicts_with_all = ["resume", "run", "log", "no_tui", "overfit_one_batch"],
        help_heading = "Experiments"
    )]
    find_learning_rate: bool,

    #[command(flatten)]
    device: DeviceArgs,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let signals = Signals::listen()?;
    if args.overfit_one_batch || args.find_learning_rate {
        let device = args.device.open()?;
        let ready = make_ready(&args, slice::from_ref(&device))?;
        return if args.overfit_one_batch {
            probe::overfit_one_batch(ready, &device, &signals)
        } else {
            probe::find_learning_rate(ready, &device, &signals)
        };
    }
    let devices = args.device.open_all()?;
    let (training, changes) = if args.resume { resume(&args, &devices)? } else { start(&args, &devices)? };
    let folder = training.folder.clone();
    let corpus = training.recipe.data.corpus.clone();
    let tokenizer = folder.load_tokenizer()?;
    announce(&training, &changes);
    let step = training.resume.as_ref().map_or(0, |checkpoint| checkpoint.state.step);
    let threads = rayon::current_num_threads();
    let has_changed = !changes.is_empty();
    folder.add_session(&Session {
        recipe: (!args.resume).then(|| recipe_name(&args).to_owned()),
        init_from: args.init_from.as_ref().map(|path| path.display().to_string()),
        ..Session::now(step, args.device.name(), threads, changes)
    })?;
    if has_changed {
        folder.save_recipe(&training.recipe.to_toml())?; // After the line that says so.
    }

    let samples_path = folder.samples_path();
    // A pending evaluation is followed by the sample of its step.
    let pending = training.resume.as_ref().is_some_and(|checkpoint| checkpoint.state.evaluation_pending);
    let shown_step = if pending { step.saturating_sub(1) } else { step };
    let samples = SampleLog::open(&samples_path, shown_step)
        .with_context(|| format!("open {}", samples_path.display()))?;
    let resumed_at = training.resume.as_ref().map(|_| shown_step);
    let views = Views::open(&folder, resumed_at, args.log);
    let control = Control::new();
    signals.pass_on(&control);
    let (screen, shown) = open_screen(&args, &training, shown_step, &control, &signals)?;
    let mut observer = Observer { screen, tokenizer, samples, views, seed: training.recipe.run.seed };
    let outcome = trainer::train(training, control, Box::new(move |event| observer.event(event)));
    drop(shown); // Whatever comes now is said on the terminal as it was.
    let outcome = outcome?;
    Ok(match outcome.ending {
        Ending::Interrupted => {
            tell_how_to_go_on(&folder, &outcome);
            ExitCode::from(signals.exit_code())
        }
        Ending::StoppedEarly | Ending::Finished => {
            card::write(&folder)?;
            conclude(&folder, &corpus, &outcome);
            ExitCode::SUCCESS
        }
    })
}

/// What the run is shown on, and what gives the terminal back when it is dropped.
fn open_screen(
    args: &Args,
    training: &Training,
    step: u64,
    control: &Control,
    signals: &Signals,
) -> anyhow::Result<(Box<dyn Screen>, Box<dyn Any>)> {
    if !args.no_tui && !is_quiet() && can_draw() {
        let Training { folder, recipe, .. } = training;
        let mut before = History::open(folder.clone())?.metrics;
        before.retain(|line| line.step <= step);
        let subtitle = format!("{}, on {}", sizes(&recipe.model), args.device.name());
        let titles = (folder.path().display().to_string(), subtitle);
        match LiveView::open(titles, &before, control, signals) {
            Ok((view, terminal)) => return Ok((Box::new(view), Box::new(terminal))),
            Err(error) => {
                warn(format_args!("the terminal can't be drawn on, so there is no live view: {error}"))
            }
        }
    }
    let (lines, bar) = Lines::open();
    Ok((Box::new(lines), Box::new(bar)))
}

/// What a new run, or an experiment, begins with.
pub(crate) struct Ready {
    pub(crate) recipe: Recipe,
    pub(crate) model: Gpt,
    pub(crate) prepared: Prepared,
    /// Where texts begin and end.
    marks: Marks,
}

/// A new run.
fn start(args: &Args, devices: &[Device]) -> anyhow::Result<(Training, Changes)> {
    if let Some(path) = &args.run
        && run_path(path).exists()
    {
        bail!(
            "the run {} exists already; go on with it by --resume, or name another",
            run_path(path).display()
        );
    }
    let Ready { recipe, model, prepared, marks } = make_ready(args, devices)?;
    let path = match &args.run {
        Some(path) => run_path(path),
        None => RunFolder::next_path(Path::new(RUNS), &stem(recipe_name(args))),
    };
    // With the weights it starts from, so that even a run cut off before its first checkpoint can go on.
    let (folder, lock) = RunFolder::create_run(&path, |folder| {
        folder.save_weights(&model)?;
        folder.save_description(&recipe.model, &prepared.tokenizer, &marks, Some(&recipe.to_toml()))
    })?;
    let data = checksums(&prepared);
    let Prepared { train, valid, .. } = prepared;
    let (device, more_devices) = (devices[0].clone(), devices[1..].to_vec());
    let resume = None;
    let training = Training { recipe, folder, lock, model, train, valid, data, resume, device, more_devices };
    Ok((training, Changes::new()))
}

fn recipe_name(args: &Args) -> &str {
    args.recipe.as_deref().unwrap_or(PRESETS[0].0)
}

/// The recipe, the data and the model of a new run.
fn make_ready(args: &Args, devices: &[Device]) -> anyhow::Result<Ready> {
    let name = recipe_name(args);
    let origin = args.init_from.as_deref().map(open).transpose()?;
    let sizes = match &origin {
        Some(origin) => Recipe::sizes(&origin.config()?),
        None => Vec::new(),
    };
    let mut recipe = read_recipe(name, &[sizes, overrides(args)].concat())?;
    recipe.check_shares(devices.len())?;
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
    let prepared = prepare(&recipe.data, &choice)?;
    if origin.is_none() {
        recipe.model.vocab_size = prepared.tokenizer.vocab_size();
    }
    // Both splits are long enough, or no folder is made.
    check_length(&prepared.train, &recipe).with_context(|| format!("train on {}", recipe.data.corpus))?;
    check_length(&prepared.valid, &recipe).with_context(|| match &recipe.data.valid {
        Some(path) => format!("validate on {path}"),
        None => format!("validate on the end of {}", recipe.data.corpus),
    })?;
    if args.device.is_cpu() {
        memory::check(&recipe)?;
    }
    let model = match &origin {
        Some(origin) => {
            let model = origin.load_model(&devices[0])?.with_dropout(recipe.model.dropout);
            model.with_block_size(recipe.model.block_size)
        }
        None => recipe.model.init(recipe.run.seed, &devices[0])?,
    };
    let own = Marks::of(&prepared.tokenizer);
    let marks = match &origin {
        Some(origin) => origin.marks().or(own),
        None => own,
    };
    Ok(Ready { recipe, model, prepared, marks })
}

/// The run to go on with, and what differs from the recipe that it had so far.
fn resume(args: &Args, devices: &[Device]) -> anyhow::Result<(Training, Changes)> {
    let folder = match &args.run {
        Some(path) => open(&run_path(path))?,
        None => newest()?,
    };
    let lock = folder.lock()?;
    folder.remove_unfinished()?;
    let path = folder.recipe_path();
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let name = path.display().to_string();
    let before = parse(&name, &text, &[])?;
    let recipe = parse(&name, &text, &args.set)?;
    let changes = before.changes_to(&recipe)?;
    recipe.check_shares(devices.len())?;
    let recipe = Recipe { model: GptConfig { dropout: recipe.model.dropout, ..folder.config()? }, ..recipe };

    let checkpoint = folder.load_checkpoint()?;
    // The first checkpoint comes before the first step.
    if checkpoint.is_none() && History::open(folder.clone())?.metrics.iter().any(|line| line.step > 0) {
        return Err(checkpoint::Error::NoCheckpoint { path: folder.path().to_owned() }.into());
    }
    if let Some(checkpoint) = &checkpoint {
        if ending(&recipe, &checkpoint.state).is_some() {
            update_pictures(&folder)?; // It may have been killed before its last words.
            card::write(&folder)?;
        }
        refuse_ended(&folder, &recipe, &checkpoint.state)?;
    }
    if args.device.is_cpu() {
        memory::check(&recipe)?;
    }
    if let Some(checkpoint) = &checkpoint
        && !changes.is_empty()
    {
        keep_undone_weights(&folder, &checkpoint.state)?;
    }
    let tokenizer = folder.load_tokenizer()?;
    let model = match &checkpoint {
        // It has the weights itself.
        Some(_) => recipe.model.zeros(&devices[0])?,
        // Cut off before its first checkpoint, it has those it started from.
        None => folder.load_model(&devices[0])?.with_dropout(recipe.model.dropout),
    };
    let prepared = prepare(&recipe.data, &TokenizerChoice::Given(tokenizer))?;
    let data = checksums(&prepared);
    if checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.state.data != data) {
        bail!(
            "the text of {} has changed since {} began; put it back, or start a new run on it with --init-from {}",
            recipe.data.corpus,
            folder.path().display(),
            quoted(&folder.path().display().to_string())
        );
    }
    let Prepared { train, valid, .. } = prepared;
    let resume = checkpoint;
    let (device, more_devices) = (devices[0].clone(), devices[1..].to_vec());
    let training = Training { recipe, folder, lock, model, train, valid, data, resume, device, more_devices };
    Ok((training, changes))
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

/// Refuses to go on with a run that is over.
fn refuse_ended(folder: &RunFolder, recipe: &Recipe, state: &TrainerState) -> anyhow::Result<()> {
    let path = folder.path().display();
    match ending(recipe, state) {
        Some(Ending::Finished) => bail!(
            "{path} has done its {} steps; to go further, add --set schedule.max_steps={}",
            state.step,
            2 * state.step
        ),
        Some(Ending::StoppedEarly) => bail!(
            "{path} has stopped at step {}, after {} evaluations without a better loss; to go further, add --set \
             guards.patience={}",
            state.step,
            state.evaluations_since_best,
            2 * state.evaluations_since_best
        ),
        Some(Ending::Interrupted) | None => Ok(()),
    }
}

/// What a checkpoint remembers of the data.
fn checksums(prepared: &Prepared) -> [String; 2] {
    [prepared.meta.train.sha256.clone(), prepared.meta.valid.sha256.clone()]
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
