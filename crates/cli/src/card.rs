//! A run's `README.md`: what the model is, in the form that model hubs show.

use std::{fmt::Write, fs, path::Path, time::Duration};

use checkpoint::{Architecture, NoLayout, RunFolder};
use indicatif::HumanCount;
use serde_json::json;
use trainer::Split;

use crate::{
    console::{duration, evenly, quoted},
    history::History,
    parts,
    samples::last_sample,
};

/// A card with this line is ours to write again; a person who edits one takes it out.
const OURS: &str =
    "<!-- Written by Kindling after training. Take out this line to keep your own changes. -->";

/// Evaluations that are listed.
const LISTED: usize = 6;

/// Writes the card, unless there is one that a person has made theirs.
pub(crate) fn write(folder: &RunFolder) -> anyhow::Result<()> {
    let path = folder.card_path();
    if fs::read_to_string(&path).is_ok_and(|card| !card.contains(OURS)) {
        return Ok(());
    }
    let history = History::open(folder.clone())?;
    let tokenizer = folder.load_tokenizer()?.kind().map(|kind| kind.to_string());
    let sample = last_sample(&folder.samples_path());
    folder.save_card(&card(&history, tokenizer.as_deref(), sample.as_deref()))?;
    Ok(())
}

/// The text of the card.
fn card(history: &History, tokenizer: Option<&str>, sample: Option<&str>) -> String {
    let History { folder, config, recipe, state, .. } = history;
    let name = folder.name();
    // Where a text lies on this machine is nobody's business.
    let corpus = recipe.as_ref().and_then(|recipe| Path::new(&recipe.data.corpus).file_name());
    let corpus = corpus.map_or_else(|| "unknown".into(), |corpus| corpus.to_string_lossy());
    let base = history.sessions.first().and_then(|session| session.init_from.as_deref());
    let base_model = base.map_or_else(String::new, |base| format!("base_model: {}\n", json!(base)));
    let begun_from = base.map_or_else(String::new, |base| format!(" It began as {base}."));
    let architecture = Architecture::of(config);
    let (library, tags, kind) = match &architecture {
        Ok(architecture) => {
            let tags = format!("{}, kindling", architecture.model_type());
            ("library_name: transformers\n", tags, format!("{} ", architecture.name()))
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
    row("layers, heads, width", format!("{}, {}, {}", config.n_layer, config.n_head, config.n_embd));
    row("parts", parts::in_words(&parts::parts(&history.model())));
    row("block", format!("{} tokens", config.block_size));
    row("vocabulary", format!("{} tokens ({})", config.vocab_size, tokenizer.unwrap_or("from elsewhere")));
    if let Some(recipe) = recipe {
        row("optimizer", recipe.optimizer.kind.to_string());
    }
    if let Some(state) = state {
        let time = duration(Duration::from_secs_f64(state.elapsed_seconds));
        row("trained", format!("{} steps, {} tokens, {time}", state.step, HumanCount(state.tokens)));
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
    if let Some(sample) = sample {
        let fence = fence(sample);
        let _ = write!(card, "\n## What it writes\n\n{fence}text\n{}\n{fence}\n", sample.trim_end());
    }
    card += &usage(folder, architecture);
    card += "`recipe.toml` is how it was trained, `metrics.jsonl` how that went.\n";
    card
}

/// How the model is opened, by those who can.
fn usage(folder: &RunFolder, architecture: Result<Architecture, NoLayout>) -> String {
    let path = folder.path().display().to_string();
    let (literal, argument) = (json!(path), quoted(&path));
    match architecture {
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
