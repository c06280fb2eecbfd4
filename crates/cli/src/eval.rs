//! `kindling eval`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::bail;
use console::report;
use engine::{Evaluation, Model, Source, window_stride};
use journal::{History, summary::plural};
use trainer::Split;

use crate::{
    evaluation_text::{named_text, validation_text},
    model_args::{ModelArgs, WeightsArgs},
    prepare::DataDirArgs,
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

    #[command(flatten)]
    weights: WeightsArgs,

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
    let (source, Model { gpt, tokenizer, .. }) = args.model.load_exact(&args.weights)?;
    let stride = window_stride(args.stride, gpt.config().block_size)?;
    let data_dir = &args.data_dir.data_dir;
    let text = match &args.data {
        Some(data) => named_text(data, &source, &tokenizer, data_dir)?,
        None => {
            let path = source.path().display();
            let Some(text) = validation_text(&source, &tokenizer, data_dir)? else {
                bail!("{path} has no record of training on a text; name a text with --data")
            };
            report_training_loss(&source)?;
            text
        }
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

/// Reports the validation loss that training measured for the same weights.
fn report_training_loss(source: &Source) -> anyhow::Result<()> {
    let Source::Folder(model) = source else { return Ok(()) };
    let (history, step) = (History::open(model.folder.clone())?, model.step());
    let during_training =
        history.metrics_of(Split::Valid).find(|line| Some(line.step) == step).and_then(|line| line.loss);
    if let (Some(loss), Some(step)) = (during_training, step) {
        report(format_args!(
            "during training: {loss:.4} on random windows after step {step} (eval --help explains the difference)"
        ));
    }
    Ok(())
}
