//! `cargo xtask ci`: every check that a change has to pass, the same here as on a server.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, bail};
use xshell::{Cmd, Shell};

/// Run every check, the cheapest first, and stop at the first that fails.
///
/// A check whose tool is not there is left out, and said so.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask ci
  cargo xtask ci --install                            with every tool, installed first where it is missing
  cargo xtask ci --skip clippy,fuzz,test,as-gpu,doc    only what needs no build")]
pub(crate) struct Args {
    /// Install the tools that are missing first, from source
    #[arg(long)]
    install: bool,

    /// Leave these checks out
    #[arg(long, value_name = "CHECK", value_delimiter = ',')]
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(CHECKS.map(|check| check.name)))]
    skip: Vec<String>,
}

/// One command that has to succeed.
#[derive(Debug, Clone, Copy)]
struct Check {
    name: &'static str,
    /// Words between spaces; no word has one.
    command: &'static str,
    env: Option<(&'static str, &'static str)>,
    tool: Option<Tool>,
}

/// A program that does not come with Rust.
#[derive(Debug, Clone, Copy)]
struct Tool {
    /// The package that `cargo install` makes it from.
    package: &'static str,
    /// Succeeds if and only if the tool is there.
    probe: &'static str,
}

const TYPOS: Tool = Tool { package: "typos-cli", probe: "typos --version" };
const MACHETE: Tool = Tool { package: "cargo-machete", probe: "cargo machete --version" };
const DENY: Tool = Tool { package: "cargo-deny", probe: "cargo deny --version" };

/// Cheapest first. Clippy and rustdoc share what cargo checks of the dependencies; the tests build them.
const CHECKS: [Check; 11] = [
    Check::new("fmt", "cargo fmt --all --check"),
    Check::with("typos", "typos", TYPOS),
    Check::with("machete", "cargo machete", MACHETE),
    Check::with("deny", "cargo deny --locked check bans licenses sources", DENY),
    // On its own, because it asks for a database of its own beside the package registry.
    Check::with("advisories", "cargo deny --locked check advisories", DENY),
    Check::new("clippy", "cargo clippy --workspace --all-targets --locked -- -D warnings"),
    // Without libFuzzer itself, which takes a C++ compiler, and without the targets that take Burn.
    Check::new(
        "fuzz",
        "cargo clippy --manifest-path fuzz/Cargo.toml --no-default-features --all-targets \
         --locked -- -D warnings",
    ),
    // With no CUDA on the machine: its libraries are loaded when a GPU is asked for.
    Check::new(
        "cuda",
        "cargo check --package kernels --package model --package checkpoint --package engine --package trainer \
         --package cli --features cli/cuda,cli/wgpu --lib --bins --tests --locked",
    ),
    // As the README has it. Without `--all-targets`, which would leave out the examples in the documentation.
    Check::new("test", "cargo test --workspace --locked"),
    // The same results by the operations of GPUs, most of which are the definitions, as by their fused forms.
    Check {
        env: Some(("KINDLING_TEST_DEVICE", "cpu-as-gpu")),
        ..Check::new("as-gpu", "cargo test --workspace --locked --lib --tests")
    },
    Check {
        env: Some(("RUSTDOCFLAGS", "-D warnings")),
        ..Check::new("doc", "cargo doc --workspace --no-deps --locked")
    },
];

impl Check {
    const fn new(name: &'static str, command: &'static str) -> Self {
        Self { name, command, env: None, tool: None }
    }

    const fn with(name: &'static str, command: &'static str, tool: Tool) -> Self {
        Self { tool: Some(tool), ..Self::new(name, command) }
    }

    /// What a person would type.
    fn line(&self) -> String {
        let env = self.env.map_or_else(String::new, |(name, value)| format!("{name}='{value}' "));
        format!("{env}{}", self.command)
    }
}

