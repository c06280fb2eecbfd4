//! One rank of the tests of `Mpi`, and measurements: `mpirun -n 2 rank CASE TIMEOUT_MS`.

#![expect(clippy::print_stdout, reason = "the tests read the output")]

use std::{
    env,
    error::Error,
    hint::black_box,
    mem, process,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use mpi::{
    collective::SystemOperation,
    traits::{Communicator, CommunicatorCollectives},
};
use nix::time::{ClockId, clock_gettime};
use ranks::{Group, Mpi, Parts, Phase, Precision, Threads, agree};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [case, timeout_ms] = &args[..] else { return Err("usage: rank CASE TIMEOUT_MS".into()) };
    let timeout = Duration::from_millis(timeout_ms.parse()?);
    if case == "plain" {
        return plain();
    }

    let rank = Mpi::start(timeout)?;
    let is_last = rank.index() + 1 == rank.size();
    match &**case {
        "collectives" => compare_with_threads(&rank)?,
        "agreement" => agree(&rank, &[("recipe", "5a"), ("data", if is_last { "77" } else { "3f" })])?,
        "error" if is_last => rank.fail("failed: disk full"),
        "panic" if is_last => panic!("expected by the test"),
        "return" if is_last => return Ok(()),
        "hang" if is_last => thread::park(),
        "slow" if is_last => compute(3 * timeout),
        "signal" => exchange_until_signal(&rank, timeout)?,
        "mean" => measure(&rank)?,
        _ => {}
    }
    rank.barrier()?;
    println!("rank {} of {} finishes", rank.index(), rank.size());
    Ok(rank.finish()?)
}

/// Exchanges for ever. Prints the process when heartbeats have told of the training.
fn exchange_until_signal(rank: &Mpi, timeout: Duration) -> Result<(), ranks::Error> {
    let mut start = Some(Instant::now());
    for step in 0.. {
        rank.progress(step, Phase::Training);
        rank.start_mean(vec![1.0; 1000], Precision::F32).wait()?;
        if start.take_if(|start| start.elapsed() > timeout / 2).is_some() {
            println!("rank {} is process {}", rank.index(), process::id());
        }
    }
    Ok(())
}

fn compute(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        black_box(start);
    }
}

/// Checks that MPI returns the bits that as many threads of this process do.
fn compare_with_threads(rank: &Mpi) -> Result<(), Box<dyn Error>> {
    let threads = Threads::group(rank.size());
    let expected = thread::scope(|scope| {
        let handles: Vec<_> = threads.iter().map(|rank| scope.spawn(|| exercise(rank))).collect();
        let results = handles.into_iter().map(|handle| handle.join().expect("threads exchange"));
        results.collect::<Result<Vec<_>, _>>()
    })?;
    assert!(exercise(rank)? == expected[rank.index()], "the bits differ");
    Ok(())
}

/// All collectives with many lengths, parts and roots; the results as bits.
fn exercise(rank: &dyn Group) -> Result<Vec<Vec<u32>>, ranks::Error> {
    let (index, size) = (rank.index(), rank.size());
    let mut results = Vec::new();
    for precision in [Precision::F32, Precision::Bf16] {
        let lens = [0, 1, 2, 3, 1001, 65_537, 1_000_000];
        // All buckets are in flight at the same time.
        let buckets: Vec<_> = lens.map(|len| rank.start_mean(values(len, index), precision)).into();
        let reduced = lens.iter().map(|&len| {
            let parts = uneven_parts(len, size);
            (rank.start_reduce(values(len, index), &parts, precision), parts)
        });
        let reduced: Vec<_> = reduced.collect();
        for bucket in buckets.into_iter().rev() {
            results.push(bucket.wait()?);
        }
        for (pending, parts) in reduced {
            let owned = pending.wait()?;
            results.push(owned.clone());
            results.push(rank.start_gather(owned, &parts, precision).wait()?);
        }
    }
    let mut results: Vec<Vec<u32>> =
        results.iter().map(|x| x.iter().map(|x| x.to_bits()).collect()).collect();

    for root in 0..size {
        let len = if root == 0 { 100_000 } else { root - 1 };
        let bytes = if index == root { vec![7; len] } else { vec![1; 3] };
        results.push(rank.broadcast(bytes, root)?.into_iter().map(u32::from).collect());
    }
    let all = rank.gather(index.to_string().repeat(1000 * index).into_bytes())?;
    results.extend(all.into_iter().map(|bytes| bytes.into_iter().map(u32::from).collect()));
    Ok(results)
}

