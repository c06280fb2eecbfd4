//! `kindling presets`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use console::{report, table};
use journal::summary::{count, duration_about};
use serde::Serialize;
use trainer::{Cost, PRESETS, Recipe, vocab_size};

/// Lists the built-in recipes, with an estimate of the time each takes on this machine.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Times are estimates: the FLOPs of the training steps, at the share of this CPU's peak that training
usually reaches. Evaluations and samples are not included. `kindling bench RECIPE` measures speed.

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
    /// None if the recipe takes its sizes from another model, as `finetune` does.
    #[serde(flatten)]
    cost: Option<Cost>,
    steps: u64,
}

impl Preset {
    fn of(name: &'static str, text: &str, peak_flops: f64) -> anyhow::Result<Self> {
        let description = first_sentence(text);
        let sizes_of_another =
            text.parse::<toml::Table>()?.get("model").is_none_or(|it| it.get("n_layer").is_none());
        let sizes = if sizes_of_another { Recipe::sizes(&model::GptConfig::gpt2()) } else { Vec::new() };
        let mut recipe = Recipe::parse(text, &sizes)?;
        recipe.model.vocab_size = vocab_size(recipe.data.tokenizer, CHARACTERS);
        let steps = recipe.schedule.max_steps;
        let cost = (!sizes_of_another).then(|| Cost::of(&recipe, peak_flops));
        Ok(Self { name, description, cost, steps })
    }

    fn row(&self) -> [String; 6] {
        let of = |show: &dyn Fn(&Cost) -> String| self.cost.as_ref().map_or_else(|| "-".to_owned(), show);
        [
            self.name.to_owned(),
            of(&|cost| count(cost.parameters as u64)),
            self.steps.to_string(),
            of(&|cost| count(cost.tokens)),
            of(&|cost| duration_about(cost.seconds)),
            self.description.clone(),
        ]
    }
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
        let header = ["preset", "parameters", "steps", "tokens", "time here", "description"];
        writeln!(out, "{}", table(header, presets.iter().map(Preset::row), &[1, 2, 3, 4]))?;
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
            assert_eq!(preset.cost.is_none(), ["finetune", "sft", "lora", "dpo"].contains(&name));
        }
        assert_eq!(first_sentence("# One thing. Another.\n[model]\n"), "One thing");
        assert_eq!(first_sentence("# One thing\n# in two lines.\n\n# Not this."), "One thing in two lines");
    }

    #[test]
    fn the_time_is_inversely_proportional_to_the_peak() {
        let seconds = |peak_flops| {
            let (name, text) = PRESETS[0];
            Preset::of(name, text, peak_flops).unwrap().cost.unwrap().seconds
        };
        assert!((seconds(1e11) / seconds(2e11) - 2.0).abs() < 1e-9);
        assert!((30.0..300.0).contains(&seconds(1e11)), "tiny takes minutes on a small machine");
    }
}
