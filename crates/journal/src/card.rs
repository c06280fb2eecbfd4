//! A run's `README.md`: what the model is, in the form that model hubs show.

use std::{fmt::Write, fs, path::Path, time::Duration};

use burn::prelude::Device;
use checkpoint::RunFolder;
use engine::quoted;
use families::{Family, NoFamily};
use indicatif::HumanCount;
use serde_json::json;
use tokenizer::Tokenizer;
use trainer::Split;

use crate::{
    History, Result, parts,
    samples::{LAST_SAMPLE_TOKENS, sample, sample_of},
    words::{duration, epochs_in_words, evenly},
};

/// A card with this line is ours to write again; a person who edits one takes it out.
const OURS: &str =
    "<!-- Written by Kindling after training. Take out this line to keep your own changes. -->";

/// Evaluations that are listed.
const LISTED: usize = 6;

/// Writes the card, unless there is one that a person has made theirs. Its sample is generated on `device`, where none was by
/// the weights that the folder holds.
///
/// # Errors
///
/// If the run can't be read, the sample not be generated or the file not be written.
pub fn write_card(folder: &RunFolder, device: &Device) -> Result<()> {
    let path = folder.card_path();
    if fs::read_to_string(&path).is_ok_and(|card| !card.contains(OURS)) {
        return Ok(());
    }
    let history = History::open(folder.clone())?;
    let tokenizer = folder.load_tokenizer()?;
    let kind = tokenizer.kind().map(|kind| kind.to_string());
    let sample = sample_of_kept(&history, &tokenizer, device)?;
    folder.save_card(&card(&history, kind.as_deref(), sample.as_ref()))?;
    Ok(())
}

/// A text by the weights that the folder holds, and their step.
struct KeptSample {
    step: u64,
    text: String,
}

fn sample_of_kept(history: &History, tokenizer: &Tokenizer, device: &Device) -> Result<Option<KeptSample>> {
    let Some((step, recipe)) = history.folder.kept_step().zip(history.recipe.as_ref()) else {
        return Ok(None);
    };
    let folder = &history.folder;
    let text = match sample_of(&folder.samples_path(), step) {
        Some(text) => text,
        None => sample(&folder.load_model(device)?, tokenizer, recipe.run.seed, LAST_SAMPLE_TOKENS)?,
    };
    Ok(Some(KeptSample { step, text }))
}

/// The text of the card.
fn card(history: &History, tokenizer: Option<&str>, sample: Option<&KeptSample>) -> String {
    let History { folder, config, recipe, state, .. } = history;
    let name = folder.name();
    // Paths on this machine stay private.
    let corpus =
        recipe.as_ref().map_or_else(|| "unknown".to_owned(), |recipe| file_name(&recipe.data.corpus));
    let base = history.sessions.first().and_then(|session| session.init_from.as_deref());
    let base = base.map(file_name);
    let base_model = base.as_ref().map_or_else(String::new, |base| format!("base_model: {}\n", json!(base)));
    let begun_from = base.map_or_else(String::new, |base| format!(" It began as {base}."));
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
         {OURS}\n\n# {name}\n\n\
         A {kind}language model of {} parameters, trained on `{corpus}` with Kindling {}.{begun_from}\n\n",
        HumanCount(config.n_params() as u64),
        env!("CARGO_PKG_VERSION"),
    );
    let mut row = |name: &str, value: String| {
        let _ = writeln!(card, "| {name} | {value} |"); // A String takes all that is written.
    };
    row("", String::new());
    row("---", "---".to_owned());
    row(
        "layers, heads, width",
        format!("{}, {}, {}", config.n_layer, config.attention.n_head, config.n_embd),
    );
    row("parts", parts::in_words(&parts::parts(&history.model())));
    row("block", format!("{} tokens", config.block_size));
    row("vocabulary", format!("{} tokens ({})", config.vocab_size, tokenizer.unwrap_or("from elsewhere")));
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
        history.of(Split::Valid).filter_map(|line| Some((line.step, line.loss?))).collect();
    if !evaluations.is_empty() {
        card += "\n## Learning\n\n![Loss by step](loss.png)\n\n| step | validation loss |\n|--:|--:|\n";
        for (step, loss) in evenly(&evaluations, LISTED) {
            let _ = writeln!(card, "| {step} | {loss:.4} |");
        }
    }
    if let Some(KeptSample { step, text }) = sample {
        let fence = fence(text);
        let _ = write!(
            card,
            "\n## Sample\n\nWithout a prompt, by these weights (step {step}):\n\n{fence}text\n{}\n{fence}\n",
            text.trim_end()
        );
    }
    card += &usage(folder, family);
    card += "`recipe.toml` is how it was trained, `metrics.jsonl` how that went.\n";
    card
}

/// The last part of a path.
fn file_name(path: &str) -> String {
    Path::new(path).file_name().map_or_else(|| path.to_owned(), |name| name.to_string_lossy().into_owned())
}

/// How the model is opened, by those who can.
fn usage(folder: &RunFolder, family: Result<&Family, NoFamily>) -> String {
    // Relative, as it is where the folder is seen from beside it.
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
                "\n## How to use it\n\n`kindling generate {argument}`: nothing else opens it, since {reason}.\n"
            )
        }
    }
}

/// A fence of backticks longer than any in the text.
fn fence(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    "`".repeat((longest + 1).max(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_is_longer_than_what_it_holds() {
        assert_eq!(fence("a `b` c"), "```");
        assert_eq!(fence("```rust\n```` x"), "`````");
    }
}
