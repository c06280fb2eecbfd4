//! Messages before a run starts.

use std::path::Path;

use burn::prelude::Device;
use console::{program, report, warn};
use dataset::{Examples, Prepared, Source};
use engine::quoted;
use indicatif::HumanCount;
use journal::summary::{count, epochs_in_words, percent, plural, sizes};
use trainer::{
    Changes, ChatSummary, Chats, DataRecipe, KeepWeights, Preferences, Recipe, RunData, Schedule, Training,
};

/// From about this many epochs on, models of a few million parameters memorise their text.
const MANY_EPOCHS: f64 = 20.0;

/// Reports that `data` names a known corpus although a file or folder has the same name.
pub fn report_ambiguous_name(data: &str) {
    if matches!(Source::resolve(data), Ok(Source::Corpus(_))) && Path::new(data).exists() {
        report(format_args!(
            "using the known corpus {data}; for the file or folder of that name, add --data ./{}",
            quoted(data)
        ));
    }
}

/// Reports a run's data, and warns of separators and JSON lines that are read as plain text.
pub fn report_data(recipe: &DataRecipe, data: &RunData) {
    match data {
        RunData::Text(prepared) => report_text(recipe, prepared),
        RunData::Chats(chats) => report_chats(recipe, chats),
        RunData::Preferences(pairs) => report_pairs(recipe, pairs),
    }
}

fn report_chats(data: &DataRecipe, Chats { train, valid, summary, format }: &Chats) {
    let statistics = &summary.statistics;
    report(format_args!(
        "data: {}, {} to train on and {} to validate on, {} of which {} are trained",
        data.corpus,
        plural(count(train.len() as u64), "conversation"),
        count(valid.len() as u64),
        plural(count((train.n_tokens() + valid.n_tokens()) as u64), "token"),
        percent(statistics.trained_share()),
    ));
    let left_out = [
        (statistics.n_cut, "cut after a turn, because they are longer than the block"),
        (statistics.n_too_long, "left out, because the first answer does not fit the block"),
        (statistics.n_unanswered, "shortened by a last message of the user, which has no answer"),
    ];
    for (n, what) in left_out.into_iter().filter(|&(n, _)| n > 0) {
        let n = plural(count(n as u64), "conversation");
        report(format_args!("{n} {what}"));
    }
    warn_of_special_tokens(summary);
    if let Some(text) = format.encoder.text_like_special_tokens().ok().and_then(|mut texts| texts.pop_first())
    {
        warn(format_args!(
            "the chat template prints {text}, which is not a token of the model: is it the template of this model? `{} data \
             check {} --model MODEL` shows the tokens",
            program(),
            quoted(&data.corpus)
        ));
    }
}

/// Warns of messages with the text of special tokens.
pub fn warn_of_special_tokens(summary: &ChatSummary) {
    if let Some((token, place)) = &summary.first_special {
        warn(format_args!(
            "{} with special tokens in the text, such as {token} at {place}; a model sees the tokens, not the text",
            plural(summary.n_with_special, "conversation")
        ));
    }
}

fn report_pairs(data: &DataRecipe, Preferences { train, valid, summary, .. }: &Preferences) {
    let n_pairs = |part: &Examples| part.len() as u64 / 2;
    report(format_args!(
        "data: {}, {} to train on and {} to validate on, {}",
        data.corpus,
        plural(count(n_pairs(train)), "pair"),
        count(n_pairs(valid)),
        plural(count((train.n_tokens() + valid.n_tokens()) as u64), "token"),
    ));
    if summary.n_too_long > 0 {
        let n = plural(count(summary.n_too_long as u64), "pair");
        report(format_args!("{n} left out, because both answers with their prompts do not fit the block"));
    }
}

