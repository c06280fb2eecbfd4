//! `cargo xtask ci`: every check that a change has to pass, locally and on servers.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use xshell::{Cmd, Shell, cmd};

use crate::common::{root, say};

/// Run every check, cheapest first, and stop at the first failure.
///
/// A missing tool fails its check, unless --allow-missing names it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask ci
  cargo xtask ci --install                             install missing tools first
  cargo xtask ci --allow-missing cargo-deny
  cargo xtask ci --skip clippy,checked,fuzz,test,as-gpu,plain,doc   the cheap checks")]
pub(crate) struct Args {
    /// Install missing tools from source first
    #[arg(long)]
    install: bool,

    /// Skip checks that need this tool if it is missing
    #[arg(long, value_name = "TOOL", value_delimiter = ',')]
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(TOOLS.map(|tool| tool.package)))]
    allow_missing: Vec<String>,

    /// Skip these checks
    #[arg(long, value_name = "CHECK", value_delimiter = ',')]
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(CHECKS.map(|check| check.name)))]
    skip: Vec<String>,

    /// Fail if the checks take longer in total
    #[arg(long, value_name = "MINUTES")]
    max_minutes: Option<u64>,

    /// Delete the target folder of a check that has its own, once the check has passed
    #[arg(long)]
    clean: bool,
}

/// A named list of commands that have to succeed.
#[derive(Debug, Clone, Copy)]
struct Check {
    name: &'static str,
    /// Split at spaces, without quoting. `HOST` stands for the target triple of the host.
    commands: &'static [&'static str],
    env: &'static [(&'static str, &'static str)],
    tool: Option<Tool>,
    /// A program of the system without which the check is skipped.
    program: Option<&'static str>,
}

/// A tool that is not part of a Rust toolchain.
#[derive(Debug, Clone, Copy)]
struct Tool {
    /// The package for `cargo install`.
    package: &'static str,
    /// A command that succeeds if and only if the tool is installed.
    probe: &'static str,
}

const TYPOS: Tool = Tool { package: "typos-cli", probe: "typos --version" };
const MACHETE: Tool = Tool { package: "cargo-machete", probe: "cargo machete --version" };
const DENY: Tool = Tool { package: "cargo-deny", probe: "cargo deny --version" };
const TOOLS: [Tool; 3] = [TYPOS, MACHETE, DENY];

/// Jobs of .github/workflows/checks.yml that need another system or toolchain.
const WORKFLOW_ONLY: [&str; 4] = ["miri", "aarch64-linux", "windows", "macos"];

/// Runs a fuzz target for 12 seconds; findings are written to `target/fuzz`.
macro_rules! fuzz {
    ($target:literal) => {
        concat!(
            "target/fuzz/HOST/release/", $target, " fuzz/corpus/", $target, " -dict=fuzz/dictionaries/", $target,
            ".dict -max_total_time=12 -timeout=20 -verbosity=0 -print_final_stats=1 -artifact_prefix=target/fuzz/"
        )
    };
}

