//! Sentences on a run before it begins and after it has ended.

use std::time::Duration;

use burn::prelude::Device;
use checkpoint::RunFolder;
use model::GptConfig;
use trainer::{Changes, Ending, KeepWeights, Outcome, Recipe, Schedule, Split, Training};

use crate::{
    console::{count, duration, plural, program, quoted, report, report_command, warn},
    history::History,
    plan::report_epochs,
};

/// A validation loss this close to the best one, as a share of it, is as good: evaluations and seeds differ by as much.
const AS_GOOD: f64 = 0.01;

/// The sizes of a model in a few words.
pub(crate) fn sizes(config: &GptConfig) -> String {
    format!(
        "{} parameters ({}, {}, {} wide, block {})",
        count(config.n_params() as u64),
        plural(config.n_layer, "layer"),
        plural(config.n_head, "head"),
        config.n_embd,
        config.block_size,
    )
}

/// Says what is about to happen.
pub(crate) fn announce(training: &Training, changes: &Changes) {
    let Training { recipe, folder, train, valid, resume, device, .. } = training;
    report(format_args!(
        "{} {}: {}, {} of {} tokens and {} to validate on",
        if resume.is_some() { "resuming" } else { "training" },
        folder.path().display(),
        sizes(&recipe.model),
        recipe.data.tokenizer,
        count(train.len() as u64),
        count(valid.len() as u64),
    ));
    if let Some(checkpoint) = resume {
        report(format_args!("from step {} of {}", checkpoint.state.step, recipe.schedule.max_steps));
    }
    report_epochs(recipe, train.len());
    for (key, [before, after]) in changes {
        report(format_args!("changed: {key} from {before} to {after}"));
    }
    if let (Some(checkpoint), Some(restart)) = (resume, recipe.schedule.restart)
        && checkpoint.state.step == restart.step
    {
        let schedule = Schedule::new(&recipe.optimizer, &recipe.schedule);
        report(format_args!(
            "the learning rate goes from {:.2e} to {:.2e} in {}",
            restart.learning_rate,
            schedule.at(restart.step + schedule.ramp_steps),
            plural(schedule.ramp_steps + 1, "step")
        ));
    }
    let schedule = &recipe.schedule;
    if schedule.warmup_steps > schedule.max_steps {
        warn(format_args!(
            "schedule.warmup_steps = {} is above schedule.max_steps = {}: the learning rate does not get \
             to its highest",
            schedule.warmup_steps, schedule.max_steps
        ));
    }
    // A new plan with such steps is refused; a run that had them before resumes as it was.
    if let Err(error) = recipe.check_plan() {
        warn(format_args!("{error}"));
    }
    warn_of_precision(recipe, device);
}

/// Says where a precision is asked for that the device does not have.
pub(crate) fn warn_of_precision(recipe: &Recipe, device: &Device) {
    if recipe.run.precision.on(device) != recipe.run.precision {
        warn(format_args!(
            "run.precision = \"bf16\" needs a GPU that has bf16, or a processor with AVX-512 BF16; this device has \
             neither, so products are computed in f32"
        ));
    }
}

/// Says where an interrupted run stands and the command that resumes it.
pub(crate) fn print_resume_hint(folder: &RunFolder, outcome: &Outcome) {
    let path = folder.path().display().to_string();
    report(format_args!("stopped after step {}, which is saved. Resume with:", outcome.state.step));
    report_command(format_args!("{} train --resume --run {}", program(), quoted(&path)));
}