/// What became of a check that did not fail.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Outcome {
    Passed { seconds: f64 },
    Missing { package: &'static str },
    LeftOut,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed { seconds } => write!(f, "passed in {seconds:.1} s"),
            Self::Missing { package } => write!(f, "NOT CHECKED, {package} is not installed"),
            Self::LeftOut => f.write_str("NOT CHECKED, left out by --skip"),
        }
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let shell = Shell::new()?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?;
    shell.change_dir(root);
    if args.install {
        install_missing(&shell, &CHECKS)?;
    }
    let outcomes = run_checks(&shell, &CHECKS, &args.skip)?;
    say(&summary(&outcomes));
    Ok(())
}

/// Runs the checks in order; the error names the first that fails, after which none is run.
fn run_checks(
    shell: &Shell,
    checks: &[Check],
    skip: &[String],
) -> anyhow::Result<Vec<(&'static str, Outcome)>> {
    let mut outcomes = Vec::new();
    for check in checks {
        let outcome = if skip.iter().any(|name| name == check.name) {
            Outcome::LeftOut
        } else if let Some(tool) = check.tool.filter(|tool| !is_there(shell, tool)) {
            Outcome::Missing { package: tool.package }
        } else {
            run_check(shell, check)?
        };
        say(&format!("== {}: {outcome}\n", check.name));
        outcomes.push((check.name, outcome));
    }
    Ok(outcomes)
}

fn run_check(shell: &Shell, check: &Check) -> anyhow::Result<Outcome> {
    say(&format!("== {}\n$ {}", check.name, check.line()));
    let started = Instant::now();
    let mut command = command(shell, check.command).quiet();
    if let Some((name, value)) = check.env {
        command = command.env(name, value);
    }
    let result = command.run();
    let seconds = started.elapsed().as_secs_f64();
    result.with_context(|| format!("the check `{}` failed after {seconds:.1} s", check.name))?;
    Ok(Outcome::Passed { seconds })
}

fn install_missing(shell: &Shell, checks: &[Check]) -> anyhow::Result<()> {
    let missing = checks.iter().filter_map(|check| check.tool).filter(|tool| !is_there(shell, tool));
    let packages = distinct(missing.map(|tool| tool.package));
    if packages.is_empty() {
        return Ok(());
    }
    let line = install_line(&packages);
    say(&format!("$ {line}"));
    command(shell, &line).quiet().run().context("the missing tools can't be installed")?;
    match checks.iter().filter_map(|check| check.tool).find(|tool| !is_there(shell, tool)) {
        Some(tool) => bail!(
            "{} was installed, but `{}` does not find it; is cargo's folder of programs on your PATH?",
            tool.package,
            tool.probe
        ),
        None => Ok(()),
    }
}

fn is_there(shell: &Shell, tool: &Tool) -> bool {
    command(shell, tool.probe).quiet().ignore_stdout().ignore_stderr().run().is_ok()
}

/// A command as a shell would run it: without what `cargo run` says about xtask to what it runs. By that
/// cargo-machete would take itself for the program that cargo runs, and misread its arguments.
fn command<'a>(shell: &'a Shell, line: &str) -> Cmd<'a> {
    let mut words = line.split_whitespace();
    let command = shell.cmd(words.next().unwrap_or_default()).args(words);
    let about_xtask = |name: &OsString| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    };
    env::vars_os().map(|(name, _)| name).filter(about_xtask).fold(command, Cmd::env_remove)
}

fn install_line(packages: &[&str]) -> String {
    format!("cargo install --locked {}", packages.join(" "))
}

fn distinct<'a>(packages: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut distinct = Vec::new();
    for package in packages {
        if !distinct.contains(&package) {
            distinct.push(package);
        }
    }
    distinct
}

fn summary(outcomes: &[(&'static str, Outcome)]) -> String {
    let lines: String = outcomes.iter().map(|(name, outcome)| format!("{name:<12} {outcome}\n")).collect();
    let n_passed = outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Passed { .. })).count();
    let missing = distinct(outcomes.iter().filter_map(|(_, outcome)| match outcome {
        Outcome::Missing { package } => Some(*package),
        Outcome::Passed { .. } | Outcome::LeftOut => None,
    }));
    let install = match missing.as_slice() {
        [] => String::new(),
        packages => format!("To check all of it: {}\n", install_line(packages)),
    };
    let n_left = outcomes.len() - n_passed;
    format!("== summary\n{lines}{install}ci: none failed, {n_passed} passed, {n_left} not checked")
}

