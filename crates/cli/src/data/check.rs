//! `kindling data check`.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use ::chat::{
    Conversation, Encoder, Example, Fit, Message, SpecialTexts, Statistics, TrainOn, chatml,
    data::{Located, Reader},
};
use anyhow::{Context, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use console::{report, warn};
use engine::Source;
use journal::summary::plural;
use tokenizer::Tokenizer;
use trainer::CHAT_BLOCK;

use super::{preferences, shown};
use crate::{model_args::models, usage::at_least};

/// Refused rows that are printed.
const N_ERRORS_SHOWN: usize = 5;

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
    let are_pairs = preferences::are_pairs(&args.path);
    // As `train` chooses the block.
    let longest = if are_pairs { 2 * CHAT_BLOCK } else { CHAT_BLOCK };
    let block_size = match (args.block_size, &source) {
        (None, Some(source)) => Some(block_size(source)?.min(longest)),
        (given, _) => given,
    };
    if are_pairs {
        let encoder = encoder(source.as_ref(), TrainOn::Last)?;
        return preferences::check(&args.path, &encoder, block_size);
    }
    let encoder = encoder(source.as_ref(), args.train_on)?;
    let mut reader = Reader::conversations(&args.path)?;
    let mut found = Found::default();
    for row in reader.by_ref() {
        match row {
            Err(error @ ::chat::Error::Read { .. }) => return Err(error.into()),
            Err(error) => found.refuse(&error.into()),
            Ok(row) => match encoder.fit(&row.value, block_size.map_or(usize::MAX, |n| n + 1)) {
                Ok(fit) => found.add(&encoder, &row, fit),
                Err(error) => found.refuse(&anyhow::Error::from(error).context(row.to_string())),
            },
        }
    }
    found.write(&encoder, &reader.checksum(), block_size)?;
    let Statistics { n_conversations, n_too_long, n_refused, .. } = found.statistics;
    let n_rows = n_conversations + n_too_long + n_refused;
    match (n_refused, n_conversations) {
        (0, 0) => bail!("no conversation can be trained on"),
        (0, _) => Ok(ExitCode::SUCCESS),
        _ => bail!("{n_refused} of {} can't be trained on; correct or remove them", plural(n_rows, "row")),
    }
}

/// The results of a check.
#[derive(Debug, Default)]
struct Found {
    statistics: Statistics,
    /// The first example and its place.
    first: Option<(String, Example)>,
    /// Conversations with special tokens in their text, and the first of these tokens with its place.
    n_with_special: usize,
    first_special: Option<String>,
}

impl Found {
    fn add(&mut self, encoder: &Encoder, row: &Located<Conversation>, fit: Fit) {
        self.statistics.add(&row.value, &fit);
        let in_message = |message: &Message| encoder.tokenizer().special_in(&message.content);
        if let Some(token) = row.value.messages().iter().find_map(in_message) {
            self.n_with_special += 1;
            self.first_special.get_or_insert_with(|| format!("{token} at {row}"));
        }
        if let (None, Fit::Whole(example) | Fit::Cut { example, .. }) = (&self.first, fit) {
            self.first = Some((row.to_string(), example));
        }
    }

    fn refuse(&mut self, error: &anyhow::Error) {
        self.statistics.add_refused();
        if self.statistics.n_refused <= N_ERRORS_SHOWN {
            console::error(error);
        }
    }

    fn write(&self, encoder: &Encoder, checksum: &str, block_size: Option<usize>) -> io::Result<()> {
        if let Some(special) = &self.first_special {
            warn(format_args!(
                "{} with special tokens in the text, such as {special}; a model sees the tokens, not the text",
                plural(self.n_with_special, "conversation")
            ));
        }
        write_statistics(&mut io::stdout().lock(), &self.statistics, checksum, block_size)?;
        match &self.first {
            Some((place, example)) => shown::write(encoder.tokenizer(), place, example),
            None => Ok(()),
        }
    }
}

/// The encoder of the model, or of GPT-2's tokenizer with ChatML.
fn encoder(source: Option<&Source>, train_on: TrainOn) -> anyhow::Result<Encoder> {
    let Some(source) = source else {
        report(format_args!("tokenizer: GPT-2; chat template: ChatML"));
        return chatml_encoder(&Tokenizer::gpt2(), train_on);
    };
    let (tokenizer, special_tokens) = source.load_tokenizer()?;
    let Some(template) = special_tokens.companions.chat_template() else {
        report(format_args!("{source} has no chat template; using ChatML"));
        return chatml_encoder(&tokenizer, train_on);
    };
    let texts = special_tokens.texts(&tokenizer);
    let encoder = Encoder::new(template, &texts, tokenizer, train_on)
        .with_context(|| format!("cannot train with the chat template of {source}"))?;
    for text in encoder.text_like_special_tokens()? {
        warn(format_args!("the chat template of {source} has {text}, which is not a token of its tokenizer"));
    }
    Ok(encoder)
}

fn block_size(source: &Source) -> anyhow::Result<usize> {
    Ok(match source {
        Source::Folder(model) => model.folder.config()?.block_size,
        Source::Gguf(file) => file.config().block_size,
    })
}

/// An encoder of ChatML, whose special tokens the tokenizer gets.
fn chatml_encoder(tokenizer: &Tokenizer, train_on: TrainOn) -> anyhow::Result<Encoder> {
    let tokenizer = tokenizer.with_special_tokens(&chatml::SPECIAL_TOKENS)?;
    Ok(Encoder::new(chatml::TEMPLATE, &SpecialTexts::new(), tokenizer, train_on)?)
}

fn write_statistics(
    out: &mut impl Write,
    statistics: &Statistics,
    checksum: &str,
    block_size: Option<usize>,
) -> io::Result<()> {
    let Statistics { n_conversations, n_messages, n_tokens, n_trained_tokens, .. } = *statistics;
    let share = 100.0 * statistics.trained_share();
    let mut line = |label: &str, value: String| writeln!(out, "{label:<16}{value}");
    line("conversations", n_conversations.to_string())?;
    line("messages", n_messages.to_string())?;
    line("tokens", n_tokens.to_string())?;
    line("trained tokens", format!("{n_trained_tokens} ({share:.1} %)"))?;
    line("longest", plural(statistics.n_tokens_longest, "token"))?;
    if let Some(block_size) = block_size {
        line("cut", format!("{} at an answer, to fit {block_size} tokens", statistics.n_cut))?;
        line("dropped", format!("{}, whose first answer does not fit", statistics.n_too_long))?;
    }
    line("unanswered", format!("{} without their last message", statistics.n_unanswered))?;
    line("refused", statistics.n_refused.to_string())?;
    line("SHA-256", checksum.to_owned())
}
