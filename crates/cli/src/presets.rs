//! `kindling presets`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use console::{report, table};
use journal::words::{count, duration_about};
use serde::Serialize;
use trainer::{Cost, PRESETS, Recipe, vocab_size};

/// Lists the recipes that come with the program, and about how long each takes on this machine.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The time is that of the arithmetic at the share of this processor's peak that training reaches, with
nothing else running; evaluations, samples and other programs come on top. `kindling bench RECIPE`
measures.

Examples:
  kindling presets
  kindling presets --json
  kindling train nanogpt-cpu"
)]
pub(crate) struct Args {
    /// Print one JSON object for each.
    #[arg(long)]
    json: bool,
}

/// How often the peak is measured.
const N_PEAKS: usize = 3;

/// Distinct characters in a text, about.
const CHARACTERS: usize = 65;

#[derive(Debug, Serialize)]
struct Preset {
    name: &'static str,
    /// What the first sentence of its file says.
    description: String,
    /// None where the recipe goes on with another model, whose sizes it takes.
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

/// The first sentence of the comment that a recipe begins with.
fn first_sentence(text: &str) -> String {
    let comment: Vec<&str> = text.lines().map_while(|line| line.strip_prefix('#')).map(str::trim).collect();
    let comment = comment.join(" ");
    comment.split_once(". ").map_or(comment.trim_end_matches('.'), |(first, _)| first).to_owned()
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    // The best of a few: whatever else the machine does makes one lower, and nothing makes one higher.
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
        let header = ["preset", "parameters", "steps", "tokens", "time here", "what it is"];
        writeln!(out, "{}", table(header, presets.iter().map(Preset::row), &[1, 2, 3, 4]))?;
        report(format_args!("any key can be changed: --set section.key=value"));
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_says_what_it_is() {
        for (name, text) in PRESETS {
            let preset = Preset::of(name, text, 1e11).unwrap();
            assert!((10..120).contains(&preset.description.len()), "{name}: {}", preset.description);
            assert_eq!(preset.cost.is_none(), name == "finetune");
        }
        assert_eq!(first_sentence("# One thing. Another.\n[model]\n"), "One thing");
        assert_eq!(first_sentence("# One thing\n# in two lines.\n\n# Not this."), "One thing in two lines");
    }

    #[test]
    fn the_time_is_that_of_the_arithmetic() {
        let seconds = |peak_flops| {
            let (name, text) = PRESETS[0];
            Preset::of(name, text, peak_flops).unwrap().cost.unwrap().seconds
        };
        assert!((seconds(1e11) / seconds(2e11) - 2.0).abs() < 1e-9);
        assert!((30.0..300.0).contains(&seconds(1e11)), "tiny takes minutes on a small machine");
    }
}
