//! `kindling eval`.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::bail;
use dataset::{END_OF_TEXT, TokenizerChoice, Tokens};
use model::Gpt;
use serde::Serialize;
use trainer::Split;

use crate::{
    console::{plural, report},
    history::History,
    model_folder::{ModelArgs, Opened, Source},
    prepare::{self, DataDirArgs, is_missing},
    score::mean,
    stored_weights::ModelFolder,
    usage::{at_least, bail_usage},
    words::report_name,
};

/// Measures loss, perplexity and bits per byte on a text.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Every token but the first is predicted, each from at least the block less the stride of context
where there is as much before it. That is another number than the best validation loss of training,
which is the mean over schedule.eval_windows random windows: there a token has half a block of
context on average, and only a part of the text is measured, so that it costs little.
Separators between documents are tokens, and do not count as bytes.

Examples:
  kindling eval                            the newest run, on its validation text
  kindling eval runs/tiny --data my.txt    that run, on a text of yours
  kindling eval --stride 1                 all the context there can be for each token: slow"
)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,

    /// The text to measure on, all of it: a text file, a folder of them, the name of a known corpus, or `-` for standard
    /// input. Without it, the validation part of the text that the run was trained on.
    #[arg(long, value_name = "NAME or PATH")]
    data: Option<String>,

    #[command(flatten)]
    data_dir: DataDirArgs,

    /// Tokens by which the window over a long text moves; a smaller one gives each more context and takes longer.
    /// Without it, half the block.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = at_least(1_usize))]
    stride: Option<usize>,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Evaluation {
    /// Nats per token.
    loss: f64,
    perplexity: f64,
    bits_per_byte: f64,
    tokens: usize,
    bytes: u64,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let opened = args.model.open()?;
    let stride = stride(args.stride, &opened.model)?;
    let (ids, n_bytes) = match &args.data {
        Some(data) => {
            report_name(data);
            let text = prepare::read_text(data, &args.data_dir.data_dir)?;
            encode(&opened, &text)?
        }
        None => validation_part(&opened, &args.data_dir.data_dir)?,
    };
    let logprobs = model::score(&opened.model, &[&ids], stride).remove(0);
    let Some(mean) = mean(&logprobs) else {
        bail!(
            "a text needs at least two tokens to measure on, and this one has {}",
            plural(ids.len() as u64, "token")
        );
    };
    let loss = -mean;
    // The first token is not predicted, so its bytes do not count. A mark before the text has none in it.
    let is_mark = args.data.is_some() && !opened.tokenizer.beginning().is_empty();
    let first_bytes = match opened.tokenizer.token_bytes(ids[0]) {
        Some(bytes) if !is_mark => bytes.len() as u64,
        _ => 0,
    };
    let total_bits = loss * logprobs.len() as f64 / std::f64::consts::LN_2;
    let evaluation = Evaluation {
        loss,
        perplexity: loss.exp(),
        bits_per_byte: total_bits / n_bytes.saturating_sub(first_bytes).max(1) as f64,
        tokens: logprobs.len(),
        bytes: n_bytes,
    };

    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&evaluation)?)?;
    } else {
        writeln!(out, "loss           {:.4} nats per token", evaluation.loss)?;
        writeln!(out, "perplexity     {:.3}", evaluation.perplexity)?;
        writeln!(out, "bits per byte  {:.4}", evaluation.bits_per_byte)?;
        let (tokens, bytes) = (plural(evaluation.tokens as u64, "token"), plural(evaluation.bytes, "byte"));
        writeln!(out, "over           {tokens}, {bytes}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// By how much the window over a long text moves.
pub(crate) fn stride(stride: Option<usize>, model: &Gpt) -> anyhow::Result<usize> {
    let block_size = model.config().block_size;
    match stride {
        None => Ok(block_size.div_ceil(2)),
        Some(stride) if (1..=block_size).contains(&stride) => Ok(stride),
        Some(stride) => bail_usage!("--stride {stride} is not between 1 and the block of {block_size}"),
    }
}

/// The tokens a run validates on, and the bytes of their text.
fn validation_part(opened: &Opened, data_dir: &Path) -> anyhow::Result<(Vec<u32>, u64)> {
    let model = opened.source.path().display();
    let Source::Folder(ModelFolder { folder, weights }) = &opened.source else {
        bail!("{model} does not say which text it was trained on; name a text with --data")
    };
    let history = History::open(folder.clone())?;
    let Some(recipe) = &history.recipe else {
        bail!("{model} does not say which text it was trained on; name a text with --data")
    };
    let origin = folder.recipe_path();
    let (origin, data) = (origin.display(), &recipe.data);
    match &data.valid {
        Some(valid) => report(format_args!("validation text {valid}, as {origin} says")),
        None => report(format_args!("validation part of {}, as {origin} says", data.corpus)),
    }
    let choice = TokenizerChoice::Given(opened.tokenizer.clone());
    let expected = history.state.as_ref().map(|state| &state.data);
    let prepared = prepare::prepare_again(data, &choice, data_dir, expected);
    let prepared = prepared.map_err(|error| match is_missing(&error) {
        true => error.context(format!(
            "{origin} names a text that is not there; if it has moved, name it with --data PATH"
        )),
        false => error,
    })?;
    let step = weights.step(&history);
    let during_training =
        history.of(Split::Valid).find(|line| Some(line.step) == step).and_then(|line| line.loss);
    if let (Some(loss), Some(step)) = (during_training, step) {
        report(format_args!(
            "during training: {loss:.4} on sampled windows after step {step} (eval --help says why that differs)"
        ));
    }
    Ok((all_ids(&prepared.valid), prepared.meta.valid.text_bytes))
}

/// The tokens of a text, and the bytes that count for them: separators between documents are tokens, and no text.
fn encode(opened: &Opened, text: &str) -> anyhow::Result<(Vec<u32>, u64)> {
    let tokenizer = &opened.tokenizer;
    // What a run was trained with counts. A model from elsewhere is measured as it would be trained here.
    let recipe = match &opened.source {
        Source::Folder(model) => History::open(model.folder.clone())?.recipe,
        Source::Gguf(_) => None,
    };
    let separator = recipe.map_or_else(|| Some(END_OF_TEXT.to_owned()), |recipe| recipe.data.separator);
    let (Some(separator), Some(end)) = (separator, tokenizer.end_of_text()) else {
        return Ok((tokenizer.encode_text(text)?, text.len() as u64));
    };
    let (mut ids, mut n_bytes) = (tokenizer.beginning().to_vec(), 0);
    for (idx, document) in text.split(separator.as_str()).enumerate() {
        ids.extend((idx > 0).then_some(end));
        ids.extend(tokenizer.encode(document)?);
        n_bytes += document.len() as u64;
    }
    Ok((ids, n_bytes))
}

fn all_ids(tokens: &Tokens) -> Vec<u32> {
    let mut ids = vec![0; tokens.len()];
    tokens.copy_range(0, &mut ids);
    ids.into_iter().map(|id: i32| id.cast_unsigned()).collect()
}