/// Cheapest first. Clippy and rustdoc share the checked dependencies; the tests build them.
const CHECKS: [Check; 15] = [
    Check::new("fmt", &["cargo fmt --all --check"]),
    Check::with("typos", &["typos"], TYPOS),
    Check::with("machete", &["cargo machete"], MACHETE),
    Check::with("deny", &["cargo deny --locked check bans licenses sources"], DENY),
    // Separate, because it downloads a database in addition to the package registry.
    Check::with("advisories", &["cargo deny --locked check advisories"], DENY),
    Check::new("prose", &["cargo run --quiet --package xtask --locked -- prose"]),
    Check::new("cycles", &["cargo run --quiet --package xtask --locked -- cycles"]),
    // With the GPU backends, which load their libraries at run time. The tests build without them.
    Check::new(
        "clippy",
        &["cargo clippy --workspace --all-targets --features cli/cuda,cli/wgpu --locked -- -D warnings"],
    ),
    // AddressSanitizer is unstable, so RUSTC_BOOTSTRAP enables it, and it is not available on every system.
    Check {
        env: if cfg!(target_os = "linux") {
            &[("RUSTC_BOOTSTRAP", "1"), ("RUSTFLAGS", "-Zsanitizer=address")]
        } else {
            &[]
        },
        ..Check::new(
            "checked",
            &[
                "cargo test --package cpu --profile checked --lib --tests --locked --target HOST --target-dir target/checked",
            ],
        )
    },
    // The targets without Burn, built together and seeded with valid files.
    Check::new(
        "fuzz",
        &[
            "cargo build --config fuzz/coverage.toml --release --manifest-path fuzz/Cargo.toml --bins --locked \
             --target HOST --target-dir target/fuzz",
            "cargo run --manifest-path fuzz/Cargo.toml --no-default-features --example seeds --locked \
             --target-dir target/fuzz",
            fuzz!("dataset"),
            fuzz!("gguf"),
            fuzz!("pickle"),
            fuzz!("quant"),
            fuzz!("safetensors"),
            fuzz!("tokenizer"),
        ],
    ),
    // The command of the README. `--all-targets` would leave out doc tests.
    Check::new("test", &["cargo test --workspace --locked"]),
    // The GPU code paths, mostly reference implementations, have to give the results of the fused ones.
    Check {
        env: &[("KINDLING_TEST_DEVICE", "cpu-as-gpu")],
        ..Check::new(
            "as-gpu",
            // The whole workspace, as in the check before: `--package` would build Burn again.
            &[
                "cargo test --workspace --locked --lib --test bf16 --test decoding --test devices --test documents --test dropout \
               --test gpt --test gpu_paths --test lora --test processes --test resume --test run \
               --test scheduling --test training_pass",
            ],
        )
    },
    // The reference implementations, for decoding schedules of several sequences.
    Check {
        env: &[("KINDLING_TEST_DEVICE", "cpu-plain")],
        ..Check::new("plain", &["cargo test --workspace --locked --test decoding --test scheduling"])
    },
    // The checks above build without MPI.
    Check {
        program: Some("mpirun"),
        ..Check::new(
            "mpi",
            &[
                "cargo clippy --workspace --all-targets --features cli/cuda,cli/wgpu,cli/mpi --locked -- -D warnings",
                "cargo test --package ranks --features mpi --locked --lib",
                // The whole workspace, because `--package` would build Burn again.
                "cargo test --workspace --features cli/mpi --locked --test mpi",
            ],
        )
    },
    Check {
        env: &[("RUSTDOCFLAGS", "-D warnings")],
        ..Check::new("doc", &["cargo doc --workspace --no-deps --features cli/cuda,cli/wgpu --locked"])
    },
];

impl Check {
    const fn new(name: &'static str, commands: &'static [&'static str]) -> Self {
        Self { name, commands, env: &[], tool: None, program: None }
    }

    const fn with(name: &'static str, commands: &'static [&'static str], tool: Tool) -> Self {
        Self { tool: Some(tool), ..Self::new(name, commands) }
    }

    /// The target folders that no other check uses.
    fn own_targets(&self) -> impl Iterator<Item = &'static str> {
        let folder = |command: &&'static str| {
            let mut words = command.split_whitespace();
            words.find(|&word| word == "--target-dir").and_then(|_| words.next())
        };
        self.commands.iter().filter_map(folder)
    }

    /// The command line to type in a shell.
    fn line(&self, command: &str) -> String {
        let env = self.env.iter().map(|(name, value)| format!("{name}='{value}' "));
        env.collect::<String>() + command
    }
}

/// The result of a check that did not fail.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Outcome {
    Passed(Duration),
    Missing { package: &'static str },
    Skipped,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed(time) => write!(f, "passed in {:.1} s", time.as_secs_f64()),
            Self::Missing { package } => write!(f, "NOT CHECKED, {package} is not installed"),
            Self::Skipped => f.write_str("NOT CHECKED, skipped by --skip"),
        }
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let shell = Shell::new()?;
    shell.change_dir(root()?);
    if args.install {
        install_missing(&shell, &TOOLS)?;
    }
    let outcomes = run_checks(&shell, &CHECKS, args)?;
    say(&summary(&outcomes));
    check_time(&outcomes, args.max_minutes)
}

