//! Checks that a training run or a KV cache fits in memory.

use anyhow::bail;
use console::{report, warn};
use indicatif::HumanBytes;
use model::{Activations, Gpt, estimate_slots};
use trainer::{MachineMemory, MemoryFit, Recipe, estimate_memory};

/// Advice for a new run.
const SMALLER: &str =
    "use a smaller optimizer.batch_size with more optimizer.grad_accumulation, or a smaller model";

/// Advice for a resumed run, whose sizes are fixed.
const SAME_SIZE: &str = "free some memory, or resume on a machine with more memory or on another --device";

/// Advice for runs that keep the values inside blocks, before the other advice.
const RECOMPUTE: &str = "add --set run.activations=recompute, which takes about a quarter more time; or ";

/// Advice for several ranks on a host, before the other advice.
const FEWER_RANKS: &str = "start fewer ranks on a host; or ";

/// The processes that train together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RankCounts {
    pub(crate) on_host: usize,
    pub(crate) all: usize,
}

impl RankCounts {
    pub(crate) const ONE: Self = Self { on_host: 1, all: 1 };
}

/// Reports the memory that a new run needs on this host; `recipe` has the batch of one rank. Warns if it exceeds the free memory, and fails
/// if it exceeds the machine's.
pub(crate) fn check(recipe: &Recipe, ranks: RankCounts) -> anyhow::Result<()> {
    verdict((recipe, ranks), MachineMemory::now(), SMALLER)
}

/// Like [`check`], for a resumed run.
pub(crate) fn check_resumed(recipe: &Recipe, ranks: RankCounts) -> anyhow::Result<()> {
    verdict((recipe, ranks), MachineMemory::now(), SAME_SIZE)
}

/// Checks the KV cache of `n_texts` texts with `n_tokens` each, like [`check`] but without a report.
pub(crate) fn check_kv_cache(gpt: &Gpt, n_texts: u64, n_tokens: usize) -> anyhow::Result<()> {
    let needed = estimate_slots(gpt.config(), usize::try_from(n_texts)?, n_tokens, gpt.slot_type());
    verdict_on_kv_cache(
        needed,
        MachineMemory::now(),
        "use fewer --samples or --max-tokens, or a shorter prompt",
    )
}

/// Like [`check_kv_cache`], for the full slots of a server of several models.
#[cfg(feature = "serve")]
pub(crate) fn check_slots(models: &[&Gpt], n_slots: usize) -> anyhow::Result<()> {
    verdict_on_kv_cache(slots_bytes(models, n_slots), MachineMemory::now(), "use fewer --slots")
}

/// The largest number of slots of a server that fit in half of the free memory when full, from 1 to 16.
#[cfg(feature = "serve")]
pub(crate) fn default_slots(models: &[&Gpt]) -> usize {
    most_slots(models, available_bytes() / 2)
}

#[cfg(feature = "serve")]
fn most_slots(models: &[&Gpt], n_bytes: u64) -> usize {
    (2..=16).rev().find(|&n_slots| slots_bytes(models, n_slots) <= n_bytes).unwrap_or(1)
}

/// The memory of `n_slots` full slots for each of several models.
#[cfg(feature = "serve")]
fn slots_bytes(models: &[&Gpt], n_slots: usize) -> u64 {
    let of_one = |gpt: &&Gpt| estimate_slots(gpt.config(), n_slots, gpt.config().block_size, gpt.slot_type());
    models.iter().map(of_one).fold(0, u64::saturating_add)
}

/// Free memory in bytes.
pub(crate) fn available_bytes() -> u64 {
    MachineMemory::now().available
}

/// `needed` in bytes.
fn verdict_on_kv_cache(needed: u64, memory: MachineMemory, smaller: &str) -> anyhow::Result<()> {
    let needs = format!("the KV cache needs about {} of memory", HumanBytes(needed));
    match memory.fit(needed) {
        MemoryFit::TooLarge => bail!("{needs}, but the machine has {}; {smaller}", HumanBytes(memory.total)),
        MemoryFit::Tight => {
            warn(format_args!("{needs}, but only {} is free; {smaller}", HumanBytes(memory.available)))
        }
        MemoryFit::Free => {}
    }
    Ok(())
}

