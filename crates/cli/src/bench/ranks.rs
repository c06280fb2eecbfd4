//! `kindling bench --ranks`: the efficiency of training over several ranks.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    num::NonZeroU64,
    process::ExitCode,
    time::Duration,
};

use engine::WeightStorage;
use indicatif::DecimalBytes;
use journal::summary::plural;
use kernels::on_pool;
use monitor::warn_of_precision;
use serde::{Deserialize, Serialize};
use trainer::{Recipe, TogetherSteps, time_steps, time_steps_together};

use super::subject::{Subject, load};
use crate::{
    device::DeviceArgs,
    memory,
    model_args::WeightsArgs,
    train::ranks::{RANK_TIMEOUT_SECONDS, Ranks},
    usage::bail_usage,
};

/// The arguments of the measurement.
pub(super) struct Options<'a> {
    /// A recipe or a model.
    pub(super) subject: &'a str,
    pub(super) sets: &'a [String],
    pub(super) vocab_size: usize,
    pub(super) weights: &'a WeightsArgs,
    pub(super) device: &'a DeviceArgs,
    pub(super) n_warmup: u64,
    /// At most, unless local steps need more.
    pub(super) n_steps: u64,
    /// The time to measure.
    pub(super) limit: Duration,
    pub(super) is_json: bool,
}

/// The measurements of all ranks.
#[derive(Debug, PartialEq, Serialize)]
struct Report {
    n_ranks: usize,
    n_hosts: usize,
    /// Tokens of one rank in a step.
    tokens: u64,
    /// The time of a step without exchange, of the slowest and the fastest rank: medians.
    alone_milliseconds: [f64; 2],
    /// The mean time of a step of all ranks together.
    milliseconds: f64,
    steps: u64,
    /// The speed of all ranks.
    tokens_per_second: f64,
    /// The mean share of the time in which a rank waited for others.
    waiting_share: f64,
    /// The time of the slowest rank alone, relative to the time together.
    efficiency: f64,
    /// By the rank that sends most, in a step on average.
    bytes_sent_per_step: f64,
}

/// The measurements of a rank.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct OfRank {
    /// The median step without exchange.
    alone: Duration,
    /// The time of all steps together.
    together: Duration,
    waited: Duration,
    bytes_sent: u64,
}

pub(super) fn run(args: &Options<'_>) -> anyhow::Result<ExitCode> {
    let ranks = Ranks::start(Duration::from_secs(RANK_TIMEOUT_SECONDS))?;
    let result = measure(args, &ranks);
    ranks.end(result)
}