/// Runs the checks in order. The error names the first failure; later checks do not run.
fn run_checks(
    shell: &Shell,
    checks: &[Check],
    Args { skip, allow_missing, clean, .. }: &Args,
) -> anyhow::Result<Vec<(&'static str, Outcome)>> {
    let names = |names: &[String], name: &str| names.iter().any(|it| it == name);
    let mut outcomes = Vec::new();
    for check in checks {
        let outcome = match check.tool.filter(|tool| !is_installed(shell, tool)) {
            _ if names(skip, check.name) => Outcome::Skipped,
            Some(Tool { package, .. }) if names(allow_missing, package) => Outcome::Missing { package },
            Some(Tool { package, .. }) => bail!(
                "the check `{}` needs {package}: cargo install --locked {package}, or --allow-missing {package}",
                check.name
            ),
            None => match check.program.filter(|program| !has_program(program)) {
                Some(package) => Outcome::Missing { package },
                None => run_check(shell, check)?,
            },
        };
        if *clean && matches!(outcome, Outcome::Passed(_)) {
            for folder in check.own_targets() {
                shell.remove_path(folder)?;
            }
        }
        say(&format!("== {}: {outcome}\n", check.name));
        outcomes.push((check.name, outcome));
    }
    Ok(outcomes)
}

fn run_check(shell: &Shell, check: &Check) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    for line in check.commands {
        let line =
            if line.contains("HOST") { line.replace("HOST", &host(shell)?) } else { (*line).to_owned() };
        say(&format!("== {}\n$ {}", check.name, check.line(&line)));
        let command = command(shell, &line).quiet().envs(check.env.iter().copied());
        command.run().with_context(|| {
            format!("the check `{}` failed after {:.1} s", check.name, started.elapsed().as_secs_f64())
        })?;
    }
    Ok(Outcome::Passed(started.elapsed()))
}