#[expect(clippy::print_stdout, reason = "what was run and how it went is what this command is for")]
fn say(text: &str) {
    println!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSES: Check = Check::new("passes", "cargo --version");
    const FAILS: Check = Check::new("fails", "cargo no-such-command-of-cargo");
    const ABSENT: Tool = Tool { package: "kindling-no-such-tool", probe: "kindling-no-such-tool --version" };

    fn run(checks: &[Check], skip: &[&str]) -> anyhow::Result<Vec<(&'static str, Outcome)>> {
        let skip: Vec<String> = skip.iter().map(|&name| name.to_owned()).collect();
        run_checks(&Shell::new().unwrap(), checks, &skip)
    }

    #[test]
    fn the_first_failure_is_named_and_ends_the_run() {
        let error = run(&[PASSES, FAILS, Check::new("later", "cargo no-later")], &[]).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.starts_with("the check `fails` failed after "), "{error}");
        assert!(error.contains("cargo no-such-command-of-cargo"), "{error}");
        assert!(!error.contains("later"), "{error}");
    }

    #[test]
    fn a_check_without_its_tool_is_not_taken_for_passed() {
        let absent = Check::with("absent", "kindling-no-such-tool", ABSENT);
        let outcomes = run(&[absent, PASSES], &[]).unwrap();
        assert_eq!(outcomes[0], ("absent", Outcome::Missing { package: ABSENT.package }));
        assert!(matches!(outcomes[1], ("passes", Outcome::Passed { .. })));

        let summary = summary(&outcomes);
        assert!(summary.contains("absent       NOT CHECKED, kindling-no-such-tool is not installed\n"));
        assert!(summary.contains("cargo install --locked kindling-no-such-tool\n"));
        assert!(summary.ends_with("ci: none failed, 1 passed, 1 not checked"), "{summary}");
    }

    #[test]
    fn a_check_that_is_left_out_does_not_run_and_is_reported() {
        let outcomes = run(&[FAILS, PASSES], &["fails"]).unwrap();
        assert_eq!(outcomes[0], ("fails", Outcome::LeftOut));
        assert!(summary(&outcomes).contains("fails        NOT CHECKED, left out by --skip\n"));
        assert!(!summary(&outcomes).contains("cargo install"));
    }

    #[test]
    fn a_command_gets_its_environment() {
        let check =
            Check { env: Some(("CARGO_ALIAS_KINDLING", "version")), ..Check::new("env", "cargo kindling") };
        assert_eq!(check.line(), "CARGO_ALIAS_KINDLING='version' cargo kindling");
        assert!(run(&[check], &[]).is_ok());
        assert!(run(&[Check { env: None, ..check }], &[]).is_err());
    }

    /// The tests are run by cargo as xtask is.
    #[test]
    #[cfg(unix)] // Where `env` prints the environment.
    fn a_command_is_not_told_of_xtask() {
        assert_eq!(env::var("CARGO_PKG_NAME").unwrap(), "xtask");
        let shell = Shell::new().unwrap();
        let seen = command(&shell, "env").quiet().read().unwrap();
        assert!(seen.contains("PATH=") && !seen.contains("CARGO_PKG_NAME"), "{seen}");
    }

    #[test]
    fn the_tests_are_those_of_the_readme() {
        let test = CHECKS.iter().find(|check| check.name == "test").unwrap();
        let readme = include_str!("../../README.md");
        let command = readme.lines().find(|line| line.starts_with("cargo test")).unwrap();
        assert_eq!(test.command, format!("{command} --locked"));
    }

    #[test]
    fn contributors_are_told_of_each_check_and_tool() {
        let contributing = include_str!("../../CONTRIBUTING.md");
        for Check { name, tool, .. } in CHECKS {
            assert!(contributing.contains(&format!("| `{name}` |")), "{name}");
            assert!(tool.is_none_or(|tool| contributing.contains(tool.package)), "{name}");
        }
    }
}
