//! `kindling train`.

mod errors;
mod own_recipe;
mod resume;
mod short;
mod start;
mod subject;

use std::{any::Any, path::PathBuf, process::ExitCode};

use anyhow::Context;
use checkpoint::Session;
use journal::{History, SampleLog, words::sizes, write_card};
use kernels::on_pool;
use trainer::{Changes, Control, Ending, Event, PRESETS, Training};

use self::{short::ShortArgs, subject::Subject};
use crate::{
    console::{can_draw, is_quiet, warn},
    device::DeviceArgs,
    lines::Lines,
    live_view::LiveView,
    model_args::models,
    observer::Observer,
    prepare::DataDirArgs,
    probe,
    screen::Screen,
    signals::Signals,
    usage::bail_usage,
    views::{Log, Views},
    words::{announce, conclude, print_resume_hint},
};

/// Trains a model, or resumes training.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Presets: tiny (the default), small, gpu, nanogpt-cpu, nanogpt-gpu, gpt2, finetune, debug.

Examples:
  kindling train                                          learn Shakespeare in a few minutes
  kindling train my.txt --run mine                        learn from your own text
  kindling train --data books/ --set data.tokenizer=bpe:4096 --max-steps 10000
  kindling train my.txt --epochs 3 --dry-run              print the plan and train nothing
  kindling train finetune --init-from gpt2 --data my.txt  continue from another model
  kindling train --resume                                 resume the newest run
  kindling train --resume --run mine --max-steps 20000    train a finished run further"
)]
pub(crate) struct Args {
    /// A preset or a TOML file; or the text to train on, with the default recipe.
    #[arg(value_name = "RECIPE or TEXT")]
    subject: Option<String>,

    /// The text to train on: a text file, a folder of them, the name of a known corpus, or `-` for standard input. On
    /// resume, the new place of the same text.
    #[arg(long, value_name = "NAME or PATH", help_heading = "Recipe")]
    data: Option<String>,

    /// A text to validate on; without it, the end of the corpus.
    #[arg(long, value_name = "PATH", help_heading = "Recipe")]
    valid: Option<String>,

    /// The run's name, or a path; without it, the next free one.
    #[arg(long, value_name = "NAME", help_heading = "Run")]
    run: Option<PathBuf>,

    /// Resume the run of --run, or the newest.
    #[arg(long, help_heading = "Run")]
    resume: bool,

    /// Print the plan (epochs, memory, time, learning rate) and exit. The text is made into tokens for it.
    #[arg(long, conflicts_with_all = ["overfit_one_batch", "find_learning_rate"], help_heading = "Run")]
    dry_run: bool,

    #[command(flatten)]
    data_dir: DataDirArgs,

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

    // Last, for its heading stays.
    #[command(flatten)]
    short: ShortArgs,
}

/// A run that is ready to train.
struct Begun {
    training: Training,
    changes: Changes,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let args = understand_subject(args)?;
    let signals = Signals::listen()?;
    if args.overfit_one_batch || args.find_learning_rate {
        let device = args.device.open()?;
        let (planned, model) = start::experiment(&args, &device)?;
        return if args.overfit_one_batch {
            probe::overfit_one_batch(planned, model, &device, &signals)
        } else {
            probe::find_learning_rate(planned, model, &device, &signals)
        };
    }
    let devices = args.device.open_all()?;
    let begun = if args.resume { resume::resume(&args, &devices)? } else { start::start(&args, &devices)? };
    let Some(Begun { training, changes }) = begun else {
        return Ok(ExitCode::SUCCESS); // A plan was all that was asked for.
    };
    let folder = training.folder.clone();
    let corpus = training.recipe.data.corpus.clone();
    let tokenizer = folder.load_tokenizer()?;
    announce(&training, &changes);
    let step = training.resume.as_ref().map_or(0, |checkpoint| checkpoint.state.step);
    let threads = rayon::current_num_threads();
    folder.add_session(&Session {
        recipe: (!args.resume).then(|| recipe_name(&args).to_owned()),
        init_from: args.init_from.as_ref().map(|path| path.display().to_string()),
        train_tokens: Some(training.train.len() as u64),
        ..Session::now(step, args.device.name(), threads, changes)
    })?;

    let samples_path = folder.samples_path();
    // A pending evaluation is followed by the sample of its step.
    let pending = training.resume.as_ref().is_some_and(|checkpoint| checkpoint.state.evaluation_pending);
    let shown_step = if pending { step.saturating_sub(1) } else { step };
    let samples = SampleLog::open(&samples_path, shown_step)
        .with_context(|| format!("cannot open {}", samples_path.display()))?;
    let resumed_at = training.resume.as_ref().map(|_| shown_step);
    let views = Views::open(&folder, resumed_at, args.log);
    let control = Control::new();
    signals.pass_on(&control);
    let (screen, shown) = open_screen(&args, &training, shown_step, &control, &signals)?;
    let mut observer = Observer { screen, tokenizer, samples, views, seed: training.recipe.run.seed };
    let observe = Box::new(move |event: Event<'_>| observer.event(event));
    let outcome = on_pool(|| trainer::train(training, control, observe));
    drop(shown); // Whatever comes now is said on the terminal as it was.
    let outcome = outcome?;
    Ok(match outcome.ending {
        Ending::Interrupted => {
            print_resume_hint(&folder, &outcome, &args.data_dir);
            ExitCode::from(signals.exit_code())
        }
        Ending::StoppedEarly | Ending::Finished => {
            write_card(&folder, &devices[0])?;
            conclude(&folder, &corpus, &outcome, &args.data_dir)?;
            ExitCode::SUCCESS
        }
    })
}

/// Puts the argument to where it belongs: a text to `--data`, with `--resume` a run to `--run`. A recipe stays.
fn understand_subject(mut args: Args) -> anyhow::Result<Args> {
    let Some(subject) = args.subject.clone() else { return Ok(args) };
    if args.resume && args.run.is_none() && models().run_path(subject.as_ref()).join("config.json").is_file()
    {
        args.run = Some(subject.into());
        args.subject = None;
    } else if Subject::of(&subject) == Subject::Text {
        if let Some(data) = &args.data {
            bail_usage!("two texts are named, {subject} and --data {data}; name one, or a folder of both");
        }
        args.data = Some(subject);
        args.subject = None;
    }
    Ok(args)
}

fn recipe_name(args: &Args) -> &str {
    args.subject.as_deref().unwrap_or(PRESETS[0].0)
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
