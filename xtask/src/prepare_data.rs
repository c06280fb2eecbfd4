//! `cargo xtask prepare-data`: downloads and tokenises a corpus.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::path::PathBuf;
use std::sync::Mutex;

use dataset::{
    Corpus, CorpusSource, Options, Outcome, Part, Phase, Prepared, Progress, Source, TokenizerChoice, prepare,
};
use indicatif::{DecimalBytes, HumanCount, ProgressBar, ProgressStyle};
use tokenizer::TokenizerKind;

/// Download a corpus if needed, verify it and tokenise it.
///
/// Safe to repeat: prepared data that is up to date is reused, and an interrupted run leaves no partial files.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask prepare-data
  cargo xtask prepare-data kjv --tokenizer bpe:4096
  cargo xtask prepare-data my-novel.txt --valid-fraction 0.05
  cargo xtask prepare-data --list")]
pub(crate) struct Args {
    /// A known corpus, a text file, a folder of text files, or the URL of a text file
    #[arg(value_name = "NAME|PATH|URL", default_value = "shakespeare")]
    source: String,

    /// Tokenizer: char, byte, gpt2, or bpe:N for a BPE of N tokens trained on the corpus
    #[arg(long, value_name = "KIND", default_value = "char")]
    tokenizer: TokenizerKind,

    /// Folder for all prepared data; training reads the default one
    #[arg(long, value_name = "DIR", default_value = "datasets")]
    out: PathBuf,

    /// Fraction of the characters, at the end of the text, held out for validation
    #[arg(long, value_name = "F", default_value_t = Options::default().valid_fraction)]
    valid_fraction: f64,

    /// List the known corpora
    #[arg(long)]
    list: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let report = if args.list { list() } else { prepare_one(args)? };
    match io::stdout().write_all(report.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()), // `... | head`
        written => Ok(written?),
    }
}

fn prepare_one(args: &Args) -> anyhow::Result<String> {
    let source = Source::resolve(&args.source)?;
    let options = Options {
        root: args.out.clone(),
        valid_fraction: args.valid_fraction,
        verify: true,
        ..Options::default()
    };
    let display = Display::new();
    let prepared = prepare(&source, &TokenizerChoice::Kind(args.tokenizer), &options, &|progress| {
        display.show(progress)
    });
    display.clear();
    Ok(describe(&prepared?, args))
}

fn list() -> String {
    let mut list = String::new();
    for corpus in Corpus::catalog() {
        let from = match &corpus.source {
            CorpusSource::Embedded => "built in".into(),
            CorpusSource::Crate { package, version, .. } => {
                format!("crate {package} {version}, through cargo")
            }
            CorpusSource::Wheel { package, version, .. } => format!("wheel {package} {version}, through pip"),
            CorpusSource::Url { url } => url.clone(),
        };
        let size = DecimalBytes(corpus.size_bytes).to_string();
        let Corpus { name, title, description, licence, .. } = corpus;
        let _ = writeln!(list, "{name:<18} {size:>11}  {title}: {description}");
        let _ = writeln!(list, "{:<18} {:>11}  licence: {licence}", "", "");
        let _ = writeln!(list, "{:<18} {:>11}  from: {from}\n", "", "");
    }
    list + "Prepare one:\n  cargo xtask prepare-data NAME\n"
}

fn describe(prepared: &Prepared, args: &Args) -> String {
    let meta = &prepared.meta;
    let text = &meta.source;
    let outcome = match &prepared.outcome {
        Outcome::Built => "prepared".into(),
        Outcome::Reused => "unchanged, reused".into(),
        Outcome::Rebuilt { reason } => format!("prepared again: {reason}"),
    };
    let mut report = format!(
        "{}: {outcome}\n  text       {} bytes, {} characters, {} of them different, sha256 {}\n  tokenizer  {}, {} tokens\n",
        prepared.folder.display(),
        HumanCount(text.size_bytes),
        HumanCount(text.n_characters),
        HumanCount(text.n_distinct_characters),
        text.sha256,
        meta.tokenizer,
        HumanCount(meta.vocab_size as u64),
    );
    for (name, part) in [("train.bin", &meta.train), ("val.bin", &meta.valid)] {
        let Part { n_tokens, text_bytes, sha256 } = part;
        let size_bytes = n_tokens * meta.dtype.size_bytes() as u64;
        let _ = writeln!(
            report,
            "  {name:<9}  {} tokens of {} bytes of text, {} bytes, sha256 {sha256}",
            HumanCount(*n_tokens),
            HumanCount(*text_bytes),
            HumanCount(size_bytes),
        );
    }
    report + &next_command(args)
}

