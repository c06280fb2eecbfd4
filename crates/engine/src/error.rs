use std::path::PathBuf;

use crate::HubError;

/// An error while finding, loading or using a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(
        "there is no run, folder or GGUF file {}; give a run in {}/, a model folder or a GGUF file{advice}",
        .path.display(), .runs.display()
    )]
    Missing {
        path: PathBuf,
        /// The folder of runs.
        runs: PathBuf,
        /// A suggestion, or empty.
        advice: String,
    },

    #[error("there is no run in {}/ yet; train one first: {program} train", .runs.display())]
    NoRuns { runs: PathBuf, program: String },

    #[error("{} is a pipe or device, not a model; save the model to a file first", .path.display())]
    Stream { path: PathBuf },

    #[error("{} is not a LoRA adapter; give a run of `train lora`, a folder of PEFT or a GGUF adapter", .path.display())]
    NotAnAdapter { path: PathBuf },

    /// A GGUF file where a folder is required.
    #[error("{} is a GGUF file; import it first, then use the run: {import}", .path.display())]
    NotImported {
        path: PathBuf,
        /// The command that imports it.
        import: String,
    },

    /// A file of a model in Hugging Face layout.
    #[error("{} is one file of a model; give its folder: {}", .path.display(), .folder.display())]
    Part { path: PathBuf, folder: PathBuf },

    /// Any other file.
    #[error("{} is not a model{advice}", .path.display())]
    File {
        path: PathBuf,
        /// How to import it, or what to give instead.
        advice: String,
    },

    /// A folder with a PyTorch checkpoint, not in Hugging Face layout.
    #[error("{} is not a model{advice}", .path.display())]
    Folder {
        path: PathBuf,
        /// How to import the checkpoint.
        advice: String,
    },

    #[error("{}@{which}: after @, give a step, `last` or `best`", .path.display())]
    WhichWeights {
        path: PathBuf,
        /// The text after the @.
        which: String,
    },

    #[error("{} has no checkpoints; omit @last", .path.display())]
    NoCheckpoints { path: PathBuf },

    #[error(
        "{} has no weights of step {step}; it has {}. A run keeps more with --set schedule.keep_every=N",
        .path.display(), names_of(.path, .known)
    )]
    NoStep {
        path: PathBuf,
        step: u64,
        /// The steps whose weights the run has.
        known: Vec<u64>,
    },

    /// `model.safetensors` can't be loaded, but the run has checkpoints.
    #[error("cannot load the weights of {0}; to use its last checkpoint instead, give {0}@last", .path.display())]
    HasCheckpoint { path: PathBuf, source: Box<checkpoint::Error> },

    #[error(transparent)]
    Model(#[from] families::Error),

    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),

    #[error(
        "the tokenizer has {n_tokens} tokens, but the model only {vocab_size}; use the tokenizer that the model was trained with"
    )]
    Vocabulary {
        /// Tokens of the tokenizer.
        n_tokens: usize,
        /// Tokens of the model.
        vocab_size: usize,
    },

    /// The tokenizer given for a `ckpt.pt` can't be read.
    #[error("cannot read the tokenizer {} given with --tokenizer", .path.display())]
    NamedTokenizer { path: PathBuf, source: tokenizer::Error },

    /// No tokenizer was given or found for a `ckpt.pt`.
    #[error(
        "{} contains no tokenizer for its {vocab_size} tokens; give one with --tokenizer, such as the meta.pkl of a \
         character-level corpus", .path.display()
    )]
    UnnamedTokenizer { path: PathBuf, vocab_size: usize },

    #[error(transparent)]
    Hub(#[from] HubError),

    /// A text that can't be encoded.
    #[error(transparent)]
    Tokenizer(#[from] tokenizer::Error),

    #[error(
        "{token:?} is neither a single token nor an id of this model, which has {n_tokens} token{}",
        if *.n_tokens == 1 { "" } else { "s" }
    )]
    NoToken {
        /// Its text or id.
        token: String,
        n_tokens: usize,
    },

    /// Invalid sampling options, or logits that no token can be sampled from.
    #[error(transparent)]
    Sampler(#[from] sampler::Error),

    #[error("cannot read the next token's logits from the device: {0:?}")]
    Logits(burn::tensor::DataError),

    #[error("--stride must be between 1 and the block size {block_size} (got {stride})")]
    Stride { stride: usize, block_size: usize },
}

/// The result of an engine operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether the request itself is malformed, independent of existing models: an invalid name or option.
    pub fn is_malformed_request(&self) -> bool {
        match self {
            Self::WhichWeights { .. } | Self::NoToken { .. } | Self::Stride { .. } => true,
            Self::Hub(error) => error.is_malformed_name(),
            _ => false,
        }
    }
}

/// The available weights of a run, as RUN@STEP.
fn names_of(run: &std::path::Path, steps: &[u64]) -> String {
    if steps.is_empty() {
        return "no checkpoints".to_owned();
    }
    let names: Vec<String> = steps.iter().map(|step| format!("{}@{step}", run.display())).collect();
    names.join(", ")
}
