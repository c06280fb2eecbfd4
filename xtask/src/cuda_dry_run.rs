//! `cargo xtask cuda-dry-run`: a recipe on the CUDA backend without a GPU.
//!
//! NVIDIA's compilers compile every kernel that a training, an evaluation and a sample launch. A stand-in for the driver
//! counts the launches and computes nothing, so the ledger gives a lower bound of a step's time, not its speed.

mod arch;
mod cost;
mod ledger;
mod log;
mod program;
mod report;
mod steps;
mod toolkit;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, bail};
use serde_json::Value;
use xshell::{Shell, cmd};

use self::{
    arch::Arch,
    ledger::Ledger,
    log::Log,
    steps::{LAST_STEP, LOG_INTERVAL, Parts},
    toolkit::Toolkit,
};
use crate::common::{create, read, root, say, write};

/// Tokens of the sample after which a dry run ends: most lengths need kernels of their own, which take seconds to tune.
const N_TOKENS: usize = 8;

/// Between two readings of the driver's log.
const POLLING: Duration = Duration::from_secs(2);

/// Compile every CUDA kernel of a recipe on a machine without a GPU, and count what a step launches.
///
/// NVIDIA's compilers come from Python packages. A stand-in for the driver computes nothing: the losses are zero.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask cuda-dry-run
  cargo xtask cuda-dry-run gpt2 --arch sm_80
  cargo xtask cuda-dry-run tiny --set run.precision=f32")]
pub(crate) struct Args {
    /// Recipe
    #[arg(default_value = "nanogpt-gpu")]
    recipe: String,

    /// GPU to compile for
    #[arg(long, value_enum, default_value = "sm_90")]
    arch: Arch,

    /// Set a recipe key; repeatable. The default is bf16, without gradient accumulation
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,

    /// Virtual environment with NVIDIA's compilers [default: target/cuda-dry-run/venv, which is made]
    #[arg(long, value_name = "FOLDER")]
    venv: Option<PathBuf>,

    /// A kindling with the feature cuda, instead of building one
    #[arg(long, value_name = "PATH")]
    kindling: Option<PathBuf>,

    /// Number of kernels to print; kernels.csv has all
    #[arg(long, value_name = "N", default_value = "40")]
    top: usize,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let shell = Shell::new()?;
    let target = root()?.join("target").join("cuda-dry-run");
    create(&target)?;
    let toolkit = Toolkit::open(&shell, args.venv.as_deref(), &target.join("venv"))?;
    let kindling = match &args.kindling {
        Some(path) => fs::canonicalize(path).with_context(|| format!("cannot open {}", path.display()))?,
        None => build(&shell)?,
    };
    let name = Path::new(&args.recipe).file_stem().context("the recipe has no name")?.to_string_lossy();
    let folder = target.join(format!("{name}-sm_{}", args.arch.number()));
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    create(&folder)?;
    write(&folder.join("burn.toml"), &settings(&read(&root()?.join("burn.toml"))?)?)?;
    let mut command = training(&kindling, args);
    command.envs(toolkit.environment(&shell, &folder, args.arch)?);
    let kernels = folder.join("kernels");
    let events = kernels.join("events.log");
    let ended = execute(command, &folder, &events)?;

    let text = read(&events)?;
    let log = Log::parse(text.rfind('\n').map_or("", |end| &text[..end]))?;
    say(&report::failures(&log, &kernels));
    ended?;
    let ledger = Ledger::of(&log, &Parts::of(&log)?, &kernels, args.arch)?;
    write(&folder.join("kernels.csv"), &report::csv(&ledger))?;
    say(&report::text(&ledger, args.top));
    say(&format!("all kernels: {}", folder.join("kernels.csv").display()));
    if !log.failures.is_empty() || !log.refused.is_empty() {
        bail!(
            "some kernels failed; their sources and the messages of the compilers are in {}",
            kernels.display()
        );
    }
    Ok(())
}

