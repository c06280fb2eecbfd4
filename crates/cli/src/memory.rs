//! Whether a run fits into the memory of this machine.

use anyhow::bail;
use indicatif::HumanBytes;
use sysinfo::System;
use trainer::{Recipe, estimate_memory};

use crate::console::{report, warn};

/// Says how much memory a run will take, warns if more of it is in use, and refuses what the machine does not have.
pub(crate) fn check(recipe: &Recipe) -> anyhow::Result<()> {
    let mut system = System::new();
    system.refresh_memory();
    // In a container, its own limit.
    let (total, available) = match system.cgroup_limits() {
        Some(limits) if limits.total_memory > 0 => (limits.total_memory, limits.free_memory),
        _ => (system.total_memory(), system.available_memory()),
    };
    verdict(recipe, total.saturating_add(system.total_swap()), available)
}

/// `total` and `available` in bytes.
fn verdict(recipe: &Recipe, total: u64, available: u64) -> anyhow::Result<()> {
    let needed = estimate_memory(recipe);
    let smaller = "a smaller optimizer.batch_size with more optimizer.grad_accumulation, or a smaller model, takes less";
    if needed > total {
        bail!(
            "this needs about {} of memory, and the machine has {}; {smaller}",
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
        warn(format_args!("that may not do; {smaller}"));
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
        verdict(&recipe, needed, needed).unwrap();
        verdict(&recipe, needed, needed - 1).unwrap();
        let error = verdict(&recipe, needed - 1, needed - 1).unwrap_err().to_string();
        assert!(error.contains("optimizer.batch_size"), "{error}");
    }
}