fn next_command(args: &Args) -> String {
    if args.out != Options::default().root {
        return "\nTraining reads `datasets`; prepare the text without --out to train on it.\n".into();
    }
    let quoted = if args.source.chars().all(|c| c.is_alphanumeric() || "/._-:".contains(c)) {
        args.source.clone()
    } else {
        format!("'{}'", args.source.replace('\'', r"'\''"))
    };
    let mut command =
        format!("cargo run -p cli -- train --data {quoted} --set data.tokenizer={}", args.tokenizer);
    if args.valid_fraction != Options::default().valid_fraction {
        let _ = write!(command, " --set data.valid_fraction={}", args.valid_fraction);
    }
    format!("\nTrain on it:\n  {command}\n")
}

/// Progress: a bar on a terminal, otherwise a line for each tenth of a long phase.
struct Display {
    is_terminal: bool,
    state: Mutex<Option<State>>,
}

struct State {
    phase: Phase,
    bar: ProgressBar,
    tenths: u64,
}

impl Display {
    fn new() -> Self {
        Self { is_terminal: io::stderr().is_terminal(), state: Mutex::new(None) }
    }

    #[expect(clippy::print_stderr, reason = "progress goes to stderr")]
    fn show(&self, progress: Progress) {
        let Progress { phase, done, total } = progress;
        let mut state = self.state.lock().expect("drawing does not panic");
        if state.as_ref().is_none_or(|state| state.phase != phase) {
            if let Some(state) = state.take() {
                state.bar.finish_and_clear();
            }
            let bar = if self.is_terminal { bar(phase) } else { ProgressBar::hidden() };
            *state = Some(State { phase, bar, tenths: 0 });
        }
        let Some(state) = state.as_mut() else { return };
        match total {
            Some(total) => state.bar.set_length(total),
            None => state.bar.unset_length(),
        }
        state.bar.set_position(done);

        let tenths = total.map_or(0, |total| 10 * done / total.max(1));
        if !self.is_terminal && tenths > state.tenths && total > Some(LONG_BYTES) {
            state.tenths = tenths;
            eprintln!("{phase}: {} of {}", DecimalBytes(done), DecimalBytes(total.unwrap_or(done)));
        }
    }

    fn clear(&self) {
        if let Some(state) = self.state.lock().expect("drawing does not panic").take() {
            state.bar.finish_and_clear();
        }
    }
}

/// Shorter phases print no lines.
const LONG_BYTES: u64 = 50_000_000;

fn bar(phase: Phase) -> ProgressBar {
    let template = "{msg:>22} {bar:30} {decimal_bytes:>10} of {decimal_total_bytes}, {decimal_bytes_per_sec}, {eta} left";
    let style = ProgressStyle::with_template(template).expect("the template is valid");
    ProgressBar::no_length().with_style(style).with_message(phase.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn parse(command_line: &str) -> Args {
        let line = ["cargo xtask", "prepare-data"].into_iter().chain(command_line.split_whitespace());
        match crate::Args::try_parse_from(line).unwrap().command {
            crate::Command::PrepareData(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_next_command_has_every_option_that_is_not_the_default() {
        assert_eq!(
            next_command(&parse("")),
            "\nTrain on it:\n  cargo run -p cli -- train --data shakespeare --set data.tokenizer=char\n"
        );
        let args =
            Args { source: "it's mine.txt".into(), ..parse("x --tokenizer bpe:300 --valid-fraction 0.2") };
        assert_eq!(
            next_command(&args),
            "\nTrain on it:\n  cargo run -p cli -- train --data 'it'\\''s mine.txt' --set data.tokenizer=bpe:300 \
             --set data.valid_fraction=0.2\n"
        );
        assert!(!next_command(&parse("--out elsewhere")).contains("cargo run"));
    }

    #[test]
    fn a_repeated_run_reports_reuse() {
        let out = tempfile::tempdir().unwrap();
        let args = Args { out: out.path().into(), ..parse("") };
        let first = prepare_one(&args).unwrap();
        assert!(first.contains("shakespeare/char: prepared\n"), "{first}");
        assert!(
            first.contains("train.bin  1,003,854 tokens of 1,003,854 bytes of text, 2,007,708 bytes"),
            "{first}"
        );
        let second = prepare_one(&args).unwrap();
        assert_eq!(second, first.replace(": prepared\n", ": unchanged, reused\n"));
    }

    #[test]
    fn the_list_has_every_corpus_with_its_licence() {
        let list = list();
        for corpus in Corpus::catalog() {
            assert!(list.contains(&format!("\n{} ", corpus.name)) || list.starts_with(&corpus.name));
            assert!(list.contains(&corpus.licence));
        }
    }
}