/// Values of many magnitudes, so that another order of additions gives other bits.
fn values(len: usize, rank: usize) -> Vec<f32> {
    let mut state = rank as u64 + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bits = (state >> 32) as u32;
        let (sign, exponent, fraction) = (bits >> 31, 118 + (bits >> 27 & 15), bits >> 4 & 0x7f_ffff);
        f32::from_bits(sign << 31 | exponent << 23 | fraction)
    };
    (0..len).map(|_| next()).collect()
}

/// Rank 0 owns both ends; the last of three or more owns nothing; others own the rest.
fn uneven_parts(len: usize, n_ranks: usize) -> Parts {
    let (start, end) = (len / 5, len - len / 3);
    let mut ranges = vec![Vec::new(); n_ranks];
    ranges[0] = vec![end..len, 0..start];
    let owner = 1.min(n_ranks - 1);
    ranges[owner].push(start..end);
    Parts::new(len, ranges)
}

/// The parameters of the presets S and M, and how often each is exchanged.
const LENS: [(usize, usize); 2] = [(800_000, 50), (10_700_000, 10)];

/// Prints the shortest time of `start_mean`, and the least CPU time that the other threads of this process use meanwhile.
/// The least, because other programs disturb a measurement and never help it.
fn measure(rank: &Mpi) -> Result<(), Box<dyn Error>> {
    for precision in [Precision::F32, Precision::Bf16] {
        for (len, n) in LENS {
            let mut values = rank.start_mean(vec![1.0; len], precision).wait()?;
            let mut mean = || -> Result<[f64; 2], ranks::Error> {
                let (wall, cpu, own) = (Instant::now(), process_cpu(), thread_cpu());
                values = rank.start_mean(mem::take(&mut values), precision).wait()?;
                Ok([wall.elapsed(), (process_cpu() - cpu).saturating_sub(thread_cpu() - own)].map(ms))
            };
            let [wall, cpu] = least(n, &mut mean)?;

            // A second thread computes all the time, as the backward pass does.
            let is_done = AtomicBool::new(false);
            let [busy, _] = thread::scope(|scope| {
                scope.spawn(|| {
                    while !is_done.load(Ordering::Relaxed) {
                        compute(Duration::from_micros(100));
                    }
                });
                let least = least(n, &mut mean);
                is_done.store(true, Ordering::Relaxed);
                least
            })?;
            if rank.index() == 0 {
                println!(
                    "{len} {precision:?}: {wall:.2} ms, {cpu:.2} ms of CPU; {busy:.2} ms beside a busy thread"
                );
            }
        }
    }
    // The last rank computes while the others wait, so nothing is in flight there.
    let (cpu, own) = (process_cpu(), thread_cpu());
    if rank.index() + 1 == rank.size() {
        compute(Duration::from_secs(2));
    }
    let used = ms((process_cpu() - cpu).saturating_sub(thread_cpu() - own));
    rank.start_mean(vec![1.0], Precision::F32).wait()?;
    let waited = ms((process_cpu() - cpu).saturating_sub(thread_cpu() - own));
    println!(
        "rank {}: {used:.2} ms of CPU in 2 s of computing, {waited:.2} ms with the wait after it",
        rank.index()
    );
    Ok(())
}

fn least(
    n: usize,
    mut run: impl FnMut() -> Result<[f64; 2], ranks::Error>,
) -> Result<[f64; 2], ranks::Error> {
    (0..n).try_fold([f64::INFINITY; 2], |[wall, cpu], _| {
        let run = run()?;
        Ok([wall.min(run[0]), cpu.min(run[1])])
    })
}

/// Prints the shortest time of `MPI_Allreduce`.
fn plain() -> Result<(), Box<dyn Error>> {
    let universe = mpi::initialize().ok_or("MPI is already initialised")?;
    let world = universe.world();
    for (len, n) in LENS {
        let (send, mut receive) = (vec![1f32; len], vec![0f32; len]);
        let [wall, _] = least(n, || {
            let start = Instant::now();
            world.all_reduce_into(&send[..], &mut receive[..], SystemOperation::sum());
            Ok([ms(start.elapsed()), 0.0])
        })?;
        if world.rank() == 0 {
            println!("{len} MPI_Allreduce: {wall:.2} ms");
        }
    }
    Ok(())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn process_cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

fn thread_cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}
