//! `kindling train`.

mod args;
mod errors;
mod own_recipe;
pub(crate) mod ranks;
mod resume;
mod run_files;
mod short;
mod start;
mod subject;

use std::{any::Any, process::ExitCode, time::Duration};

use anyhow::Context;
use checkpoint::Session;
use console::{can_draw, is_quiet, warn};
use journal::{History, N_QUESTIONS, Questions, SampleLog, summary::sizes, write_card};
use model::Activations;
use monitor::{ChartFiles, Key, Lines, LiveView, Observer, Screen, announce, conclude, print_resume_hint};
use trainer::{Changes, Control, Ending, Event, Training};

pub(crate) use self::args::Args;
use self::{args::Log, ranks::Ranks};
use crate::{allocator, probe, signals::Signals};

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let ranks = Ranks::start(Duration::from_secs(args.rank_timeout))?;
    let result = train(args, &ranks);
    ranks.end(result)
}

fn train(args: Args, ranks: &Ranks) -> anyhow::Result<ExitCode> {
    let args = args.with_subject_resolved()?;
    if ranks.are_several() {
        args.check_for_ranks()?;
    }
    let signals = Signals::listen()?;
    if args.overfit_one_batch || args.find_learning_rate {
        let device = args.device.open()?;
        let (planned, model) = start::experiment(&args, &device, ranks)?;
        return if args.overfit_one_batch {
            probe::overfit_one_batch(planned, model, &device, &signals)
        } else {
            probe::find_learning_rate(planned, model, &device, &signals)
        };
    }
    let devices = match ranks.are_several() {
        true => args.device.open_for_rank(ranks.local_index())?,
        false => args.device.open_all()?,
    };
    let begun = if args.resume {
        resume::resume(&args, &devices, ranks)?
    } else {
        start::start(&args, &devices, ranks)?
    };
    let Some((training, changes)) = begun else {
        return Ok(ExitCode::SUCCESS); // --dry-run
    };
    let training = Training { group: ranks.group().clone(), ..training };
    let folder = training.folder.clone();
    let corpus = training.recipe.data.corpus.clone();
    let control = Control::new();
    signals.forward_to(&control);
    let (observe, screen_guard) = match ranks.scratch_run() {
        None => observer(&args, &training, changes, &control, &signals)?,
        Some(_) => (Box::new(|_: Event<'_>| ()) as trainer::Observer, Box::new(()) as Box<dyn Any>),
    };
    allocator::release_free_memory(); // Of loading, such as the buffers of quantised weights.
    if training.recipe.activations() == Activations::Recompute {
        allocator::keep_less_free_memory();
    }
    let outcome = trainer::train(training, control, observe);
    drop(screen_guard); // Restores the terminal before anything else is printed.
    let outcome = outcome?;
    if ranks.scratch_run().is_some() {
        return Ok(ExitCode::SUCCESS);
    }
    Ok(match outcome.ending {
        Ending::Interrupted => {
            print_resume_hint(&folder, &outcome, &args.data_dir.as_option());
            // A launcher takes any other code for a failure of the job.
            if ranks.are_several() { ExitCode::SUCCESS } else { ExitCode::from(signals.exit_code()) }
        }
        Ending::StoppedEarly | Ending::Finished => {
            write_card(&folder, &devices[0])?;
            conclude(&folder, &corpus, &outcome, &args.data_dir.as_option())?;
            ExitCode::SUCCESS
        }
    })
}

/// Announces and logs the session. Returns the observer of the run, and a guard that restores the terminal when it is
/// dropped.
fn observer(
    args: &Args,
    training: &Training,
    changes: Changes,
    control: &Control,
    signals: &Signals,
) -> anyhow::Result<(trainer::Observer, Box<dyn Any>)> {
    let folder = &training.folder;
    let tokenizer = folder.load_tokenizer()?;
    announce(training, &changes);
    let step = training.resume.as_ref().map_or(0, |checkpoint| checkpoint.state.step);
    let threads = rayon::current_num_threads();
    folder.add_session(&Session {
        recipe: (!args.resume).then(|| args.recipe_name().to_owned()),
        init_from: args.init_from.as_ref().map(|path| path.display().to_string()),
        train_tokens: Some(training.data.tokens_per_epoch(&training.recipe)? as u64),
        ..Session::now(step, args.device.name(), threads, changes)
    })?;

    let samples_path = folder.samples_path();
    // A pending evaluation runs first, followed by the sample of its step.
    let pending = training.resume.as_ref().is_some_and(|checkpoint| checkpoint.state.evaluation_pending);
    let last_shown_step = if pending { step.saturating_sub(1) } else { step };
    let samples = SampleLog::open(&samples_path, last_shown_step)
        .with_context(|| format!("cannot open {}", samples_path.display()))?;
    let resumed_at = training.resume.as_ref().map(|_| last_shown_step);
    let chart_files = ChartFiles::open(folder, resumed_at, args.log == Log::Tensorboard);
    let (screen, screen_guard) = open_screen(args, training, last_shown_step, control, signals)?;
    let prompts = training.data.questions(N_QUESTIONS);
    let stop_tokens = folder.special_tokens()?.eos;
    let questions = (!prompts.is_empty()).then_some(Questions { prompts, stop_tokens });
    let seed = training.recipe.run.seed;
    let mut observer = Observer { screen, tokenizer, questions, samples, chart_files, seed };
    Ok((Box::new(move |event: Event<'_>| observer.event(event)), screen_guard))
}

/// The live view or progress lines, and a guard that restores the terminal when it is dropped.
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
        let (control, signals) = (control.clone(), signals.clone());
        let on_key = move |key| match key {
            Key::Stop => signals.stop_gently(),
            Key::Interrupt => signals.interrupt(),
            Key::Save => control.save(),
            Key::Sample => control.sample(),
        };
        match LiveView::open(titles, &before, on_key) {
            Ok((view, terminal)) => return Ok((Box::new(view), Box::new(terminal))),
            Err(error) => warn(format_args!("cannot open the live view, printing lines instead: {error}")),
        }
    }
    let (lines, bar) = Lines::open();
    Ok((Box::new(lines), Box::new(bar)))
}
