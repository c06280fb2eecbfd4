//! `kindling data check`.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use ::chat::{Statistics, TrainOn, data::Kinds};
use anyhow::{Context, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use console::{report, warn};
use engine::Source;
use journal::summary::{percent, plural};
use monitor::warn_of_special_tokens;
use tokenizer::{SpecialTokens, Tokenizer};
use trainer::{CHAT_BLOCK, ChatFormat, ChatRecipe, ChatSummary, PAIR_BLOCK, RowsRead};

use super::{preferences, shown};
use crate::{model_args::models, usage::at_least};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "FILE has one JSON object per line, or is one JSON list. A folder stands for its .jsonl files.
Layouts:

  {\"messages\": [{\"role\": \"user\", \"content\": TEXT}, {\"role\": \"assistant\", \"content\": TEXT}, ...]}
  {\"conversations\": [{\"from\": \"human\", \"value\": TEXT}, {\"from\": \"gpt\", \"value\": TEXT}, ...]}
  {\"prompt\": TEXT, \"completion\": TEXT}
  {\"instruction\": TEXT, \"input\": TEXT, \"output\": TEXT}
  {\"prompt\": TEXT, \"chosen\": TEXT, \"rejected\": TEXT}  for preference tuning

The first conversation is shown as a model gets it. Trained text is green, or without colours
between \u{27E6} and \u{27E7}. The exit code is 1 if a row can't be trained on.

Examples:
  kindling data check chats.jsonl
  kindling data check chats/ --model smollm2.gguf --block-size 2048 --train-on last"
)]
pub(crate) struct Args {
    /// Chat data: a file, or a folder of .jsonl files.
    #[arg(value_name = "FILE")]
    path: PathBuf,

    /// Use the tokenizer and chat template of a model; without it, GPT-2's tokenizer and ChatML.
    #[arg(long)]
    model: Option<PathBuf>,

    /// Cut conversations to a block of N tokens, at the end of an answer; without it, to the block that `train` would
    /// choose for the model, if any.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = at_least(1_usize))]
    block_size: Option<usize>,

    /// Answers that are trained: all of the assistant's, or the last one.
    #[arg(long, value_name = "ANSWERS", default_value = "assistant", value_parser = train_on())]
    train_on: TrainOn,
}

/// A parser of `--train-on`.
fn train_on() -> impl TypedValueParser<Value = TrainOn> {
    PossibleValuesParser::new(["assistant", "last"]).map(|text| match text.as_str() {
        "last" => TrainOn::Last,
        _ => TrainOn::Assistant,
    })
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let source = args.model.as_deref().map(|path| models().open(path)).transpose()?;
    let are_pairs = Kinds::of(&args.path).preferences;
    // As `train` chooses the block.
    let longest = if are_pairs { PAIR_BLOCK } else { CHAT_BLOCK };
    let block_size = match (args.block_size, &source) {
        (None, Some(source)) => Some(source.config()?.block_size.min(longest)),
        (given, _) => given,
    };
    if are_pairs {
        let format = format(source.as_ref(), TrainOn::Last)?;
        return preferences::check(&args.path, &format.encoder, block_size);
    }
    let format = format(source.as_ref(), args.train_on)?;
    let mut summary = ChatSummary::default();
    let (_, rows) = summary.read(&args.path, &format.encoder, block_size)?;
    warn_of_special_tokens(&summary);
    write_statistics(&mut io::stdout().lock(), &summary.statistics, &rows, block_size)?;
    if let Some((place, example)) = &summary.first {
        shown::write(format.tokenizer(), place, example)?;
    }
    rows.refuse_flaws(&args.path)?;
    match summary.first {
        Some(_) => Ok(ExitCode::SUCCESS),
        None => bail!("no conversation can be trained on"),
    }
}

/// The format of the model, or of GPT-2's tokenizer with ChatML.
fn format(source: Option<&Source>, train_on: TrainOn) -> anyhow::Result<ChatFormat> {
    let recipe = ChatRecipe { train_on, date: None };
    let Some(source) = source else {
        report(format_args!("tokenizer: GPT-2; chat template: ChatML"));
        let tokenizer = Tokenizer::gpt2();
        return Ok(ChatFormat::of("gpt2", &tokenizer, &SpecialTokens::of(&tokenizer), recipe)?);
    };
    let (tokenizer, special_tokens) = source.load_tokenizer()?;
    if special_tokens.companions.chat_template().is_none() {
        report(format_args!("{source} has no chat template; using ChatML"));
    }
    let format = ChatFormat::of(&source.to_string(), &tokenizer, &special_tokens, recipe)
        .with_context(|| format!("cannot train with the chat template of {source}"))?;
    for text in format.encoder.text_like_special_tokens()? {
        warn(format_args!("the chat template of {source} has {text}, which is not a token of its tokenizer"));
    }
    Ok(format)
}

fn write_statistics(
    out: &mut impl Write,
    statistics: &Statistics,
    rows: &RowsRead,
    block_size: Option<usize>,
) -> io::Result<()> {
    let Statistics { n_conversations, n_turns, n_tokens, n_trained_tokens, .. } = *statistics;
    let share = percent(statistics.trained_share());
    let mut line = |label: &str, value: String| writeln!(out, "{label:<16}{value}");
    line("conversations", n_conversations.to_string())?;
    line("turns", n_turns.to_string())?;
    line("tokens", n_tokens.to_string())?;
    line("trained tokens", format!("{n_trained_tokens} ({share})"))?;
    line("longest", plural(statistics.n_tokens_longest, "token"))?;
    if let Some(block_size) = block_size {
        line("cut", format!("{} at an answer, to fit {block_size} tokens", statistics.n_cut))?;
        line("dropped", format!("{}, whose first answer does not fit", statistics.n_too_long))?;
    }
    line("unanswered", format!("{} without their last message", statistics.n_unanswered))?;
    line("refused", rows.n_flawed.to_string())?;
    line("SHA-256", rows.sha256.clone())
}