fn measure(args: &Options<'_>, ranks: &Ranks) -> anyhow::Result<ExitCode> {
    if !ranks.are_several() {
        bail_usage!(
            "--ranks measures several ranks, and this is one process; start it as: mpirun -n 2 --bind-to none kindling bench \
             --ranks"
        );
    }
    let group = ranks.group();
    let devices = args.device.open_for_rank(ranks.local_index())?;
    let device = &devices[0];
    let Subject { recipe, model, source, .. } =
        Subject::open(args.subject, args.sets, args.vocab_size, (args.weights, args.device), device)?;
    warn_of_precision(&recipe, device);
    if args.device.is_cpu() {
        memory::check(&recipe, ranks.counts())?;
    }
    let model = match source {
        None => model,
        Some(source) => {
            drop(model);
            load(&source, WeightStorage::Owned, device)?
        }
    };
    let model = model.with_precision(recipe.run.precision);

    // Half of the time each. The weights are shared until the first step.
    let limit = args.limit.div_f64(2.0);
    group.barrier()?;
    let of_model = model.clone();
    let mut alone = on_pool(|| time_steps(of_model, &recipe, args.n_warmup, args.n_steps, limit, device))?;
    alone.drain(..usize::try_from(args.n_warmup)?.min(alone.len() - 1));
    alone.sort_unstable();
    let alone = alone[alone.len() / 2];
    let slowest = gather(ranks, &alone)?.into_iter().max().unwrap_or(alone);
    let n_steps = n_steps(&recipe, slowest, limit, args.n_steps);
    let TogetherSteps { duration, waited, bytes_sent } =
        time_steps_together(model, &recipe, args.n_warmup, n_steps, device, group)?;
    let all = gather(ranks, &OfRank { alone, together: duration, waited, bytes_sent })?;

    if ranks.scratch_run().is_none() {
        let hosts: BTreeSet<&String> = group.hosts().iter().collect();
        let report = Report::of(&all, hosts.len(), n_steps, recipe.tokens_per_step());
        match args.is_json {
            true => writeln!(io::stdout(), "{}", serde_json::to_string(&report)?)?,
            false => report.print(&mut io::stdout().lock())?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The steps to take together: as many as fit into the time, at least two, in whole synchronisations.
fn n_steps(recipe: &Recipe, step: Duration, limit: Duration, n_max: u64) -> u64 {
    let n_fitting = (limit.as_secs_f64() / step.as_secs_f64().max(1e-9)).min(n_max as f64);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is between 0 and the maximum"
    )]
    let n = (n_fitting as u64).max(2);
    let interval = recipe.run.sync_interval.map_or(1, NonZeroU64::get);
    // The warm-up need not be a multiple of the interval: any such number of steps has as many synchronisations.
    n.next_multiple_of(interval)
}

/// The values of all ranks.
fn gather<T: Serialize + for<'a> Deserialize<'a>>(ranks: &Ranks, own: &T) -> anyhow::Result<Vec<T>> {
    let all = ranks.group().gather(serde_json::to_vec(own)?)?;
    Ok(all.iter().map(|value| serde_json::from_slice(value)).collect::<Result<_, _>>()?)
}

impl Report {
    /// Summarises ranks that took `n_steps` steps together, of `tokens` tokens each.
    fn of(ranks: &[OfRank], n_hosts: usize, n_steps: u64, tokens: u64) -> Self {
        let (n_ranks, n) = (ranks.len(), n_steps as f64);
        let milliseconds = |time: Duration| 1e3 * time.as_secs_f64();
        let alone = || ranks.iter().map(|rank| milliseconds(rank.alone));
        let [slowest, fastest] = [alone().fold(0.0, f64::max), alone().fold(f64::MAX, f64::min)];
        let step = ranks.iter().map(|rank| milliseconds(rank.together)).fold(0.0, f64::max) / n;
        let shares = ranks.iter().map(|rank| rank.waited.as_secs_f64() / rank.together.as_secs_f64());
        Self {
            n_ranks,
            n_hosts,
            tokens,
            alone_milliseconds: [slowest, fastest],
            milliseconds: step,
            steps: n_steps,
            tokens_per_second: 1e3 * (tokens * n_ranks as u64) as f64 / step,
            waiting_share: shares.sum::<f64>() / n_ranks as f64,
            efficiency: slowest / step,
            bytes_sent_per_step: ranks.iter().map(|rank| rank.bytes_sent).max().unwrap_or(0) as f64 / n,
        }
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let [slowest, fastest] = self.alone_milliseconds;
        let ranks = plural(self.n_ranks, "rank");
        writeln!(
            out,
            "alone    {:>9.0} tokens/s   median {slowest:.2} ms on the slowest rank, {fastest:.2} on the fastest",
            1e3 * self.tokens as f64 / slowest
        )?;
        writeln!(
            out,
            "together {:>9.0} tokens/s   mean {:.2} ms for {} on each of {ranks}, {} times",
            self.tokens_per_second,
            self.milliseconds,
            plural(self.tokens, "token"),
            self.steps
        )?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is a number of bytes"
        )]
        let sent = DecimalBytes(self.bytes_sent_per_step.round() as u64);
        writeln!(
            out,
            "         {:>8.0} % efficiency: the slowest step alone, relative to a step together",
            1e2 * self.efficiency
        )?;
        writeln!(out, "         {:>8.1} % waiting for other ranks", 1e2 * self.waiting_share)?;
        writeln!(out, "         {:>9} sent through the host by a rank in a step", sent.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_rank_sets_the_pace() {
        let of = |alone, waited| OfRank {
            alone: Duration::from_millis(alone),
            together: Duration::from_millis(1000),
            waited: Duration::from_millis(waited),
            bytes_sent: 80,
        };
        let report = Report::of(&[of(180, 50), of(150, 250)], 1, 5, 64);
        assert_eq!(
            report,
            Report {
                n_ranks: 2,
                n_hosts: 1,
                tokens: 64,
                alone_milliseconds: [180.0, 150.0],
                milliseconds: 200.0,
                steps: 5,
                tokens_per_second: 640.0,
                waiting_share: 0.15,
                efficiency: 0.9,
                bytes_sent_per_step: 16.0,
            }
        );
        let mut text = Vec::new();
        report.print(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("90 % efficiency") && text.contains("16 B sent"), "{text}");
    }

    #[test]
    fn steps_fit_into_the_time_and_contain_whole_synchronisations() {
        let recipe = |sets: &[&str]| {
            let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
            Recipe::parse(trainer::preset("debug").unwrap(), &sets).unwrap()
        };
        let seconds = Duration::from_secs;
        let each = recipe(&[]);
        assert_eq!(n_steps(&each, seconds(1), seconds(10), 20), 10);
        assert_eq!(n_steps(&each, seconds(1), seconds(30), 20), 20);
        assert_eq!(n_steps(&each, seconds(60), seconds(30), 20), 2);
        assert_eq!(n_steps(&recipe(&["run.sync_interval=4"]), seconds(1), seconds(10), 20), 12);
    }
}
