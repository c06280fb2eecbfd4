//! The model card: a run's `README.md` with the metadata that the Hugging Face hub reads.

mod origin;
mod usage;

use std::{fmt::Write, fs, time::Duration};

use burn::prelude::Device;
use checkpoint::RunFolder;
use families::WeightStorage;
use indicatif::HumanCount;
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
    /// For chat data, it starts with a prompt.
    text: String,
    has_prompt: bool,
}

fn kept_sample(history: &History, tokenizer: &Tokenizer, device: &Device) -> Result<Option<KeptSample>> {
    let Some((step, recipe)) = history.folder.kept_step().zip(history.recipe.as_ref()) else {
        return Ok(None);
    };
    let folder = &history.folder;
    let (text, has_prompt) = match recorded_sample(&folder.samples_path(), step) {
        Some(text) => (text, recipe.chat.is_some()),
        None => {
            let model = folder.load_model_with(WeightStorage::Mapped, device)?;
            (sample(&model, tokenizer, recipe.run.seed, LAST_SAMPLE_TOKENS)?, false)
        }
    };
    Ok(Some(KeptSample { step, text, has_prompt }))
}

fn card(history: &History, tokenizer: Option<&str>, sample: Option<&KeptSample>) -> String {
    let History { folder, config, recipe, state, .. } = history;
    let mut card = format!(
        "{}\n{GENERATED_NOTE}\n\n# {}\n\n{}\n\n",
        origin::metadata(history),
        folder.name(),
        origin::paragraph(history)
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
    if let Some(KeptSample { step, text, has_prompt }) = sample {
        let (fence, text) = (fence(text), text.trim_end());
        let origin = match has_prompt {
            true => "A prompt of the validation data, and the answer generated",
            false => "Generated without a prompt",
        };
        // Writing to a String cannot fail.
        let _ = write!(
            card,
            "\n## Sample\n\n{origin} by these weights (step {step}):\n\n{fence}text\n{text}\n{fence}\n"
        );
    }
    card += &usage::section(history);
    card += "`recipe.toml` has the training configuration, `metrics.jsonl` the training metrics.\n";
    card
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
