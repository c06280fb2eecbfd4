//! What is said of a run before it begins.

use std::path::Path;

use burn::prelude::Device;
use console::{report, warn};
use dataset::{Prepared, Source};
use engine::quoted;
use indicatif::HumanCount;
use journal::words::{count, epochs_in_words, plural, sizes};
use trainer::{Changes, DataRecipe, KeepWeights, Recipe, Schedule, Training};

/// Epochs from which models of a few million parameters learn their text by heart.
const MANY_EPOCHS: f64 = 20.0;

/// Says that a name is that of a known corpus where a file or folder has it too, and how to get that.
pub fn report_name(data: &str) {
    if matches!(Source::resolve(data), Ok(Source::Corpus(_))) && Path::new(data).exists() {
        report(format_args!(
            "{data} is the known corpus; for the file or folder of that name: --data ./{}",
            quoted(data)
        ));
    }
}

/// Says what a run is about to read, and what of it may not be meant.
pub fn report_data(data: &DataRecipe, prepared: &Prepared) {
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
pub fn announce(training: &Training, changes: &Changes) {
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
pub fn warn_of_precision(recipe: &Recipe, device: &Device) {
    if kernels::supported_precision(recipe.run.precision, device) != recipe.run.precision {
        warn(format_args!(
            "run.precision = \"bf16\" needs a GPU that has bf16, or a processor with AVX-512 BF16; this device has \
             neither, so products are computed in f32"
        ));
    }
}

/// Says how often the plan reads the text, and warns if that is often.
fn report_epochs(recipe: &Recipe, train_tokens: usize) {
    let epochs = recipe.epochs(train_tokens);
    report(format_args!(
        "{} of {}: {} of the training text",
        plural(HumanCount(recipe.schedule.max_steps), "step"),
        plural(HumanCount(recipe.tokens_per_step()), "token"),
        epochs_in_words(epochs)
    ));
    warn_of_epochs(recipe, epochs);
}

/// Warns of a text that is read so often that a model learns it by heart.
pub fn warn_of_epochs(recipe: &Recipe, epochs: f64) {
    if epochs >= MANY_EPOCHS && recipe.run.keep_weights == KeepWeights::Best {
        warn(format_args!(
            "this plan reads the text {epochs:.0} times, and from about {MANY_EPOCHS} on a model learns it by heart. Train on \
             more text, or on fewer steps (--epochs 10), or set model.dropout=0.2"
        ));
    }
}
