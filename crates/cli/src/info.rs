//! `kindling info`.

use std::{
    fs,
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Context;
use checkpoint::{RunFolder, WEIGHTS};
use serde::Serialize;
use trainer::{Metrics, Recipe, Split};

use crate::model_folder::FolderArgs;

/// Shows sizes, parameters, tokenizer, what it was trained on and how far.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kindling info               the newest run
  kindling info runs/tiny     that one")]
pub(crate) struct Args {
    #[command(flatten)]
    folder: FolderArgs,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What there is to say of a model.
#[derive(Debug, Serialize)]
struct Info {
    path: String,
    parameters: usize,
    layers: usize,
    heads: usize,
    width: usize,
    block_size: usize,
    vocab_size: usize,
    bias: bool,
    tied_embeddings: bool,
    tokenizer: String,
    weights_bytes: u64,
    corpus: Option<String>,
    steps: Option<u64>,
    max_steps: Option<u64>,
    tokens_seen: Option<u64>,
    best_loss: Option<f64>,
    best_step: Option<u64>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let folder = args.folder.open()?;
    let info = Info::of(&folder)?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&info)?)?;
    } else {
        info.write(&mut out)?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Info {
    fn of(folder: &RunFolder) -> anyhow::Result<Self> {
        let config = folder.config()?;
        let tokenizer = folder.load_tokenizer()?;
        let recipe = match fs::read_to_string(folder.recipe_path()) {
            Ok(text) => {
                Some(Recipe::parse(&text, &[]).with_context(|| folder.recipe_path().display().to_string())?)
            }
            Err(_) => None, // A model from elsewhere has none.
        };
        let metrics = read_metrics(folder);
        let valid = || metrics.iter().filter(|line| line.split == Split::Valid && line.loss.is_some());
        let best = valid().min_by(|a, b| a.loss.partial_cmp(&b.loss).expect("losses in a log are finite"));
        let state = folder.trainer_state();
        Ok(Self {
            path: folder.path().display().to_string(),
            parameters: config.n_params(),
            layers: config.n_layer,
            heads: config.n_head,
            width: config.n_embd,
            block_size: config.block_size,
            vocab_size: config.vocab_size,
            bias: config.bias,
            tied_embeddings: config.tie_embeddings,
            tokenizer: tokenizer.kind().map_or_else(|| "from elsewhere".to_owned(), |kind| kind.to_string()),
            weights_bytes: fs::metadata(folder.path().join(WEIGHTS)).map_or(0, |file| file.len()),
            corpus: recipe.as_ref().map(|recipe| recipe.data.corpus.clone()),
            steps: state.as_ref().map(|state| state.step),
            max_steps: recipe.as_ref().map(|recipe| recipe.schedule.max_steps),
            tokens_seen: state.as_ref().map(|state| state.tokens),
            best_loss: best.and_then(|line| line.loss),
            best_step: best.map(|line| line.step),
        })
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}", self.path)?;
        writeln!(
            out,
            "  model       {} parameters: {} layers, {} heads, {} wide, block {}",
            self.parameters, self.layers, self.heads, self.width, self.block_size
        )?;
        writeln!(out, "  tokenizer   {}, {} tokens", self.tokenizer, self.vocab_size)?;
        writeln!(out, "  weights     {} bytes", self.weights_bytes)?;
        if let Some(corpus) = &self.corpus {
            writeln!(out, "  corpus      {corpus}")?;
        }
        if let (Some(steps), Some(max_steps), Some(tokens)) = (self.steps, self.max_steps, self.tokens_seen) {
            writeln!(out, "  trained     {steps} of {max_steps} steps, {tokens} tokens")?;
        }
        if let (Some(loss), Some(step)) = (self.best_loss, self.best_step) {
            writeln!(out, "  best        validation loss {loss:.4} after step {step}")?;
        }
        Ok(())
    }
}

/// The lines of a run's metrics; a model from elsewhere has none.
fn read_metrics(folder: &RunFolder) -> Vec<Metrics> {
    let text = fs::read_to_string(folder.metrics_path()).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
