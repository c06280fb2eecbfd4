//! Ranks that are processes: each test starts `mpirun` with the binary `rank`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking; clippy.toml sees no test in a helper")]

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use wait_timeout::ChildExt;

/// Heartbeat timeout of tests in which no rank hangs, in milliseconds.
const LONG: &str = "30000";
/// Heartbeat timeout of tests that wait for it.
const SHORT: &str = "2000";

/// How long the ranks of a test may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

fn start(n_ranks: usize, case: &str, timeout_ms: &str) -> Child {
    let mut command = Command::new("mpirun");
    command.args(["--oversubscribe", "--bind-to", "none", "-n", &n_ranks.to_string()]);
    command.args([env!("CARGO_BIN_EXE_rank"), case, timeout_ms]);
    command.envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")]);
    command.env("RUST_BACKTRACE", "0");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Whether all ranks have succeeded, and standard output and error.
fn finish(mut mpirun: Child) -> (bool, String) {
    let status = mpirun.wait_timeout(LIMIT).unwrap();
    if status.is_none() {
        mpirun.kill().unwrap();
    }
    let mut text = String::new();
    mpirun.stdout.take().map(|mut pipe| pipe.read_to_string(&mut text).unwrap());
    mpirun.stderr.take().map(|mut pipe| pipe.read_to_string(&mut text).unwrap());
    let status = status.unwrap_or_else(|| panic!("the ranks did not end within {LIMIT:?}: {text}"));
    (status.success(), text)
}

fn run(n_ranks: usize, case: &str, timeout_ms: &str) -> (bool, String) {
    finish(start(n_ranks, case, timeout_ms))
}

/// Starts two ranks that exchange until they are ended, and sends `signal` to rank 1.
fn signal_rank_1(signal: Signal) -> (bool, String) {
    let mut mpirun = start(2, "signal", SHORT);
    let mut lines = BufReader::new(mpirun.stdout.take().unwrap()).lines();
    let pid = lines.find_map(|line| line.unwrap().strip_prefix("rank 1 is process ")?.parse().ok()).unwrap();
    kill(Pid::from_raw(pid), signal).unwrap();
    finish(mpirun)
}

#[test]
fn ranks_of_mpi_get_the_bits_of_threads() {
    for n_ranks in [1, 2] {
        let (is_success, text) = run(n_ranks, "collectives", LONG);
        assert!(is_success, "{n_ranks}: {text}");
        assert_eq!(text.matches(&format!("of {n_ranks} finishes")).count(), n_ranks, "{text}");
    }
}

#[test]
fn ranks_with_other_data_are_refused_with_their_hosts() {
    let (is_success, text) = run(2, "agreement", LONG);
    assert!(
        !is_success && text.contains("data is 3f on rank 0 (") && text.contains("and 77 on rank 1 ("),
        "{text}"
    );
}

#[test]
fn the_error_of_a_rank_ends_the_others_with_its_message() {
    let (is_success, text) = run(2, "error", LONG);
    assert!(!is_success && text.contains("rank: 1, ") && text.contains("failed: disk full"), "{text}");
}

#[test]
fn a_panic_ends_the_others() {
    let (is_success, text) = run(2, "panic", LONG);
    assert!(!is_success && text.contains("expected by the test") && text.contains("panicked"), "{text}");
}

#[test]
fn a_rank_may_not_end_before_the_others() {
    let (is_success, text) = run(2, "return", LONG);
    assert!(!is_success && text.contains("ended before the others"), "{text}");
}

#[test]
fn a_rank_that_hangs_is_named() {
    let (is_success, text) = run(2, "hang", SHORT);
    assert!(
        !is_success && text.contains("error: rank 1 on ") && text.contains("has used no CPU time for 2."),
        "{text}"
    );
}

#[test]
fn a_slow_step_is_no_hang() {
    let (is_success, text) = run(2, "slow", "1000");
    assert!(is_success, "{text}");
}

#[test]
fn a_stopped_rank_is_named() {
    let (is_success, text) = signal_rank_1(Signal::SIGSTOP);
    assert!(!is_success && text.contains("error: rank 1 on "), "{text}");
    assert!(
        text.contains("sent no heartbeat for 2.") && text.contains("(it was training after step "),
        "{text}"
    );
}

/// `mpirun` ends the job; its message names the rank and the host.
#[test]
fn a_killed_rank_ends_the_others() {
    let (is_success, text) = signal_rank_1(Signal::SIGKILL);
    assert!(!is_success && text.contains("rank 1 ") && text.contains("signal 9"), "{text}");
}
