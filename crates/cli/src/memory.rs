//! Whether a run, or a text, fits into the memory of this machine.

use anyhow::bail;
use indicatif::HumanBytes;
use model::{Cache, GptConfig};
use sysinfo::System;
use trainer::{Recipe, estimate_memory};

use crate::console::{report, warn};

/// What makes a new run smaller.
const SMALLER: &str =
    "a smaller optimizer.batch_size with more optimizer.grad_accumulation, or a smaller model, takes less";

/// What helps a run whose sizes are what they are.
const SAME_SIZE: &str = "free some memory, or resume it on a machine with more or on another --device";

/// Says how much memory a new run will take, warns if more of it is in use, and refuses what the machine does not have.
pub(crate) fn check(recipe: &Recipe) -> anyhow::Result<()> {
    verdict(recipe, memory(), SMALLER)
}

/// As [`check`], of a run that is resumed.
pub(crate) fn check_resumed(recipe: &Recipe) -> anyhow::Result<()> {
    verdict(recipe, memory(), SAME_SIZE)
}

/// Warns if the keys and values of so many texts take more memory than is free, and refuses what the machine does not
/// have.
pub(crate) fn check_texts(config: &GptConfig, n_texts: u64, n_tokens: usize) -> anyhow::Result<()> {
    let needed = Cache::estimate(config, usize::try_from(n_texts)?, n_tokens);
    let (total, available) = memory();
    verdict_on_texts(needed, total, available)
}

/// Memory that is free, in bytes.
pub(crate) fn available_bytes() -> u64 {
    memory().1
}

/// What the machine has, with what it may swap to, and what of it is free, in bytes.
fn memory() -> (u64, u64) {
    let mut system = System::new();
    system.refresh_memory();
    // In a container, its own limit.
    let (total, available) = match system.cgroup_limits() {
        Some(limits) if limits.total_memory > 0 => (limits.total_memory, limits.free_memory),
        _ => (system.total_memory(), system.available_memory()),
    };
    (total.saturating_add(system.total_swap()), available)
}

/// All in bytes.
fn verdict_on_texts(needed: u64, total: u64, available: u64) -> anyhow::Result<()> {
    let smaller = "fewer --samples or --max-tokens, or a shorter prompt, takes less";
    if needed > total {
        bail!(
            "the keys and values of this text need about {} of memory, and the machine has {}; {smaller}",
            HumanBytes(needed),
            HumanBytes(total)
        );
    }
    if needed > available {
        warn(format_args!(
            "the keys and values of this text need about {} of memory, and {} is free; {smaller}",
            HumanBytes(needed),
            HumanBytes(available)
        ));
    }
    Ok(())
}

/// `total` and `available` in bytes.
fn verdict(recipe: &Recipe, (total, available): (u64, u64), advice: &str) -> anyhow::Result<()> {
    let needed = estimate_memory(recipe);
    if needed > total {
        bail!(
            "this needs about {} of memory, and the machine has {}; {advice}",
            HumanBytes(needed),
            HumanBytes(total)
        );
    }
    report(format_args!(
        "about {} of memory is needed, {} is free",
        HumanBytes(needed),
        HumanBytes(available)
    ));
    if needed > available {
        warn(format_args!("that may not suffice; {advice}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused() {
        let recipe = Recipe::parse(trainer::preset("nanogpt-gpu").unwrap(), &[]).unwrap();
        let needed = estimate_memory(&recipe);
        verdict(&recipe, (needed, needed), SMALLER).unwrap();
        verdict(&recipe, (needed, needed - 1), SMALLER).unwrap();
        let error = verdict(&recipe, (needed - 1, needed - 1), SMALLER).unwrap_err().to_string();
        assert!(error.contains("optimizer.batch_size"), "{error}");
    }

    #[test]
    fn texts_that_do_not_fit_are_refused() {
        verdict_on_texts(7, 7, 6).unwrap();
        let error = verdict_on_texts(8, 7, 7).unwrap_err().to_string();
        assert!(error.contains("keys and values") && error.contains("fewer --samples"), "{error}");
        check_texts(&GptConfig::debug(), 8, 500).unwrap();
    }
}