fn report_text(data: &DataRecipe, prepared: &Prepared) {
    let Prepared { meta, train, valid, .. } = prepared;
    let documents = meta.documents.as_ref().filter(|documents| documents.n_separators > 0);
    let divided = documents.filter(|documents| documents.are_tokens).map_or_else(String::new, |documents| {
        let n_documents = plural(HumanCount(documents.n_documents), "document");
        format!(", {n_documents} separated by {} {}", HumanCount(documents.n_separators), documents.separator)
    });
    report(format_args!(
        "data: {}{divided}, {} and {} ({})",
        data.corpus,
        plural(count(train.len() as u64), "training token"),
        plural(count(valid.len() as u64), "validation token"),
        meta.tokenizer
    ));
    report_ambiguous_name(&data.corpus);
    let as_text = documents.filter(|documents| !documents.are_tokens);
    if let Some(documents) = as_text.filter(|_| prepared.tokenizer.end_of_text().is_some()) {
        warn(format_args!(
            "the text has {} {}, which are read as plain text; to encode each as one token, add --set \
             'data.separator=\"{}\"' to a new run",
            HumanCount(documents.n_separators),
            documents.separator,
            documents.separator
        ));
    } else if let Some(documents) = as_text {
        warn(format_args!(
            "the text has {} {} between documents, which the tokenizer {} encodes as plain text; a new run with --set \
             data.tokenizer=bpe:4096 encodes each as one token",
            HumanCount(documents.n_separators),
            documents.separator,
            meta.tokenizer
        ));
    }
    if !warn_of_chats(&data.corpus) && meta.has_json_lines {
        warn(format_args!(
            "{} has JSON lines, which are read as plain text: the model learns their markup too; to avoid that, \
             extract the texts to a file",
            data.corpus
        ));
    }
}

/// Warns of chat data that is read as text, and returns whether the corpus is such data.
pub fn warn_of_chats(corpus: &str) -> bool {
    let Some(preset) = trainer::chat_preset(corpus) else { return false };
    warn(format_args!(
        "{corpus} has chat data, which is read as plain text with its markup; to train on its answers, use {} train \
         {preset} --init-from MODEL --data {}",
        program(),
        quoted(corpus)
    ));
    true
}

/// Reports the run that is about to start: model, plan and changed keys. Warns of settings that have no effect.
pub fn announce(training: &Training, changes: &Changes) {
    let Training { recipe, folder, data, resume, device, .. } = training;
    report(format_args!(
        "{} {}: {}",
        if resume.is_some() { "resuming" } else { "training" },
        folder.path().display(),
        sizes(&recipe.model),
    ));
    if let Some(lora) = &recipe.lora {
        let updates = training.model.lora().into_values().flatten();
        let n_trained: usize = updates
            .map(|lora| [lora.a(), lora.b()].map(|it| it.shape().num_elements()).iter().sum::<usize>())
            .sum();
        report(format_args!(
            "trained: {} parameters in updates of rank {}",
            count(n_trained as u64),
            lora.rank
        ));
    }
    if let Some(checkpoint) = resume {
        report(format_args!("from step {} of {}", checkpoint.state.step, recipe.schedule.max_steps));
    }
    // Data that can't be packed is an error of the training itself.
    if let Ok(n_tokens) = data.tokens_per_epoch(recipe) {
        report_epochs(recipe, n_tokens);
    }
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
            "schedule.warmup_steps = {} is above schedule.max_steps = {}: the learning rate never reaches \
             its maximum",
            schedule.warmup_steps, schedule.max_steps
        ));
    }
    // New plans with a learning rate of 0 are errors; a run that already has one may resume.
    if let Err(error) = recipe.check_plan() {
        warn(format_args!("{error}"));
    }
    warn_of_precision(recipe, device);
}

/// Warns if the device does not support the recipe's precision.
pub fn warn_of_precision(recipe: &Recipe, device: &Device) {
    if kernels::supported_precision(recipe.run.precision, device) != recipe.run.precision {
        warn(format_args!(
            "run.precision = \"bf16\" needs a GPU with bf16 or a CPU with AVX-512 BF16; this device has neither, so \
             matrix products are computed in f32"
        ));
    }
}

/// Reports the number of epochs, and warns if it is high.
fn report_epochs(recipe: &Recipe, tokens_per_epoch: usize) {
    let epochs = recipe.epochs(tokens_per_epoch);
    report(format_args!(
        "{} of {}: {} of the training {}",
        plural(HumanCount(recipe.schedule.max_steps), "step"),
        plural(HumanCount(recipe.tokens_per_step()), "token"),
        epochs_in_words(epochs),
        recipe.data_noun()
    ));
    warn_of_epochs(recipe, epochs);
}

/// Warns of so many epochs that the model is likely to memorise the text.
pub fn warn_of_epochs(recipe: &Recipe, epochs: f64) {
    let data = recipe.data_noun();
    if epochs >= MANY_EPOCHS && recipe.run.keep_weights == KeepWeights::Best {
        warn(format_args!(
            "this plan reads the {data} {epochs:.0} times; from about {MANY_EPOCHS} epochs on, a model memorises it. Use \
             more {data}, fewer steps (--epochs 10), or --set {}=0.2",
            recipe.dropout_key()
        ));
    }
}
