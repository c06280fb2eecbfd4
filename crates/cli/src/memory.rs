//! Checks that a training run or a KV cache fits in memory.

use anyhow::bail;
use console::{report, warn};
use indicatif::HumanBytes;
use model::{GptConfig, SlotType, estimate_slots};
use trainer::{Fit, MachineMemory, Recipe, estimate_memory};

/// Advice for a new run.
const SMALLER: &str =
    "use a smaller optimizer.batch_size with more optimizer.grad_accumulation, or a smaller model";

/// Advice for a resumed run, whose sizes are fixed.
const SAME_SIZE: &str = "free some memory, or resume on a machine with more memory or on another --device";

/// Reports the memory that a new run needs. Warns if it exceeds the free memory, and fails if it exceeds the machine's.
pub(crate) fn check(recipe: &Recipe) -> anyhow::Result<()> {
    verdict(recipe, MachineMemory::now(), SMALLER)
}

/// Like [`check`], for a resumed run.
pub(crate) fn check_resumed(recipe: &Recipe) -> anyhow::Result<()> {
    verdict(recipe, MachineMemory::now(), SAME_SIZE)
}

/// Checks the KV cache of `n_texts` texts with `n_tokens` each, like [`check`] but without a report.
pub(crate) fn check_kv_cache(config: &GptConfig, n_texts: u64, n_tokens: usize) -> anyhow::Result<()> {
    let needed = estimate_slots(config, usize::try_from(n_texts)?, n_tokens, SlotType::F32);
    verdict_on_kv_cache(needed, MachineMemory::now())
}

/// Free memory in bytes.
pub(crate) fn available_bytes() -> u64 {
    MachineMemory::now().available
}

/// `needed` in bytes.
fn verdict_on_kv_cache(needed: u64, memory: MachineMemory) -> anyhow::Result<()> {
    let smaller = "use fewer --samples or --max-tokens, or a shorter prompt";
    let needs = format!("the KV cache needs about {} of memory", HumanBytes(needed));
    match memory.fit(needed) {
        Fit::TooLarge => bail!("{needs}, but the machine has {}; {smaller}", HumanBytes(memory.total)),
        Fit::Tight => {
            warn(format_args!("{needs}, but only {} is free; {smaller}", HumanBytes(memory.available)))
        }
        Fit::Free => {}
    }
    Ok(())
}

fn verdict(recipe: &Recipe, memory: MachineMemory, advice: &str) -> anyhow::Result<()> {
    let needed = estimate_memory(recipe);
    let (fit, about) = (memory.fit(needed), HumanBytes(needed));
    if fit == Fit::TooLarge {
        bail!(
            "training needs about {about} of memory, but the machine has {}; {advice}",
            HumanBytes(memory.total)
        );
    }
    report(format_args!("memory: about {about} needed, {} free", HumanBytes(memory.available)));
    if fit == Fit::Tight {
        warn(format_args!("training may run out of memory; {advice}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_larger_than_the_memory_is_an_error() {
        let recipe = Recipe::parse(trainer::preset("nanogpt-gpu").unwrap(), &[]).unwrap();
        let needed = estimate_memory(&recipe);
        let memory = |total, available| MachineMemory { total, available };
        verdict(&recipe, memory(needed, needed), SMALLER).unwrap();
        verdict(&recipe, memory(needed, needed - 1), SMALLER).unwrap();
        let error = verdict(&recipe, memory(needed - 1, needed - 1), SMALLER).unwrap_err().to_string();
        assert!(error.contains("optimizer.batch_size"), "{error}");
    }

    #[test]
    fn a_kv_cache_larger_than_the_memory_is_an_error() {
        verdict_on_kv_cache(7, MachineMemory { total: 7, available: 6 }).unwrap();
        let error = verdict_on_kv_cache(8, MachineMemory { total: 7, available: 7 }).unwrap_err().to_string();
        assert!(error.contains("KV cache") && error.contains("fewer --samples"), "{error}");
        check_kv_cache(&GptConfig::debug(), 8, 500).unwrap();
    }
}
