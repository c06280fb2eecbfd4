//! The model card: a run's `README.md` with the metadata that the Hugging Face hub reads.

use std::{fmt::Write, fs, path::Path, time::Duration};

use burn::prelude::Device;
use checkpoint::RunFolder;
use engine::quoted;
use families::{Family, NoFamily, WeightStorage};
use indicatif::HumanCount;
use serde_json::json;
use tokenizer::Tokenizer;
use trainer::Split;

use crate::{
    History, Result, architecture_options, describe_options,
    samples::{LAST_SAMPLE_TOKENS, recorded_sample, sample},
    summary::{duration, epochs_in_words, evenly},
};

/// Cards with this line are overwritten. Users remove it to keep their edits. Its text must not change: older cards
/// contain it.
const GENERATED_NOTE: &str =
    "<!-- Written by Kindling after training. Take out this line to keep your own changes. -->";

/// Maximum number of evaluations in the table.
const MAX_EVALUATIONS: usize = 6;

/// Writes the card, unless the user has edited it. Its sample is the one in `samples.txt` of the kept weights' step, or
/// else is generated on `device`.
///
/// # Errors
///
/// If the run can't be read, no sample can be generated or the file can't be written.
pub fn write_card(folder: &RunFolder, device: &Device) -> Result<()> {
    let path = folder.card_path();
    if fs::read_to_string(&path).is_ok_and(|card| !card.contains(GENERATED_NOTE)) {
        return Ok(());
    }
    let history = History::open(folder.clone())?;
    let tokenizer = folder.load_tokenizer()?;
    let kind = tokenizer.kind().map(|kind| kind.to_string());
    let sample = kept_sample(&history, &tokenizer, device)?;
    folder.save_card(&card(&history, kind.as_deref(), sample.as_ref()))?;
    Ok(())
}

/// A sample of the weights in `model.safetensors`, and their step.
struct KeptSample {
    step: u64,
    text: String,
}

fn kept_sample(history: &History, tokenizer: &Tokenizer, device: &Device) -> Result<Option<KeptSample>> {
    let Some((step, recipe)) = history.folder.kept_step().zip(history.recipe.as_ref()) else {
        return Ok(None);
    };
    let folder = &history.folder;
    let text = match recorded_sample(&folder.samples_path(), step) {
        Some(text) => text,
        None => {
            let model = folder.load_model_with(WeightStorage::Mapped, device)?;
            sample(&model, tokenizer, recipe.run.seed, LAST_SAMPLE_TOKENS)?
        }
    };
    Ok(Some(KeptSample { step, text }))
}