/// Says how a run went, where its weights stand, and what to type next.
pub(crate) fn conclude(folder: &RunFolder, corpus: &str, outcome: &Outcome) -> anyhow::Result<()> {
    let state = &outcome.state;
    let history = History::open(folder.clone())?;
    let path = folder.path().display().to_string();
    if outcome.ending == Ending::StoppedEarly {
        report(format_args!(
            "stopped early: the validation loss did not improve in {} evaluations",
            state.evaluations_since_best
        ));
    }
    let keep = history.recipe.as_ref().map(|recipe| recipe.run.keep_weights).unwrap_or_default();
    if let Some(loss) = state.best_loss {
        let time = duration(Duration::from_secs_f64(state.elapsed_seconds));
        let kept = match keep {
            KeepWeights::Best => format!("kept in {path}"),
            KeepWeights::Last => format!("while {path} keeps the weights of step {}", state.step),
        };
        report(format_args!(
            "done in {time}: best validation loss {loss:.4} after step {}, {kept}",
            state.best_step
        ));
    }
    let losses: Vec<(u64, f64)> =
        history.of(Split::Valid).filter_map(|line| Some((line.step, line.loss?))).collect();
    match standing(&losses) {
        Some(Standing::Untrained { last }) => {
            warn(format_args!(
                "the best weights are the untrained ones of step 0: training has not helped with the validation text (last \
                 loss {last:.4}). Is it a text of the same kind as the training text?"
            ));
        }
        Some(Standing::LastIsBest) => report(format_args!(
            "the last weights are the best, so more steps would help: {} train --resume --run {} --max-steps {}",
            program(),
            quoted(&path),
            2 * state.step
        )),
        Some(Standing::Levelled { best_step, last }) => report(format_args!(
            "since step {best_step} the validation loss has hardly changed (last {last:.4}); more text or a larger model \
             would help, more steps would not"
        )),
        Some(Standing::OverFitting { best_step, best, last }) => report(format_args!(
            "over-fitting since step {best_step}: the validation loss rose from {best:.4} to {last:.4}. More text, \
             model.dropout=0.2 or a smaller model would help"
        )),
        None => {}
    }
    let has_other_last = keep == KeepWeights::Best && state.best_step != state.step;
    if has_other_last {
        report(format_args!("the last weights are at {}", quoted(&format!("{path}@last"))));
    }
    // A name that the model knows, where we know one.
    let prompt = if corpus == "shakespeare" { " --prompt 'ROMEO:'" } else { "" };
    report(format_args!("Generate text with:"));
    report_command(format_args!("{} generate {}{prompt}", program(), quoted(&path)));
    Ok(())
}

/// How the validation losses of a run stand to each other at its end.
#[derive(Debug, PartialEq)]
enum Standing {
    Untrained { last: f64 },
    LastIsBest,
    Levelled { best_step: u64, last: f64 },
    OverFitting { best_step: u64, best: f64, last: f64 },
}

/// Of steps and losses, in order; nothing can be said of fewer than two.
fn standing(losses: &[(u64, f64)]) -> Option<Standing> {
    let &[(first_step, _), .., (last_step, last)] = losses else { return None };
    let &(best_step, best) = losses.iter().min_by(|a, b| a.1.total_cmp(&b.1))?;
    Some(match best_step {
        _ if best_step == last_step => Standing::LastIsBest,
        0 if first_step == 0 => Standing::Untrained { last },
        _ if last <= best * (1.0 + AS_GOOD) => Standing::Levelled { best_step, last },
        _ => Standing::OverFitting { best_step, best, last },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_stands_where_its_losses_say() {
        assert_eq!(standing(&[]), None);
        assert_eq!(standing(&[(0, 4.0)]), None);
        assert_eq!(standing(&[(0, 4.0), (10, 3.0), (20, 2.0)]), Some(Standing::LastIsBest));
        assert_eq!(standing(&[(0, 4.0), (10, 5.0)]), Some(Standing::Untrained { last: 5.0 }));
        let levelled = Standing::Levelled { best_step: 10, last: 2.01 };
        assert_eq!(standing(&[(0, 4.0), (10, 2.0), (20, 2.01)]), Some(levelled));
        let over_fitting = Standing::OverFitting { best_step: 10, best: 2.0, last: 3.0 };
        assert_eq!(standing(&[(0, 4.0), (10, 2.0), (20, 3.0)]), Some(over_fitting));
    }
}
