//! `cargo xtask chats`: a small set of conversations by a rule, for trying supervised fine-tuning.

use std::{fs, path::PathBuf};

use anyhow::{Context, ensure};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::json;

/// Words to repeat.
const WORDS: [&str; 16] = [
    "crown", "sword", "night", "honour", "garden", "river", "letter", "candle", "music", "winter", "friend",
    "bread", "morning", "silver", "stone", "window",
];

const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Write conversations about sums, dates and words to repeat, one JSON object per line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// File to write; an existing one is not replaced.
    #[arg(short, long, default_value = "chats.jsonl")]
    output: PathBuf,

    /// Number of conversations.
    #[arg(long, default_value_t = 2000)]
    n: usize,

    /// Seed: the same conversations on every machine.
    #[arg(long, default_value_t = 1337)]
    seed: u64,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let Args { output, n, seed } = args;
    ensure!(!output.exists(), "{} already exists; choose another file with --output", output.display());
    let mut rng = ChaCha8Rng::seed_from_u64(*seed);
    let lines: String = (0..*n).map(|_| format!("{}\n", conversation(&mut rng))).collect();
    fs::write(output, lines).with_context(|| format!("cannot write {}", output.display()))
}

/// A conversation of one or two questions.
fn conversation(rng: &mut ChaCha8Rng) -> serde_json::Value {
    let n = 1 + below(2, rng);
    let messages: Vec<_> = (0..n)
        .flat_map(|_| {
            let (question, answer) = exchange(rng);
            [("user", question), ("assistant", answer)]
                .map(|(role, text)| json!({ "role": role, "content": text }))
        })
        .collect();
    json!({ "messages": messages })
}

/// A question and its answer.
fn exchange(rng: &mut ChaCha8Rng) -> (String, String) {
    match below(4, rng) {
        0 => {
            let (left, right) = (below(10, rng), below(10, rng));
            (format!("What is {left} plus {right}?"), format!("{left} plus {right} is {}.", left + right))
        }
        1 => {
            let day = below(DAYS.len(), rng);
            let (today, next) = (DAYS[day], DAYS[(day + 1) % DAYS.len()]);
            (format!("Which day follows {today}?"), format!("{next} follows {today}."))
        }
        2 => {
            let month = below(MONTHS.len(), rng);
            let (this, next) = (MONTHS[month], MONTHS[(month + 1) % MONTHS.len()]);
            (format!("Which month follows {this}?"), format!("{next} follows {this}."))
        }
        _ => {
            let word = WORDS[below(WORDS.len(), rng)];
            (format!("Say {word}."), format!("{word}."))
        }
    }
}

/// A number below `bound`.
fn below(bound: usize, rng: &mut ChaCha8Rng) -> usize {
    usize::try_from(rng.next_u64() % bound as u64).expect("a remainder is below the bound")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_conversations() {
        let lines = |seed: u64| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            (0..50).map(|_| conversation(&mut rng).to_string()).collect::<Vec<_>>()
        };
        assert_eq!(lines(1), lines(1));
        assert_ne!(lines(1), lines(2));
        assert!(lines(1).iter().any(|line| line.contains("follows")));
    }
}
