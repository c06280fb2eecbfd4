//! Sentences on a run before it begins and after it has ended.

use std::{path::Path, time::Duration};

use burn::prelude::Device;
use checkpoint::RunFolder;
use dataset::{Prepared, Source};
use engine::quoted;
use indicatif::HumanCount;
use journal::{
    History, Standing, standing,
    words::{count, duration, plural, sizes},
};
use trainer::{Changes, DataRecipe, Ending, KeepWeights, Outcome, Recipe, Schedule, Training};

use crate::{
    console::{program, report, report_command, warn},
    plan::report_epochs,
    prepare::DataDirArgs,
};

/// Says that a name is that of a known corpus where a file or folder has it too, and how to get that.
pub(crate) fn report_name(data: &str) {
    if matches!(Source::resolve(data), Ok(Source::Corpus(_))) && Path::new(data).exists() {
        report(format_args!(
            "{data} is the known corpus; for the file or folder of that name: --data ./{}",
            quoted(data)
        ));
    }
}

/// Says what a run is about to read, and what of it may not be meant.
pub(crate) fn report_data(data: &DataRecipe, prepared: &Prepared) {
    let Prepared { meta, train, valid, .. } = prepared;
    let documents = meta.documents.as_ref().filter(|documents| documents.n_separators > 0);
    let divided = documents.filter(|documents| documents.are_tokens).map_or_else(String::new, |documents| {
        let n_documents = plural(HumanCount(documents.n_documents), "document");
        format!(", {n_documents} between {} {}", HumanCount(documents.n_separators), documents.separator)
    });
    report(format_args!(
        "data: {}{divided}, {} to train on and {} to validate on ({})",
        data.corpus,
        plural(count(train.len() as u64), "token"),
        plural(count(valid.len() as u64), "token"),
        meta.tokenizer
    ));
    report_name(&data.corpus);
    let as_text = documents.filter(|documents| !documents.are_tokens);
    if let Some(documents) = as_text.filter(|_| prepared.tokenizer.end_of_text().is_some()) {
        warn(format_args!(
            "the text has {} {}, which are taken as plain text; add --set 'data.separator=\"{}\"' to a new run to make each a \
             token",
            HumanCount(documents.n_separators),
            documents.separator,
            documents.separator
        ));
    } else if let Some(documents) = as_text {
        warn(format_args!(
            "the text has {} {} between documents, which the tokenizer {} takes as plain text. A new model with \
             data.tokenizer=bpe:4096 has a token for it that ends a document",
            HumanCount(documents.n_separators),
            documents.separator,
            meta.tokenizer
        ));
    }
    if meta.has_json_lines {
        warn(format_args!(
            "{} has JSON lines, which are taken as plain text: their markup is learnt too. Write the texts alone to a file \
             to learn from them",
            data.corpus
        ));
    }
}

/// Says what is about to happen.
pub(crate) fn announce(training: &Training, changes: &Changes) {
    let Training { recipe, folder, train, resume, device, .. } = training;
    report(format_args!(
        "{} {}: {}",
        if resume.is_some() { "resuming" } else { "training" },
        folder.path().display(),
        sizes(&recipe.model),
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
    if kernels::supported_precision(recipe.run.precision, device) != recipe.run.precision {
        warn(format_args!(
            "run.precision = \"bf16\" needs a GPU that has bf16, or a processor with AVX-512 BF16; this device has \
             neither, so products are computed in f32"
        ));
    }
}

/// Says where an interrupted run stands and the command that resumes it.
pub(crate) fn print_resume_hint(folder: &RunFolder, outcome: &Outcome, data_dir: &DataDirArgs) {
    report(format_args!("stopped after step {}, which is saved. Resume with:", outcome.state.step));
    report_command(format_args!("{}", resume_command(folder, data_dir)));
}

/// The command that resumes a run.
pub(crate) fn resume_command(folder: &RunFolder, data_dir: &DataDirArgs) -> String {
    let path = quoted(&folder.path().display().to_string());
    format!("{} train --resume --run {path}{}", program(), data_dir.as_option())
}

/// The options with which a run that has done its steps trains as many again.
pub(crate) fn further(recipe: &Recipe, n_steps: u64) -> String {
    let max_steps = (2 * n_steps).max(1);
    let ends_at_zero = recipe.clone().with_max_steps(max_steps).check_plan().is_err();
    let decay = if ends_at_zero { " --set schedule.decay_steps=none" } else { "" };
    format!(" --max-steps {max_steps}{decay}")
}

/// Says how a run went, where its weights stand, and what to type next.
pub(crate) fn conclude(
    folder: &RunFolder,
    corpus: &str,
    outcome: &Outcome,
    data_dir: &DataDirArgs,
) -> anyhow::Result<()> {
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
    if let Some(recipe) = &history.recipe {
        report_standing(&history, recipe, &resume_command(folder, data_dir), state.step);
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

/// Says what would help a run that has done its steps.
fn report_standing(history: &History, recipe: &Recipe, resume: &str, step: u64) {
    // Of steps that changed nothing, losses say nothing.
    if let Err(error) = recipe.check_plan() {
        return warn(format_args!("{error}: {resume}{}", further(recipe, step)));
    }
    match standing(history) {
        Some(Standing::Untrained { last }) => warn(format_args!(
            "the best weights are the untrained ones of step 0: training has not helped with the validation text (last loss \
             {last:.4}). Check that both texts are of the same kind"
        )),
        Some(Standing::LastIsBest) => report(format_args!(
            "the last weights are the best, so more steps would help: {resume}{}",
            further(recipe, step)
        )),
        Some(Standing::Levelled { best_step, last }) => report(format_args!(
            "the validation loss has hardly changed since step {best_step} (last {last:.4}). More text or a larger model \
             would help"
        )),
        Some(Standing::OverFitting { best_step, best, last }) => report(format_args!(
            "over-fitting since step {best_step}: the validation loss rose from {best:.4} to {last:.4}. More text, \
             model.dropout=0.2 or a smaller model would help"
        )),
        None => {}
    }
}
