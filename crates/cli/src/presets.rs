//! `kindling presets`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use console::{report, table};
use journal::summary::{count, duration_about};
use model::GptConfig;
use serde::Serialize;
use trainer::{CHAT_BLOCK, Cost, PAIR_BLOCK, PRESETS, Recipe, vocab_size};

/// Lists the built-in recipes, with an estimate of the time each takes on this machine.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Times are estimates: the FLOPs of the training steps, at the share of this CPU's peak that training
usually reaches. Evaluations and samples are not included. `kindling bench RECIPE` measures speed. Times of fine-tuning
are for GPT-2 of 124M parameters (finetune) or SmolLM2-135M (sft, lora, dpo).

Examples:
  kindling presets
  kindling presets --json
  kindling train nanogpt-cpu"
)]
pub(crate) struct Args {
    /// Print one JSON object per preset, each on its own line.
    #[arg(long)]
    json: bool,
}

/// Number of measurements of the peak.
const N_PEAKS: usize = 3;

/// Typical number of distinct characters in a text.
const CHARACTERS: usize = 65;

#[derive(Debug, Serialize)]
struct Preset {
    name: &'static str,
    /// The first sentence of the recipe file.
    description: String,
    /// The model whose sizes `cost` has, if the recipe fine-tunes one.
    model: Option<&'static str>,
    #[serde(flatten)]
    cost: Cost,
    steps: u64,
}

impl Preset {
    fn of(name: &'static str, text: &str, peak_flops: f64) -> anyhow::Result<Self> {
        let description = first_sentence(text);
        let fine_tuned = fine_tuned(text)?;
        let sizes = fine_tuned.as_ref().map_or_else(Vec::new, |(_, config)| Recipe::sizes(config));
        let mut recipe = Recipe::parse(text, &sizes)?;
        recipe.model.vocab_size = match &fine_tuned {
            Some((_, config)) => config.vocab_size,
            None => vocab_size(recipe.data.tokenizer, CHARACTERS),
        };
        let (steps, cost) = (recipe.schedule.max_steps, Cost::of(&recipe, peak_flops));
        Ok(Self { name, description, model: fine_tuned.map(|(model, _)| model), cost, steps })
    }

    fn row(&self) -> [String; 7] {
        [
            self.name.to_owned(),
            self.model.unwrap_or("its own").to_owned(),
            count(self.cost.parameters as u64),
            self.steps.to_string(),
            count(self.cost.tokens),
            duration_about(self.cost.seconds),
            self.description.clone(),
        ]
    }
}

/// The model that stands for those which a recipe without sizes fine-tunes, and its config; `None` if it has sizes.
fn fine_tuned(text: &str) -> anyhow::Result<Option<(&'static str, GptConfig)>> {
    let recipe: toml::Table = text.parse()?;
    if recipe.get("model").is_some_and(|model| model.get("n_layer").is_some()) {
        return Ok(None);
    }
    let smollm2 = |block_size| ("SmolLM2-135M", GptConfig { block_size, ..GptConfig::smollm2_135m() });
    Ok(Some(match (recipe.contains_key("chat"), recipe.contains_key("dpo")) {
        (false, _) => ("GPT-2", GptConfig::gpt2()),
        (true, false) => smollm2(CHAT_BLOCK),
        (true, true) => smollm2(PAIR_BLOCK),
    }))
}

/// The first sentence of the comment at the start of a recipe.
fn first_sentence(text: &str) -> String {
    let comment: Vec<&str> = text.lines().map_while(|line| line.strip_prefix('#')).map(str::trim).collect();
    let comment = comment.join(" ");
    comment.split_once(". ").map_or(comment.trim_end_matches('.'), |(first, _)| first).to_owned()
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    // The highest of a few: other load lowers a measurement, and nothing raises it.
    let measured = (0..N_PEAKS).map(|_| roofline::peak_flops(rayon::current_num_threads()));
    let peak_flops = measured.fold(f64::MIN_POSITIVE, f64::max);
    let presets = PRESETS.iter().map(|(name, text)| Preset::of(name, text, peak_flops));
    let presets = presets.collect::<anyhow::Result<Vec<Preset>>>()?;
    let mut out = io::stdout().lock();
    if args.json {
        for preset in &presets {
            writeln!(out, "{}", serde_json::to_string(preset)?)?;
        }
    } else {
        let header = ["preset", "model", "parameters", "steps", "tokens", "time here", "description"];
        writeln!(out, "{}", table(header, presets.iter().map(Preset::row), &[2, 3, 4, 5]))?;
        report(format_args!("any key can be changed: --set section.key=value"));
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_has_a_description() {
        for (name, text) in PRESETS {
            let preset = Preset::of(name, text, 1e11).unwrap();
            assert!((10..120).contains(&preset.description.len()), "{name}: {}", preset.description);
            let model = match name {
                "finetune" => Some("GPT-2"),
                "sft" | "lora" | "dpo" => Some("SmolLM2-135M"),
                _ => None,
            };
            assert_eq!(preset.model, model, "{name}");
        }
        assert_eq!(first_sentence("# One thing. Another.\n[model]\n"), "One thing");
        assert_eq!(first_sentence("# One thing\n# in two lines.\n\n# Not this."), "One thing in two lines");
    }

    #[test]
    fn the_time_is_inversely_proportional_to_the_peak() {
        let seconds = |peak_flops| {
            let (name, text) = PRESETS[0];
            Preset::of(name, text, peak_flops).unwrap().cost.seconds
        };
        assert!((seconds(1e11) / seconds(2e11) - 2.0).abs() < 1e-9);
        assert!((30.0..300.0).contains(&seconds(1e11)), "tiny takes minutes on a small machine");
    }
}
