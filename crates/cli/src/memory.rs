//! Whether a run, or a text, fits into the memory of this machine.

use anyhow::bail;
use console::{report, warn};
use indicatif::HumanBytes;
use model::{GptConfig, SlotType, estimate_slots};
use trainer::{Fit, MachineMemory, Recipe, estimate_memory};

/// What makes a new run smaller.
const SMALLER: &str =
    "a smaller optimizer.batch_size with more optimizer.grad_accumulation, or a smaller model, takes less";

/// What helps a run whose sizes are what they are.
const SAME_SIZE: &str = "free some memory, or resume it on a machine with more or on another --device";

/// Says how much memory a new run will take, warns if more of it is in use, and refuses what the machine does not have.
pub(crate) fn check(recipe: &Recipe) -> anyhow::Result<()> {
    verdict(recipe, MachineMemory::now(), SMALLER)
}

/// As [`check`], of a run that is resumed.
pub(crate) fn check_resumed(recipe: &Recipe) -> anyhow::Result<()> {
    verdict(recipe, MachineMemory::now(), SAME_SIZE)
}

/// Warns if the keys and values of so many texts take more memory than is free, and refuses what the machine does not
/// have.
pub(crate) fn check_texts(config: &GptConfig, n_texts: u64, n_tokens: usize) -> anyhow::Result<()> {
    let needed = estimate_slots(config, usize::try_from(n_texts)?, n_tokens, SlotType::F32);
    verdict_on_texts(needed, MachineMemory::now())
}

/// Memory that is free, in bytes.
pub(crate) fn available_bytes() -> u64 {
    MachineMemory::now().available
}

/// `needed` in bytes.
fn verdict_on_texts(needed: u64, memory: MachineMemory) -> anyhow::Result<()> {
    let smaller = "fewer --samples or --max-tokens, or a shorter prompt, takes less";
    let needs = format!("the keys and values of this text need about {} of memory", HumanBytes(needed));
    match memory.fit(needed) {
        Fit::TooLarge => bail!("{needs}, and the machine has {}; {smaller}", HumanBytes(memory.total)),
        Fit::Tight => warn(format_args!("{needs}, and {} is free; {smaller}", HumanBytes(memory.available))),
        Fit::Free => {}
    }
    Ok(())
}

fn verdict(recipe: &Recipe, memory: MachineMemory, advice: &str) -> anyhow::Result<()> {
    let needed = estimate_memory(recipe);
    let (fit, about) = (memory.fit(needed), HumanBytes(needed));
    if fit == Fit::TooLarge {
        bail!(
            "this needs about {about} of memory, and the machine has {}; {advice}",
            HumanBytes(memory.total)
        );
    }
    report(format_args!("about {about} of memory is needed, {} is free", HumanBytes(memory.available)));
    if fit == Fit::Tight {
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
        let memory = |total, available| MachineMemory { total, available };
        verdict(&recipe, memory(needed, needed), SMALLER).unwrap();
        verdict(&recipe, memory(needed, needed - 1), SMALLER).unwrap();
        let error = verdict(&recipe, memory(needed - 1, needed - 1), SMALLER).unwrap_err().to_string();
        assert!(error.contains("optimizer.batch_size"), "{error}");
    }

    #[test]
    fn texts_that_do_not_fit_are_refused() {
        verdict_on_texts(7, MachineMemory { total: 7, available: 6 }).unwrap();
        let error = verdict_on_texts(8, MachineMemory { total: 7, available: 7 }).unwrap_err().to_string();
        assert!(error.contains("keys and values") && error.contains("fewer --samples"), "{error}");
        check_texts(&GptConfig::debug(), 8, 500).unwrap();
    }
}