/// Builds kindling with CUDA and returns its path.
fn build(shell: &Shell) -> anyhow::Result<PathBuf> {
    let messages = cmd!(
        shell,
        "cargo build --bin kindling --features cli/cuda --locked --message-format=json-render-diagnostics"
    )
    .read()
    .context("cannot build kindling; the messages of cargo are above")?;
    let executable = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    };
    messages.lines().filter_map(executable).next_back().context("cargo built no kindling")
}

/// The shipped settings, with nothing kept between processes: each dry run compiles every kernel. The minimal level of
/// tuning tries the fewest kernels.
fn settings(shipped: &str) -> anyhow::Result<String> {
    let mut settings: toml::Table = shipped.parse().context("invalid burn.toml")?;
    let changes: toml::Table = "
        [compilation]
        cache = false
        [autotune]
        level = 'minimal'
        disable_cache = true
        [environment]
        path = 'local'
    "
    .parse()?;
    let cubecl = settings.entry("cubecl").or_insert(toml::Table::new().into());
    let cubecl = cubecl.as_table_mut().context("`cubecl` in burn.toml is not a table")?;
    for (section, keys) in changes {
        let section = cubecl.entry(section).or_insert(toml::Table::new().into());
        let section = section.as_table_mut().context("a section of burn.toml is not a table")?;
        section.extend(keys.as_table().cloned().unwrap_or_default());
    }
    Ok(settings.to_string())
}

/// A training of a few steps, with an evaluation and a sample at its end.
fn training(kindling: &Path, args: &Args) -> Command {
    let mut command = Command::new(kindling);
    command.args(["train", &args.recipe, "--device", "cuda", "--run", "run", "--no-tui", "--log", "none"]);
    let sets = [
        "run.precision=bf16".to_owned(),
        "optimizer.grad_accumulation=1".to_owned(),
        format!("schedule.max_steps={LAST_STEP}"),
        "schedule.warmup_steps=1".to_owned(),
        format!("schedule.log_interval={LOG_INTERVAL}"),
        format!("schedule.eval_interval={LAST_STEP}"),
        format!("schedule.sample_interval={LAST_STEP}"),
        format!("schedule.checkpoint_interval={LAST_STEP}"),
        "schedule.eval_windows=64".to_owned(),
    ];
    command.args(sets.iter().chain(&args.set).flat_map(|set| ["--set", set]));
    command
}

/// Runs the command in `folder` until the log in `events` has all parts, and keeps its output there. The inner error says
/// that it failed.
fn execute(mut command: Command, folder: &Path, events: &Path) -> anyhow::Result<anyhow::Result<()>> {
    let path = folder.join("kindling.log");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    command.current_dir(folder).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let mut child =
        command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if has_all_parts(events) {
            child.kill()?;
            child.wait()?;
            return Ok(Ok(()));
        }
        thread::sleep(POLLING);
    };
    if status.success() {
        return Ok(Ok(()));
    }
    let output = fs::read(&path)?;
    let output = String::from_utf8_lossy(&output);
    let lines: Vec<_> = output.lines().collect();
    let tail = lines[lines.len().saturating_sub(20)..].join("\n");
    Ok(Err(anyhow::anyhow!("kindling failed ({status}); the end of {}:\n{tail}", path.display())))
}

/// Whether the steps, the evaluation and enough tokens are in the log, whose last line may be incomplete.
fn has_all_parts(events: &Path) -> bool {
    let text = fs::read_to_string(events).unwrap_or_default();
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    Log::parse(complete).and_then(|log| Parts::of(&log)).is_ok_and(|parts| parts.n_tokens >= N_TOKENS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_settings_stay_except_for_caches() {
        let shipped = read(&root().unwrap().join("burn.toml")).unwrap();
        let settings: toml::Table = settings(&shipped).unwrap().parse().unwrap();
        let cubecl = &settings["cubecl"];
        assert_eq!(cubecl["compilation"]["cache"].as_bool(), Some(false));
        assert_eq!(cubecl["autotune"]["level"].as_str(), Some("minimal"));
        let shipped: toml::Table = shipped.parse().unwrap();
        assert_eq!(cubecl["memory"], shipped["cubecl"]["memory"]);
        assert_eq!(cubecl["environment"]["name"], shipped["cubecl"]["environment"]["name"]);
    }
}
