//! What is said of a run before it begins and after it has ended.

use std::time::Duration;

use burn::prelude::Device;
use checkpoint::RunFolder;
use model::GptConfig;
use trainer::{Changes, Ending, Outcome, Recipe, Training};

use crate::console::{count, duration, program, quoted, report, report_command, warn};

/// The sizes of a model in a few words.
pub(crate) fn sizes(config: &GptConfig) -> String {
    format!(
        "{} parameters ({} layers, {} heads, {} wide, block {})",
        count(config.n_params() as u64),
        config.n_layer,
        config.n_head,
        config.n_embd,
        config.block_size,
    )
}

/// Says what is about to happen.
pub(crate) fn announce(training: &Training, changes: &Changes) {
    let Training { recipe, folder, train, valid, resume, device, .. } = training;
    report(format_args!(
        "{} {}: {}, {} of {} tokens and {} to validate on",
        if resume.is_some() { "going on with" } else { "training of" },
        folder.path().display(),
        sizes(&recipe.model),
        recipe.data.tokenizer,
        count(train.len() as u64),
        count(valid.len() as u64),
    ));
    if let Some(checkpoint) = resume {
        report(format_args!("from step {} of {}", checkpoint.state.step, recipe.schedule.max_steps));
    }
    for (key, [before, after]) in changes {
        report(format_args!("changed: {key} from {before} to {after}"));
    }
    let schedule = &recipe.schedule;
    if schedule.warmup_steps > schedule.max_steps {
        warn(format_args!(
            "schedule.warmup_steps = {} is above schedule.max_steps = {}: the learning rate does not get \
             to its highest",
            schedule.warmup_steps, schedule.max_steps
        ));
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

/// Says where an interrupted run stands and what to type to go on.
pub(crate) fn tell_how_to_go_on(folder: &RunFolder, outcome: &Outcome) {
    let path = folder.path().display().to_string();
    report(format_args!("stopped after step {}, which is saved. Go on with:", outcome.state.step));
    report_command(format_args!("{} train --resume --run {}", program(), quoted(&path)));
}

/// Says how a run went and what to type next.
pub(crate) fn conclude(folder: &RunFolder, corpus: &str, outcome: &Outcome) {
    let state = &outcome.state;
    let path = folder.path().display().to_string();
    if outcome.ending == Ending::StoppedEarly {
        report(format_args!(
            "stopped early: the validation loss did not get better in {} evaluations",
            state.evaluations_since_best
        ));
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
    report_command(format_args!("{} generate {}{prompt}", program(), quoted(&path)));
}