fn card(history: &History, tokenizer: Option<&str>, sample: Option<&KeptSample>) -> String {
    let History { folder, config, recipe, state, .. } = history;
    let name = folder.name();
    // File names only: full paths would reveal the user's folders.
    let corpus =
        recipe.as_ref().map_or_else(|| "unknown".to_owned(), |recipe| file_name(&recipe.data.corpus));
    let base = history.sessions.first().and_then(|session| session.init_from.as_deref());
    let base = base.map(file_name);
    let base_model = base.as_ref().map_or_else(String::new, |base| format!("base_model: {}\n", json!(base)));
    let initialised_from = base.map_or_else(String::new, |base| format!(" It was initialised from {base}."));
    let family = Family::of(config);
    let (library, tags, kind) = match &family {
        Ok(family) => {
            let tags = format!("{}, kindling", family.model_type);
            ("library_name: transformers\n", tags, format!("{} ", family.name))
        }
        Err(_) => ("", "kindling".to_owned(), String::new()),
    };
    let mut card = format!(
        "---\n{library}pipeline_tag: text-generation\ntags: [{tags}]\n{base_model}---\n\n\
         {GENERATED_NOTE}\n\n# {name}\n\n\
         A {kind}language model of {} parameters, trained on `{corpus}` with Kindling {}.{initialised_from}\n\n",
        HumanCount(config.n_params() as u64),
        env!("CARGO_PKG_VERSION"),
    );
    let mut row = |name: &str, value: String| {
        let _ = writeln!(card, "| {name} | {value} |"); // Writing to a String cannot fail.
    };
    row("", String::new());
    row("---", "---".to_owned());
    row(
        "layers, heads, width",
        format!("{}, {}, {}", config.n_layer, config.attention.n_head, config.n_embd),
    );
    row("architecture", describe_options(&architecture_options(&history.model())));
    row("context length", format!("{} tokens", config.block_size));
    row("vocabulary", format!("{} tokens ({})", config.vocab_size, tokenizer.unwrap_or("imported")));
    if let Some(recipe) = recipe {
        row("optimizer", recipe.optimizer.kind.to_string());
    }
    if let Some(state) = state {
        let time = duration(Duration::from_secs_f64(state.elapsed_seconds));
        let epochs = history.train_tokens().map_or_else(String::new, |train_tokens| {
            format!(", {}", epochs_in_words(state.tokens as f64 / train_tokens.max(1) as f64))
        });
        let (steps, tokens) = (HumanCount(state.step), HumanCount(state.tokens));
        row("trained", format!("{steps} steps, {tokens} tokens{epochs}, {time}"));
    }
    if let Some(best) = history.best() {
        let loss = best.loss.unwrap_or(f64::NAN);
        row("best validation loss", format!("{loss:.4} nats per token, after step {}", best.step));
    }
    let evaluations: Vec<(u64, f64)> =
        history.metrics_of(Split::Valid).filter_map(|line| Some((line.step, line.loss?))).collect();
    if !evaluations.is_empty() {
        card += "\n## Training\n\n![Loss by step](loss.png)\n\n| step | validation loss |\n|--:|--:|\n";
        for (step, loss) in evenly(&evaluations, MAX_EVALUATIONS) {
            let _ = writeln!(card, "| {step} | {loss:.4} |");
        }
    }
    if let Some(KeptSample { step, text }) = sample {
        let fence = fence(text);
        let _ = write!(
            card,
            "\n## Sample\n\nGenerated without a prompt by these weights (step {step}):\n\n{fence}text\n{}\n{fence}\n",
            text.trim_end()
        );
    }
    card += &usage(folder, family);
    card += "`recipe.toml` has the training configuration, `metrics.jsonl` the training metrics.\n";
    card
}

fn file_name(path: &str) -> String {
    Path::new(path).file_name().map_or_else(|| path.to_owned(), |name| name.to_string_lossy().into_owned())
}

/// The section with the Python code and commands that load the model.
fn usage(folder: &RunFolder, family: Result<&Family, NoFamily>) -> String {
    // Absolute paths are shortened to the name: they would reveal the user's folders.
    let path = if folder.path().is_absolute() { folder.name() } else { folder.path().display().to_string() };
    let (literal, argument) = (json!(path), quoted(&path));
    match family {
        Ok(_) => format!(
            "\n## How to use it\n\n\
             ```python\n\
             from transformers import AutoModelForCausalLM, AutoTokenizer\n\n\
             path = {literal}  # this folder\n\
             model = AutoModelForCausalLM.from_pretrained(path)\n\
             tokenizer = AutoTokenizer.from_pretrained(path)\n\
             prompt = tokenizer(\"Once\", return_tensors=\"pt\")\n\
             print(tokenizer.decode(model.generate(**prompt, max_new_tokens=50)[0]))\n\
             ```\n\n\
             or `kindling generate {argument}`; `kindling export {argument} --format gguf` makes a file for \
             llama.cpp.\n"
        ),
        Err(reason) => {
            format!(
                "\n## How to use it\n\n`kindling generate {argument}`; other programs can't load it: {reason}.\n"
            )
        }
    }
}

/// A Markdown code fence with more backticks than any run of them in the text.
fn fence(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    "`".repeat((longest + 1).max(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_is_longer_than_any_in_the_text() {
        assert_eq!(fence("a `b` c"), "```");
        assert_eq!(fence("```rust\n```` x"), "`````");
    }
}