fn verdict(
    (recipe, ranks): (&Recipe, RankCounts),
    memory: MachineMemory,
    advice: &str,
) -> anyhow::Result<()> {
    let needed = estimate_memory(recipe, ranks.all).saturating_mul(ranks.on_host as u64);
    let (fit, about) = (memory.fit(needed), HumanBytes(needed));
    let (of_ranks, fewer) = match ranks.on_host {
        1 => (String::new(), ""),
        n_ranks => (format!(" for {n_ranks} ranks"), FEWER_RANKS),
    };
    let recompute = if recipe.activations() == Activations::Keep { RECOMPUTE } else { "" };
    let advice = format!("{fewer}{recompute}{advice}");
    if fit == MemoryFit::TooLarge {
        bail!(
            "training needs about {about} of memory{of_ranks}, but the machine has {}; {advice}",
            HumanBytes(memory.total)
        );
    }
    report(format_args!("memory: about {about} needed{of_ranks}, {} free", HumanBytes(memory.available)));
    if fit == MemoryFit::Tight {
        warn(format_args!("training may run out of memory; {advice}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use kernels::testing::test_device;
    use model::{GptConfig, SlotType};

    use super::*;

    fn gpt() -> Gpt {
        GptConfig::debug().zeros(&test_device()).unwrap()
    }

    #[test]
    fn a_run_larger_than_the_memory_is_an_error() {
        let recipe = Recipe::parse(trainer::preset("nanogpt-gpu").unwrap(), &[]).unwrap();
        let needed = estimate_memory(&recipe, 1);
        let memory = |total, available| MachineMemory { total, available };
        let three = RankCounts { on_host: 3, all: 3 };
        verdict((&recipe, RankCounts::ONE), memory(needed, needed), SMALLER).unwrap();
        verdict((&recipe, RankCounts::ONE), memory(needed, needed - 1), SMALLER).unwrap();
        let error = verdict((&recipe, RankCounts::ONE), memory(needed - 1, needed - 1), SMALLER)
            .unwrap_err()
            .to_string();
        assert!(error.contains("optimizer.batch_size") && !error.contains("ranks"), "{error}");
        verdict((&recipe, three), memory(3 * needed, needed), SMALLER).unwrap();
        let error =
            verdict((&recipe, three), memory(3 * needed - 1, needed), SMALLER).unwrap_err().to_string();
        assert!(error.contains(" for 3 ranks, but") && error.contains("; start fewer ranks"), "{error}");
    }

    #[test]
    fn a_kv_cache_larger_than_the_memory_is_an_error() {
        let verdict = |needed, total, available| {
            verdict_on_kv_cache(needed, MachineMemory { total, available }, "use fewer --samples")
        };
        verdict(7, 7, 6).unwrap();
        let error = verdict(8, 7, 7).unwrap_err().to_string();
        assert!(error.contains("KV cache") && error.contains("fewer --samples"), "{error}");
        check_kv_cache(&gpt(), 8, 500).unwrap();
    }

    #[test]
    #[cfg(feature = "serve")]
    fn as_many_slots_as_fit_are_the_default() {
        let gpt = gpt();
        let of = |n_slots| slots_bytes(&[&gpt, &gpt], n_slots);
        assert_eq!(of(3), 2 * slots_bytes(&[&gpt], 3), "the slots of both models count");
        for (n_bytes, n_slots) in
            [(0, 1), (of(1), 1), (of(2) - 1, 1), (of(2), 2), (of(16) - 1, 15), (of(16), 16), (u64::MAX, 16)]
        {
            assert_eq!(most_slots(&[&gpt, &gpt], n_bytes), n_slots, "{n_bytes} bytes");
        }
        check_slots(&[&gpt], 16).unwrap();
        check_slots(&[&gpt], usize::MAX).unwrap_err();
    }

    #[test]
    #[cfg(feature = "serve")]
    fn slots_in_f16_take_half_the_memory() {
        let gpt = gpt();
        let size = slots_bytes(&[&gpt], 3);
        assert_eq!(slots_bytes(&[&gpt.with_slot_type(SlotType::F16)], 3), size / 2);
    }
}