/// The target triple of this machine. With `--target`, RUSTFLAGS do not apply to build scripts.
fn host(shell: &Shell) -> anyhow::Result<String> {
    let version = cmd!(shell, "rustc --version --verbose").quiet().read()?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc --version --verbose` prints no host")?.to_owned())
}

fn install_missing(shell: &Shell, tools: &[Tool]) -> anyhow::Result<()> {
    let packages: Vec<&str> =
        tools.iter().filter(|tool| !is_installed(shell, tool)).map(|tool| tool.package).collect();
    if packages.is_empty() {
        return Ok(());
    }
    let line = format!("cargo install --locked {}", packages.join(" "));
    say(&format!("$ {line}"));
    command(shell, &line).quiet().run().context("cannot install the missing tools")
}

/// Whether a folder of PATH has this program.
fn has_program(name: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(name).is_file()))
}

fn is_installed(shell: &Shell, tool: &Tool) -> bool {
    command(shell, tool.probe).quiet().ignore_stdout().ignore_stderr().run().is_ok()
}

/// A command without the environment variables that `cargo run` sets for xtask. With those, cargo-machete would
/// misread its arguments as if cargo had started it.
fn command<'a>(shell: &'a Shell, line: &str) -> Cmd<'a> {
    let mut words = line.split_whitespace();
    let command = shell.cmd(words.next().unwrap_or_default()).args(words);
    let is_for_xtask = |name: &OsString| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    };
    env::vars_os().map(|(name, _)| name).filter(is_for_xtask).fold(command, Cmd::env_remove)
}

fn summary(outcomes: &[(&'static str, Outcome)]) -> String {
    let lines: String = outcomes.iter().map(|(name, outcome)| format!("{name:<13} {outcome}\n")).collect();
    let workflow_only =
        WORKFLOW_ONLY.map(|name| format!("{name:<13} NOT CHECKED here; .github/workflows/checks.yml does\n"));
    let (n_passed, time) = (passed(outcomes).count(), total(outcomes));
    let n_unchecked = outcomes.len() - n_passed;
    format!(
        "== summary\n{lines}{}ci: none failed, {n_passed} passed in {:.0} s, {n_unchecked} not checked",
        workflow_only.concat(),
        time.as_secs_f64()
    )
}

fn passed(outcomes: &[(&'static str, Outcome)]) -> impl Iterator<Item = (&'static str, Duration)> {
    outcomes.iter().filter_map(|(name, outcome)| match outcome {
        Outcome::Passed(time) => Some((*name, *time)),
        Outcome::Missing { .. } | Outcome::Skipped => None,
    })
}

fn total(outcomes: &[(&'static str, Outcome)]) -> Duration {
    passed(outcomes).map(|(_, time)| time).sum()
}

/// Fails if the checks took longer than `max_minutes` in total, and names the three longest.
fn check_time(outcomes: &[(&'static str, Outcome)], max_minutes: Option<u64>) -> anyhow::Result<()> {
    let Some(max_minutes) = max_minutes else { return Ok(()) };
    if total(outcomes) <= Duration::from_secs(60 * max_minutes) {
        return Ok(());
    }
    let mut longest: Vec<_> = passed(outcomes).collect();
    longest.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
    let longest: Vec<_> =
        longest.iter().take(3).map(|(name, time)| format!("{name} {:.0} s", time.as_secs_f64())).collect();
    bail!("the checks took longer than {max_minutes} minutes; the longest are {}", longest.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSES: Check = Check::new("passes", &["cargo --version"]);
    const FAILS: Check = Check::new("fails", &["cargo --version", "cargo no-such-command-of-cargo"]);
    const ABSENT: Tool = Tool { package: "kindling-no-such-tool", probe: "kindling-no-such-tool --version" };

    fn run(
        checks: &[Check],
        skip: &[&str],
        allow_missing: &[&str],
    ) -> anyhow::Result<Vec<(&'static str, Outcome)>> {
        let [skip, allow_missing] =
            [skip, allow_missing].map(|names| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        let args = Args { install: false, allow_missing, skip, max_minutes: None, clean: false };
        run_checks(&Shell::new().unwrap(), checks, &args)
    }

    #[test]
    fn a_target_folder_is_deleted_if_its_check_passed() {
        let parent = tempfile::tempdir().unwrap();
        let shell = Shell::new().unwrap();
        shell.change_dir(parent.path());
        shell.write_file("Cargo.toml", "[package]\nname = \"empty\"\nedition = \"2024\"").unwrap();
        shell.write_file("src/lib.rs", "").unwrap();
        let remains = |clean, command: &'static [&'static str]| {
            shell.create_dir("target/own").unwrap();
            let args = Args { install: false, allow_missing: vec![], skip: vec![], max_minutes: None, clean };
            let outcome = run_checks(&shell, &[Check::new("check", command)], &args);
            (outcome.is_ok(), parent.path().join("target/own").exists())
        };
        assert_eq!(remains(true, &["cargo check --target-dir target/own"]), (true, false));
        assert_eq!(remains(false, &["cargo check --target-dir target/own"]), (true, true));
        assert_eq!(remains(true, &["cargo check --bin none --target-dir target/own"]), (false, true));
        assert_eq!(remains(true, &["cargo --version"]), (true, true));
    }

    #[test]
    fn the_check_as_gpu_runs_every_test_target_of_the_crates_that_compute() {
        let as_gpu = CHECKS.iter().find(|check| check.name == "as-gpu").unwrap();
        for package in ["kernels", "model", "trainer"] {
            let tests =
                std::fs::read_dir(root().unwrap().join("crates").join(package).join("tests")).unwrap();
            let files = tests.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
            for name in files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()) {
                let words: Vec<&str> = as_gpu.commands[0].split_whitespace().collect();
                assert!(words.windows(2).any(|pair| pair == ["--test", name.as_str()]), "{package}: {name}");
            }
        }
    }

    #[test]
    fn the_first_failure_is_named_and_ends_the_run() {
        let error = run(&[PASSES, FAILS, Check::new("later", &["cargo no-later"])], &[], &[]).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.starts_with("the check `fails` failed after "), "{error}");
        assert!(error.contains("cargo no-such-command-of-cargo"), "{error}");
        assert!(!error.contains("later"), "{error}");
    }

    #[test]
    fn a_missing_tool_fails_unless_it_is_allowed() {
        let absent = Check::with("absent", &["kindling-no-such-tool"], ABSENT);
        let error = run(&[absent, PASSES], &[], &["cargo-deny"]).unwrap_err().to_string();
        assert!(
            error.starts_with("the check `absent` needs kindling-no-such-tool: cargo install"),
            "{error}"
        );

        let outcomes = run(&[absent, PASSES], &[], &[ABSENT.package]).unwrap();
        assert_eq!(outcomes[0], ("absent", Outcome::Missing { package: ABSENT.package }));
        let summary = summary(&outcomes);
        assert!(summary.contains("absent        NOT CHECKED, kindling-no-such-tool is not installed\n"));
        assert!(summary.contains("miri          NOT CHECKED here"));
        assert!(summary.ends_with("1 not checked"), "{summary}");
    }

    #[test]
    fn a_check_without_its_program_is_reported() {
        let outcomes =
            run(&[Check { program: Some("kindling-no-such-tool"), ..FAILS }, PASSES], &[], &[]).unwrap();
        assert_eq!(outcomes[0].1, Outcome::Missing { package: "kindling-no-such-tool" });
        assert!(run(&[Check { program: Some("cargo"), ..FAILS }], &[], &[]).is_err());
    }

    #[test]
    fn a_skipped_check_does_not_run_and_is_reported() {
        let outcomes = run(&[FAILS, PASSES], &["fails"], &[]).unwrap();
        assert_eq!(outcomes[0], ("fails", Outcome::Skipped));
        assert!(summary(&outcomes).contains("fails         NOT CHECKED, skipped by --skip\n"));
    }

    #[test]
    fn the_longest_checks_are_named_if_the_time_is_over() {
        let passed = |name, seconds| (name, Outcome::Passed(Duration::from_secs(seconds)));
        let outcomes =
            [passed("a", 30), ("b", Outcome::Skipped), passed("c", 5), passed("d", 40), passed("e", 50)];
        check_time(&outcomes, None).unwrap();
        check_time(&outcomes, Some(3)).unwrap();
        let error = check_time(&outcomes, Some(2)).unwrap_err().to_string();
        assert_eq!(error, "the checks took longer than 2 minutes; the longest are e 50 s, d 40 s, a 30 s");
    }

    #[test]
    fn a_command_gets_its_environment() {
        let check =
            Check { env: &[("CARGO_ALIAS_KINDLING", "version")], ..Check::new("env", &["cargo kindling"]) };
        assert_eq!(check.line("cargo kindling"), "CARGO_ALIAS_KINDLING='version' cargo kindling");
        assert!(run(&[check], &[], &[]).is_ok());
        assert!(run(&[Check { env: &[], ..check }], &[], &[]).is_err());
    }

    /// cargo sets the same variables for tests as for xtask.
    #[test]
    #[cfg(unix)] // `env` prints the environment.
    fn a_command_does_not_inherit_variables_for_xtask() {
        assert_eq!(env::var("CARGO_PKG_NAME").unwrap(), "xtask");
        let shell = Shell::new().unwrap();
        let seen = command(&shell, "env").quiet().read().unwrap();
        assert!(seen.contains("PATH=") && !seen.contains("CARGO_PKG_NAME"), "{seen}");
    }

    #[test]
    fn the_test_command_is_that_of_the_readme() {
        let test = CHECKS.iter().find(|check| check.name == "test").unwrap();
        let readme = include_str!("../../README.md");
        let command = readme.lines().find(|line| line.starts_with("cargo test")).unwrap();
        assert_eq!(test.commands, [format!("{command} --locked")]);
    }

    #[test]
    fn the_guide_for_contributors_lists_each_check_and_tool() {
        let contributing = include_str!("../../CONTRIBUTING.md");
        for Check { name, tool, .. } in CHECKS {
            assert!(contributing.contains(&format!("| `{name}` |")), "{name}");
            assert!(tool.is_none_or(|tool| contributing.contains(tool.package)), "{name}");
        }
        let workflow = include_str!("../../.github/workflows/checks.yml");
        assert!(WORKFLOW_ONLY.iter().all(|name| workflow.contains(name)));
    }
}
