//! Messages after a run has ended, and the commands to type next.

use std::time::Duration;

use checkpoint::RunFolder;
use console::{program, report, report_command, warn};
use engine::quoted;
use journal::{History, LossTrend, loss_trend, summary::duration};
use trainer::{Ending, KeepWeights, Outcome, Recipe};

/// Reports the step at which a run was interrupted and the command that resumes it.
pub fn print_resume_hint(folder: &RunFolder, outcome: &Outcome, data_option: &str) {
    report(format_args!("stopped after step {}, checkpoint saved; resume with:", outcome.state.step));
    report_command(format_args!("{}", resume_command(folder, data_option)));
}

/// The command that resumes a run. `data_option` is the option for the folder of prepared data with a leading space, or
/// empty.
pub fn resume_command(folder: &RunFolder, data_option: &str) -> String {
    let path = quoted(&folder.path().display().to_string());
    format!("{} train --resume --run {path}{}", program(), data_option)
}

/// The options that make a run twice as long; `n_steps` is the number of steps done.
pub fn longer_run_options(recipe: &Recipe, n_steps: u64) -> String {
    let max_steps = (2 * n_steps).max(1);
    let ends_at_zero = recipe.clone().with_max_steps(max_steps).check_plan().is_err();
    let decay = if ends_at_zero { " --set schedule.decay_steps=none" } else { "" };
    format!(" --max-steps {max_steps}{decay}")
}

/// Reports how a run ended, where its weights are, and the command that generates text.
///
/// # Errors
///
/// If the history of the run can't be read.
pub fn conclude(
    folder: &RunFolder,
    corpus: &str,
    outcome: &Outcome,
    data_option: &str,
) -> journal::Result<()> {
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
            KeepWeights::Best => format!(", weights saved in {path}"),
            KeepWeights::Last => format!("; {path} has the weights of step {}", state.step),
        };
        report(format_args!(
            "done in {time}: best validation loss {loss:.4} after step {}{kept}",
            state.best_step
        ));
    }
    if let Some(recipe) = &history.recipe {
        report_standing(&history, recipe, &resume_command(folder, data_option), state.step);
    }
    let has_other_last = keep == KeepWeights::Best && state.best_step != state.step;
    if has_other_last {
        report(format_args!("the last weights are at {}", quoted(&format!("{path}@last"))));
    }
    if history.recipe.as_ref().is_some_and(|recipe| recipe.chat.is_some()) {
        report(format_args!("Talk with it:"));
        report_command(format_args!("{} chat {}", program(), quoted(&path)));
        return Ok(());
    }
    // A prompt that occurs in the training text.
    let prompt = if corpus == "shakespeare" { " --prompt 'ROMEO:'" } else { "" };
    report(format_args!("Generate text with:"));
    report_command(format_args!("{} generate {}{prompt}", program(), quoted(&path)));
    Ok(())
}

/// Reports the trend of the losses and suggests improvements.
fn report_standing(history: &History, recipe: &Recipe, resume: &str, step: u64) {
    // With a learning rate of 0, the losses have no trend.
    if let Err(error) = recipe.check_plan() {
        return warn(format_args!("{error}: {resume}{}", longer_run_options(recipe, step)));
    }
    let data = recipe.data_noun();
    match loss_trend(history) {
        Some(LossTrend::NeverImproved { last }) => warn(format_args!(
            "the weights of step 0 have the lowest validation loss (last {last:.4}); check that the training and \
             validation {data} are similar"
        )),
        Some(LossTrend::LastIsBest) => report(format_args!(
            "the last weights are the best, so more steps would help: {resume}{}",
            longer_run_options(recipe, step)
        )),
        Some(LossTrend::Plateau { best_step, last }) => report(format_args!(
            "the validation loss has hardly changed since step {best_step} (last {last:.4}). More {data} or a larger \
             model would help"
        )),
        Some(LossTrend::Overfitting { best_step, best, last }) => report(format_args!(
            "overfitting since step {best_step}: the validation loss rose from {best:.4} to {last:.4}. More {data}, \
             {}=0.2 or {} would help",
            recipe.dropout_key(),
            if recipe.lora.is_some() { "a lower lora.rank" } else { "a smaller model" }
        )),
        None => {}
    }
}
