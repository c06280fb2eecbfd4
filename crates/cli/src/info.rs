//! `kindling info`.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    iter,
    path::Path,
    process::ExitCode,
};

use checkpoint::{MODEL, RunFolder, Session, WEIGHTS};
use console::local_time;
use engine::{ModelFolder, Source, StoredWeights, check_vocabulary};
use families::{
    ADAPTER_WEIGHTS, AdapterConfig, Family,
    gguf::{GgufFile, WeightType},
};
use indicatif::{HumanBytes, HumanCount};
use journal::{
    History, architecture_options, describe_options,
    summary::{evenly, plural},
};
use model::GptConfig;
use serde::{Serialize, Serializer};
use serde_json::Value;
use tokenizer::Tokenizer;
use trainer::{OptimizerKind, Split};

use crate::model_args::FolderArgs;

/// Number of validation losses to print.
const SHOWN: usize = 8;

/// Shows the architecture, tokenizer and training of a model.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kindling info               the newest run
  kindling info runs/tiny     a run by its folder
  kindling info tiny@last     the weights of the last checkpoint")]
pub(crate) struct Args {
    #[command(flatten)]
    folder: FolderArgs,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// The object that `--json` prints.
#[derive(Debug, Serialize)]
struct Info {
    path: String,
    /// The `transformers` class that loads it; for a GGUF file, after an import.
    architecture: Option<&'static str>,
    /// Why no `transformers` class can load it.
    no_layout: Option<String>,
    parameters: usize,
    layers: usize,
    heads: usize,
    key_value_heads: usize,
    width: usize,
    block_size: usize,
    vocab_size: usize,
    bias: bool,
    tied_embeddings: bool,
    /// Architecture options that differ from GPT-2.
    #[serde(serialize_with = "as_object")]
    parts: Vec<(&'static str, Value)>,
    tokenizer: String,
    weights_bytes: u64,
    /// Whether inference on the CPU maps the weights; null if the file can't be read, and for an adapter.
    mapped: Option<bool>,
    /// The training step of the weights.
    weights_step: Option<u64>,
    gguf: Option<GgufInfo>,
    adapter: Option<AdapterInfo>,
    optimizer: Option<OptimizerKind>,
    recipe: Option<String>,
    corpus: Option<String>,
    steps: Option<u64>,
    max_steps: Option<u64>,
    tokens_seen: Option<u64>,
    best_loss: Option<f64>,
    best_step: Option<u64>,
    /// The process that is training the run now.
    trained_by: Option<String>,
    /// `(step, validation loss)`.
    evaluations: Vec<(u64, f64)>,
    sessions: Vec<Session>,
}

/// A LoRA adapter, of which the other fields describe the model with its base.
#[derive(Debug, Serialize)]
struct AdapterInfo {
    base: String,
    rank: usize,
    alpha: f64,
    /// The updated modules by the ends of their names.
    targets: Vec<String>,
}

impl AdapterInfo {
    fn of(folder: &RunFolder) -> anyhow::Result<Self> {
        let config = AdapterConfig::read(folder.path())?;
        Ok(Self {
            base: folder.named_base()?.display().to_string(),
            rank: config.rank(),
            alpha: config.alpha(),
            targets: config.targets(),
        })
    }
}

#[derive(Debug, Serialize)]
struct GgufInfo {
    /// llama.cpp's architecture name.
    architecture: &'static str,
    /// Number of tensors by storage type.
    weight_types: BTreeMap<String, usize>,
    /// Size of the tensors in bytes, by storage type.
    weight_type_bytes: BTreeMap<String, u64>,
}

fn as_object<S: Serializer>(parts: &[(&'static str, Value)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(parts.iter().map(|(key, part)| (key, part)))
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let info = match args.folder.open()? {
        Source::Folder(model) => Info::of(model)?,
        Source::Gguf(file) => Info::of_file(&file)?,
    };
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&info)?)?;
    } else {
        info.write(&mut out)?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Info {
    fn of(model: ModelFolder) -> anyhow::Result<Self> {
        let weights_step = model.step();
        let ModelFolder { folder, weights } = model;
        let tokenizer = folder.load_tokenizer()?;
        let history = History::open(folder)?;
        let best = history.best();
        let History { folder, recipe, state, .. } = &history;
        let is_adapter = folder.is_adapter();
        let mapped = match weights {
            _ if is_adapter => None,
            StoredWeights::Kept => folder.is_mapped().ok(),
            StoredWeights::Checkpoint(_) => Some(false),
            StoredWeights::Backup(step) => folder.is_backup_mapped(step).ok(),
        };
        let weights_file = match weights {
            StoredWeights::Kept if is_adapter => folder.path().join(ADAPTER_WEIGHTS),
            StoredWeights::Kept => folder.path().join(WEIGHTS),
            StoredWeights::Checkpoint(step) => folder.checkpoint_path(step).join(MODEL),
            StoredWeights::Backup(step) => folder.backup_path(step),
        };
        Ok(Self {
            optimizer: recipe.as_ref().map(|recipe| recipe.optimizer.kind),
            weights_bytes: size_bytes(&weights_file),
            mapped,
            weights_step,
            adapter: is_adapter.then(|| AdapterInfo::of(folder)).transpose()?,
            recipe: history.recipe_name().map(str::to_owned),
            corpus: recipe.as_ref().map(|recipe| recipe.data.corpus.clone()),
            steps: state.as_ref().map(|state| state.step),
            max_steps: recipe.as_ref().map(|recipe| recipe.schedule.max_steps),
            tokens_seen: state.as_ref().map(|state| state.tokens),
            best_loss: best.and_then(|line| line.loss),
            best_step: best.map(|line| line.step),
            trained_by: folder.holder(),
            evaluations: history
                .metrics_of(Split::Valid)
                .filter_map(|line| Some((line.step, line.loss?)))
                .collect(),
            sessions: history.sessions.clone(),
            ..Self::of_model(folder.path(), &history.model(), &tokenizer)
        })
    }

    fn of_file(file: &GgufFile) -> anyhow::Result<Self> {
        check_vocabulary(file.tokenizer(), file.config())?;
        Ok(Self {
            weights_bytes: file.size_bytes(),
            mapped: Some(true),
            gguf: Some(GgufInfo {
                architecture: file.architecture(),
                weight_types: by_type(file, |ty| ty.n_tensors),
                weight_type_bytes: by_type(file, |ty| ty.n_bytes),
            }),
            ..Self::of_model(file.path(), file.config(), file.tokenizer())
        })
    }

    /// The fields that follow from the config and the tokenizer.
    fn of_model(path: &Path, config: &GptConfig, tokenizer: &Tokenizer) -> Self {
        let family = Family::of(config);
        Self {
            path: path.display().to_string(),
            architecture: family.as_ref().ok().map(|family| family.class),
            no_layout: family.err().map(|reason| reason.to_string()),
            parameters: config.n_params(),
            layers: config.n_layer,
            heads: config.attention.n_head,
            key_value_heads: config.n_kv_head(),
            width: config.n_embd,
            block_size: config.block_size,
            vocab_size: config.vocab_size,
            bias: config.bias,
            tied_embeddings: config.tie_embeddings,
            parts: architecture_options(config),
            tokenizer: tokenizer.kind().map_or_else(|| "from elsewhere".to_owned(), |kind| kind.to_string()),
            weights_bytes: 0,
            mapped: Some(false),
            weights_step: None,
            gguf: None,
            adapter: None,
            optimizer: None,
            recipe: None,
            corpus: None,
            steps: None,
            max_steps: None,
            tokens_seen: None,
            best_loss: None,
            best_step: None,
            trained_by: None,
            evaluations: Vec::new(),
            sessions: Vec::new(),
        }
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}", self.path)?;
        writeln!(
            out,
            "  model       {} parameters: {} layers, {} heads, {} wide, block {}",
            HumanCount(self.parameters as u64),
            self.layers,
            self.heads,
            self.width,
            self.block_size
        )?;
        writeln!(out, "  options     {}", describe_options(&self.parts))?;
        match (self.architecture, &self.no_layout) {
            _ if let Some(file) = &self.gguf => writeln!(out, "  layout      GGUF, {}", file.architecture)?,
            (Some(class), _) => writeln!(out, "  layout      {class}")?,
            (None, reason) => {
                writeln!(out, "  layout      kindling only: {}", reason.as_deref().unwrap_or_default())?
            }
        }
        writeln!(out, "  tokenizer   {}, {} tokens", self.tokenizer, self.vocab_size)?;
        let step = self.weights_step.map_or_else(String::new, |step| format!(", of step {step}"));
        let memory = match self.mapped {
            Some(true) => ", memory-mapped for inference on the CPU",
            Some(false) => ", copied for inference",
            None => "",
        };
        let adapter = if self.adapter.is_some() { " of the adapter alone" } else { "" };
        writeln!(out, "  weights     {}{adapter}{step}{memory}", HumanBytes(self.weights_bytes))?;
        if let Some(AdapterInfo { base, rank, alpha, targets }) = &self.adapter {
            writeln!(out, "  adapter     rank {rank}, alpha {alpha}, of {}", targets.join(", "))?;
            writeln!(out, "  base        {base}")?;
        }
        if let Some(file) = &self.gguf {
            file.write(out)?;
        }
        if let Some(recipe) = &self.recipe {
            writeln!(out, "  recipe      {recipe}")?;
        }
        if let Some(optimizer) = &self.optimizer {
            writeln!(out, "  optimizer   {optimizer}")?;
        }
        if let Some(corpus) = &self.corpus {
            writeln!(out, "  corpus      {corpus}")?;
        }
        if let (Some(steps), Some(max_steps), Some(tokens)) = (self.steps, self.max_steps, self.tokens_seen) {
            writeln!(out, "  trained     {steps} of {max_steps} steps, {} tokens", HumanCount(tokens))?;
        }
        if let (Some(loss), Some(step)) = (self.best_loss, self.best_step) {
            writeln!(out, "  best        validation loss {loss:.4} after step {step}")?;
        }
        if let Some(holder) = &self.trained_by {
            writeln!(out, "  now         trained by {holder}")?;
        }
        for (session, heading) in self.sessions.iter().zip(["sessions"].into_iter().chain(iter::repeat(""))) {
            writeln!(out, "  {heading:<12}{}", describe_session(session))?;
        }
        if !self.evaluations.is_empty() {
            let chosen = evenly(&self.evaluations, SHOWN);
            let shown: Vec<_> = chosen.map(|(step, loss)| format!("{loss:.3} ({step})")).collect();
            writeln!(out, "  losses      {}", shown.join("  "))?;
        }
        Ok(())
    }
}

impl GgufInfo {
    /// A line for each storage type.
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let headings = ["types"].into_iter().chain(iter::repeat(""));
        for ((ty, n_tensors), heading) in self.weight_types.iter().zip(headings) {
            let bytes = HumanBytes(self.weight_type_bytes.get(ty).copied().unwrap_or_default()).to_string();
            writeln!(out, "  {heading:<12}{ty:<6}{bytes:>12}, {}", plural(n_tensors, "tensor"))?;
        }
        Ok(())
    }
}

fn by_type<T>(file: &GgufFile, value: impl Fn(&WeightType) -> T) -> BTreeMap<String, T> {
    file.weight_types().iter().map(|(ty, tensors)| (ty.to_string(), value(tensors))).collect()
}

fn size_bytes(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |file| file.len())
}

/// One line about a session.
fn describe_session(session: &Session) -> String {
    let began =
        if session.step == 0 { "started".to_owned() } else { format!("resumed at step {}", session.step) };
    let mut line = format!(
        "{} {began} on {}, {} threads, version {}",
        local_time(session.started),
        session.device,
        session.threads,
        session.version
    );
    for (key, [before, after]) in &session.changes {
        line += &format!("; {key} {before} -> {after}");
    }
    line
}
