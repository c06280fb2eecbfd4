//! `kindling eval`.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::bail;
use console::report;
use dataset::{END_OF_TEXT, TokenizerChoice, Tokens};
use engine::{Evaluation, EvaluationText, Model, Source, window_stride};
use journal::{History, summary::plural};
use monitor::report_ambiguous_name;
use tokenizer::Tokenizer;
use trainer::Split;

use crate::{
    model_args::ModelArgs,
    prepare::{self, DataDirArgs, is_missing},
    usage::at_least,
};

/// Measures loss, perplexity and bits per byte on a text.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Every token but the first is predicted; after the start of the text, each has at least the block
size minus the stride of context. The validation loss during training is a different number:
the mean over schedule.eval_windows random windows, with half a block of context on average.
Separators between documents count as tokens, not as bytes.

Examples:
  kindling eval                            the newest run, on its validation text
  kindling eval runs/tiny --data my.txt    that run, on your own text
  kindling eval --stride 1                 maximum context for each token; slow"
)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,

    /// Text to evaluate on: a file, a folder of text files, a known corpus, or `-` for standard input. Without it, the
    /// validation part of the run's text.
    #[arg(long, value_name = "NAME or PATH")]
    data: Option<String>,

    #[command(flatten)]
    data_dir: DataDirArgs,

    /// Tokens by which the sliding window moves; a smaller stride gives each token more context and takes longer.
    /// Without it, half the block size.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = at_least(1_usize))]
    stride: Option<usize>,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (source, Model { gpt, tokenizer, .. }) = args.model.load()?;
    let stride = window_stride(args.stride, gpt.config().block_size)?;
    let text = match &args.data {
        Some(data) => {
            report_ambiguous_name(data);
            let text = prepare::read_text(data, &args.data_dir.data_dir)?;
            EvaluationText::encode(&tokenizer, &text, separator(&source)?.as_deref())?
        }
        None => validation_part(&source, &tokenizer, &args.data_dir.data_dir)?,
    };
    let n_tokens = text.ids.len();
    let Some(evaluation) = Evaluation::of(&gpt, text, stride) else {
        bail!(
            "the text has {}; at least two are needed to evaluate a model",
            plural(n_tokens as u64, "token")
        );
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

/// The separator between documents that the run was trained with; for an imported model, the default.
fn separator(source: &Source) -> anyhow::Result<Option<String>> {
    let recipe = match source {
        Source::Folder(model) => History::open(model.folder.clone())?.recipe,
        Source::Gguf(_) => None,
    };
    Ok(recipe.map_or_else(|| Some(END_OF_TEXT.to_owned()), |recipe| recipe.data.separator))
}

/// The validation text of a run.
fn validation_part(
    source: &Source,
    tokenizer: &Tokenizer,
    data_dir: &Path,
) -> anyhow::Result<EvaluationText> {
    let path = source.path().display();
    let Source::Folder(model) = source else {
        bail!("{path} has no record of its training text; name a text with --data")
    };
    let folder = &model.folder;
    let history = History::open(folder.clone())?;
    let Some(recipe) = &history.recipe else {
        bail!("{path} has no record of its training text; name a text with --data")
    };
    let origin = folder.recipe_path();
    let (origin, data) = (origin.display(), &recipe.data);
    match &data.valid {
        Some(valid) => report(format_args!("validation text: {valid}, from {origin}")),
        None => report(format_args!("validation part of {}, from {origin}", data.corpus)),
    }
    let choice = TokenizerChoice::Given(tokenizer.clone());
    let expected = history.state.as_ref().map(|state| &state.data);
    let prepared = prepare::prepare_again(data, &choice, data_dir, expected);
    let prepared = prepared.map_err(|error| match is_missing(&error) {
        true => error.context(format!(
            "the text in {origin} is missing; if it has moved, give its new path with --data PATH"
        )),
        false => error,
    })?;
    let step = model.step();
    let during_training =
        history.metrics_of(Split::Valid).find(|line| Some(line.step) == step).and_then(|line| line.loss);
    if let (Some(loss), Some(step)) = (during_training, step) {
        report(format_args!(
            "during training: {loss:.4} on random windows after step {step} (eval --help explains the difference)"
        ));
    }
    let n_bytes = prepared.meta.valid.text_bytes;
    Ok(EvaluationText::tokenized(tokenizer, all_ids(&prepared.valid), n_bytes))
}

fn all_ids(tokens: &Tokens) -> Vec<u32> {
    let mut ids = vec![0; tokens.len()];
    tokens.copy_range(0, &mut ids);
    ids.into_iter().map(|id: i32| id.cast_unsigned()).collect()
}
