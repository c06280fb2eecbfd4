use std::path::PathBuf;

use crate::HubError;

/// Why a model could not be opened or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A path or name that leads nowhere.
    #[error(
        "there is no run, folder or GGUF file {}; name a run of {}/, a folder with a model or a GGUF file{advice}",
        .path.display(), .runs.display()
    )]
    Missing {
        /// The path or name.
        path: PathBuf,
        /// The folder of runs.
        runs: PathBuf,
        /// The model that was probably meant.
        advice: String,
    },

    /// There is no run to take by default.
    #[error("there is no run in {}/ yet; train one first: {program} train", .runs.display())]
    NoRuns {
        /// The folder of runs.
        runs: PathBuf,
        /// The program that trains.
        program: String,
    },

    /// A pipe or device.
    #[error(
        "{} is a pipe or device, which can't be read as a model; save the model to a file and name that", .path.display()
    )]
    Stream {
        /// The path.
        path: PathBuf,
    },

    /// A GGUF file where only a folder is of use.
    #[error("{} is a GGUF file; import it first, and name the run: {import}", .path.display())]
    NotImported {
        /// The file.
        path: PathBuf,
        /// The command that imports it.
        import: String,
    },

    /// A part of a model in Hugging Face layout.
    #[error("{} is a part of a model; name the folder that it is in: {}", .path.display(), .folder.display())]
    Part {
        /// The file.
        path: PathBuf,
        /// Its folder.
        folder: PathBuf,
    },

    /// Another file.
    #[error("{} is a file and not a model{advice}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The way to a model.
        advice: String,
    },

    /// A folder without a model that has a PyTorch checkpoint.
    #[error("{} is not a model{advice}", .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The way to a model.
        advice: String,
    },

    /// An @ that is not followed by a step, `last` or `best`.
    #[error("{}@{which}: after @, give a step, `last` or `best`", .path.display())]
    WhichWeights {
        /// The run.
        path: PathBuf,
        /// The text after the @.
        which: String,
    },

    /// `@last` of a run without checkpoints.
    #[error("{} has no checkpoints; leave @last out", .path.display())]
    NoCheckpoints {
        /// The run.
        path: PathBuf,
    },

    /// A step whose weights a run does not have.
    #[error(
        "{} has no weights of step {step}; it has {}. A run keeps more with --set schedule.keep_every=N",
        .path.display(), names_of(.path, .known)
    )]
    NoStep {
        /// The run.
        path: PathBuf,
        /// The step.
        step: u64,
        /// The steps whose weights it has.
        known: Vec<u64>,
    },

    /// The weights that a run keeps can't be read, but it has checkpoints.
    #[error("cannot open the weights of {0}; those of its last checkpoint are {0}@last", .path.display())]
    HasCheckpoint {
        /// The run.
        path: PathBuf,
        /// Why.
        source: Box<checkpoint::Error>,
    },

    /// A model that can't be read.
    #[error(transparent)]
    Model(#[from] families::Error),

    /// A run folder that can't be read.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),

    /// A tokenizer and a model that do not belong together.
    #[error("the tokenizer has {n_tokens} tokens and the model {vocab_size}: they do not belong together")]
    Vocabulary {
        /// Tokens of the tokenizer.
        n_tokens: usize,
        /// Tokens of the model.
        vocab_size: usize,
    },

    /// The tokenizer named for a `ckpt.pt` can't be read.
    #[error("--tokenizer {}", .path.display())]
    NamedTokenizer {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: tokenizer::Error,
    },

    /// Nothing says what the tokens of a `ckpt.pt` are.
    #[error(
        "{} does not say what its {vocab_size} tokens are; name its tokenizer by --tokenizer, for characters the \
         meta.pkl of its corpus", .path.display()
    )]
    UnnamedTokenizer {
        /// The checkpoint.
        path: PathBuf,
        /// Tokens of the model.
        vocab_size: usize,
    },

    /// A model of the hub that can't be had.
    #[error(transparent)]
    Hub(#[from] HubError),

    /// A text that can't be encoded.
    #[error(transparent)]
    Tokenizer(#[from] tokenizer::Error),

    /// A token that a model does not have.
    #[error(
        "{token:?} is neither a single token nor an id of this model, which has {n_tokens} token{}",
        if *.n_tokens == 1 { "" } else { "s" }
    )]
    NoToken {
        /// Its text or id.
        token: String,
        /// Tokens of the tokenizer.
        n_tokens: usize,
    },

    /// Sampling options that can't work, or logits that no token can be sampled from.
    #[error(transparent)]
    Sampler(#[from] sampler::Error),

    /// Logits that did not come back from the device.
    #[error("the model could not compute the next token's logits: {0:?}")]
    Logits(burn::tensor::DataError),

    /// A window over a text that can't move so far.
    #[error("--stride {stride} is not between 1 and the block of {block_size}")]
    Stride {
        /// Tokens by which it was to move.
        stride: usize,
        /// The model's block size.
        block_size: usize,
    },
}

/// The result of opening or using a model.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether the request itself is malformed, whatever models there are: a name or an option that can't be understood.
    pub fn is_malformed_request(&self) -> bool {
        match self {
            Self::WhichWeights { .. } | Self::NoToken { .. } | Self::Stride { .. } => true,
            Self::Hub(error) => error.is_malformed_name(),
            _ => false,
        }
    }
}

/// The names of weights that a run has.
fn names_of(run: &std::path::Path, steps: &[u64]) -> String {
    if steps.is_empty() {
        return "no checkpoints".to_owned();
    }
    let names: Vec<String> = steps.iter().map(|step| format!("{}@{step}", run.display())).collect();
    names.join(", ")
}
