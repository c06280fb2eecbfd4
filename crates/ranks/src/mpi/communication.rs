//! The thread that makes every MPI call.

use std::{
    collections::VecDeque,
    fs, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use mpi::{
    Threading, initialize_with_threading,
    topology::{Communicator as _, SimpleCommunicator},
};
use nix::time::{ClockId, clock_gettime};

use super::{
    exchange::{Communicators, Exchange, excess_len, received_len},
    heartbeat::{Beat, Progress, Watch},
    library::{Communicator, Failed, Operation},
};
use crate::{
    Call, Error, Reply,
    call::{Pending, ReplySender},
    group::host_name,
};

/// A request of the rank to its thread.
pub(super) enum Command {
    Start(Call, ReplySender),
    /// Fails all ranks with this message, and replies when the others have been told.
    Fail(String, Sender<()>),
    /// Ends MPI; all ranks have finished.
    Leave(Sender<Result<(), Error>>),
}

/// The ranks of the job.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) index: usize,
    pub(super) hosts: Vec<String>,
}

const BEAT: i32 = 1;
const FAILURE: i32 = 2;

/// How long ranks may take to end by themselves after a failure, before the job is aborted.
const GRACE: Duration = Duration::from_secs(3);

/// Limits of the sleep between polls while an exchange is in flight: a part of the time that nothing has happened, so that a
/// long wait costs little CPU time and a short one is hardly longer. The kernel adds about 50 µs, and a wake-up costs about 30 µs
/// of CPU time.
const PAUSE_MIN: Duration = Duration::from_micros(10);
const PAUSE_MAX: Duration = Duration::from_millis(4);
const PAUSE_DIVISOR: u32 = 32;

/// A poll that uses more CPU time has moved data, and the next will too. One that finds nothing uses up
/// to 30 µs after a sleep. Wall time tells nothing: MPI yields to other processes if there are more ranks than cores.
const IDLE_POLL_MAX: Duration = Duration::from_micros(100);

/// The longest sleep while nothing is in flight.
const PAUSE_IDLE: Duration = Duration::from_millis(250);

/// The most elements that are received at a time, 256 MB of f32, unless one exchange has more. Later exchanges start when earlier
/// ones are complete: a rank that owns a large matrix receives it from each of the others.
const IN_FLIGHT_LEN_MAX: usize = 64 << 20;

/// The longest message about a failure. MPI sends short messages without waiting for the receiver.
const MESSAGE_BYTES_MAX: usize = 1000;

/// Initialises MPI, carries out commands until the rank leaves, and finalises MPI. Aborts the job after a failure.
pub(super) fn serve(
    commands: &Receiver<Command>,
    progress: &Progress,
    timeout: Duration,
    started: &Sender<Result<Job, Error>>,
) {
    let refuse = |reason: &str| {
        let _ = started.send(Err(Error::Start(reason.to_owned()))); // The rank waits for it.
    };
    let Some((_universe, threading)) = initialize_with_threading(Threading::Funneled) else {
        return refuse("it is already initialised");
    };
    if threading == Threading::Single {
        return refuse("this MPI does not support threads (MPI_THREAD_FUNNELED)");
    }
    let world = SimpleCommunicator::world();
    let served = catch_unwind(AssertUnwindSafe(|| {
        let mut thread = Communication::new(&world, progress, timeout);
        match thread.exchange_hosts() {
            Ok(job) => {
                let _ = started.send(Ok(job)); // The rank waits for it.
                thread.run(commands);
            }
            Err(error) => {
                let _ = started.send(Err(Error::Start(error.to_string())));
                thread::sleep(GRACE);
                world.abort(1);
            }
        }
    }));
    if served.is_err() {
        world.abort(1); // The panic hook has printed the message.
    }
}

/// The state of an exchange after a poll.
enum Step {
    Waiting(Exchange),
    /// The second operation has started.
    Started(Exchange),
    Done(Reply),
}

/// Whether the exchanges so far, in the order of the calls, have no first or no last operation that is in progress. MPI makes
/// progress with all operations whenever one is tested, and each test costs system calls. So only the oldest first operation and
/// the oldest last one are tested.
struct Turns {
    first: bool,
    last: bool,
}

/// Advances an exchange. Second operations start in the order of the calls.
fn advance(mut exchange: Exchange, turns: &mut Turns, with: &Communicators) -> Result<Step, Failed> {
    let is_turn = if exchange.has_second() { &mut turns.first } else { &mut turns.last };
    *is_turn = *is_turn && exchange.is_complete()?;
    Ok(match *is_turn {
        false => Step::Waiting(exchange),
        true if exchange.has_second() => Step::Started(exchange.start_second(with)?),
        true => Step::Done(exchange.into_reply(with)),
    })
}

struct InFlight {
    sender: ReplySender,
    exchange: Exchange,
    /// The number of elements that this rank receives.
    len: usize,
}

struct Communication<'a> {
    world: &'a SimpleCommunicator,
    progress: &'a Progress,
    timeout: Duration,
    collectives: Communicators,
    /// Heartbeats and failures.
    messages: Communicator,
    hosts: Vec<String>,
    /// In the order of the calls.
    exchanges: Vec<InFlight>,
    /// Later calls, which have not started.
    queue: VecDeque<(ReplySender, Call)>,
    n_started: u64,
    /// Messages that are being sent.
    sends: Vec<Operation>,
    /// The next rank of the ring; `None` while ranks start and end, and for a rank without others.
    watch: Option<Watch>,
    beat_due: Instant,
    /// The first failure, and when it was noticed.
    failure: Option<(Error, Instant)>,
    /// Waits until the others have been told of the failure.
    told: Option<Sender<()>>,
}

impl<'a> Communication<'a> {
    fn new(world: &'a SimpleCommunicator, progress: &'a Progress, timeout: Duration) -> Self {
        let rank = |rank: i32| usize::try_from(rank).expect("ranks are counted from 0");
        let (index, size) = (rank(world.rank()), rank(world.size()));
        let [first, second, messages] = [(); 3].map(|()| Communicator::duplicate(world));
        Self {
            world,
            progress,
            timeout,
            collectives: Communicators { first, second, index, size },
            messages,
            hosts: vec![host_name(); size],
            exchanges: Vec::new(),
            queue: VecDeque::new(),
            n_started: 0,
            sends: Vec::new(),
            watch: None,
            beat_due: Instant::now(),
            failure: None,
            told: None,
        }
    }

    fn exchange_hosts(&mut self) -> Result<Job, Error> {
        let own = format!("{}\n{}", self.hosts[self.collectives.index], boot_id());
        let hosts = self.exchange_alone(Call::GatherBytes(own.into_bytes()))?;
        if let Reply::AllBytes(hosts) = hosts {
            let hosts: Vec<_> = hosts.iter().map(|host| String::from_utf8_lossy(host).into_owned()).collect();
            self.hosts = distinct_names(&hosts);
        }
        if self.collectives.size > 1 {
            self.watch = Some(Watch::start(self.timeout, Instant::now()));
        }
        Ok(Job { index: self.collectives.index, hosts: self.hosts.clone() })
    }

    /// Carries out a call while the rank sends no commands.
    fn exchange_alone(&mut self, call: Call) -> Result<Reply, Error> {
        let (sender, pending) = Pending::new();
        let started = Instant::now();
        self.start(call, sender);
        while !(self.exchanges.is_empty() && self.queue.is_empty()) {
            if !self.poll() {
                thread::sleep(PAUSE_MAX);
            }
            if started.elapsed() > self.timeout {
                self.fail(self.own_failure(&format!("got no answer from all ranks for {:?}", self.timeout)));
            }
        }
        pending.reply()
    }

    /// Carries out commands until the rank leaves.
    fn run(&mut self, commands: &Receiver<Command>) {
        let mut active = Instant::now();
        loop {
            let before = thread_cpu_time();
            let has_advanced = self.poll();
            let has_moved_data = thread_cpu_time().saturating_sub(before) > IDLE_POLL_MAX;
            if has_advanced || has_moved_data {
                active = Instant::now();
            }
            // Never without a pause: a thread that takes no rest for data of another rank may keep that rank from sending it.
            let pause = match has_moved_data {
                true => PAUSE_MIN,
                false => (active.elapsed() / PAUSE_DIVISOR).clamp(PAUSE_MIN, PAUSE_MAX),
            };
            let mut command = match self.exchanges.is_empty() && self.sends.is_empty() {
                true => commands.recv_timeout(PAUSE_IDLE.min(self.beat_interval())),
                false => commands.recv_timeout(pause),
            };
            if matches!(command, Err(RecvTimeoutError::Disconnected)) {
                thread::sleep(pause); // The rank has failed, and the job is aborted soon.
            }
            while let Ok(received) = command {
                active = Instant::now();
                match received {
                    Command::Start(call, sender) => self.start(call, sender),
                    Command::Fail(message, told) => {
                        self.fail(self.own_failure(&message));
                        self.told = Some(told);
                    }
                    Command::Leave(left) => {
                        let result = self.leave();
                        let has_left = result.is_ok();
                        let _ = left.send(result);
                        if has_left {
                            return;
                        }
                    }
                }
                command = commands.try_recv().map_err(|_| RecvTimeoutError::Timeout);
            }
            self.abort_after_grace();
        }
    }

    /// Whether an exchange has advanced.
    fn poll(&mut self) -> bool {
        let has_advanced = self.advance_exchanges();
        self.start_queued();
        if let Err(failed) = self.watch().and_then(|()| self.receive()) {
            self.fail_call(failed);
        }
        has_advanced
    }

    fn start(&mut self, call: Call, sender: ReplySender) {
        let excess = excess_len(&call, self.collectives.size).map(|len| Error::TooLong { len });
        if let Some(error) = self.failure.as_ref().map(|(error, _)| error.clone()).or(excess) {
            let _ = sender.send(Err(error)); // The rank may have dropped its handle.
            return;
        }
        self.n_started += 1;
        self.queue.push_back((sender, call));
        self.start_queued();
    }

    /// Starts calls in their order, as far as the limit of elements in flight allows.
    fn start_queued(&mut self) {
        while let Some((sender, call)) = self.queue.pop_front() {
            let len = received_len(&call, self.collectives.index);
            let in_flight: usize = self.exchanges.iter().map(|it| it.len).sum();
            if !self.exchanges.is_empty() && in_flight + len > IN_FLIGHT_LEN_MAX {
                self.queue.push_front((sender, call));
                return;
            }
            match Exchange::start(call, &self.collectives) {
                Ok(exchange) => self.exchanges.push(InFlight { sender, exchange, len }),
                Err(failed) => {
                    let error = self.fail_call(failed);
                    let _ = sender.send(Err(error)); // The rank may have dropped its handle.
                }
            }
        }
    }

    /// Whether an operation of an exchange has completed.
    fn advance_exchanges(&mut self) -> bool {
        let mut has_advanced = false;
        let mut turns = Turns { first: true, last: true };
        for InFlight { sender, exchange, len } in mem::take(&mut self.exchanges) {
            if let Some((error, _)) = &self.failure {
                let _ = sender.send(Err(error.clone())); // The rank may have dropped its handle.
                continue;
            }
            match advance(exchange, &mut turns, &self.collectives) {
                Ok(Step::Waiting(exchange)) => self.exchanges.push(InFlight { sender, exchange, len }),
                Ok(Step::Started(exchange)) => {
                    has_advanced = true;
                    self.exchanges.push(InFlight { sender, exchange, len });
                }
                Ok(Step::Done(reply)) => {
                    has_advanced = true;
                    let _ = sender.send(Ok(reply)); // As above.
                }
                Err(failed) => {
                    let error = self.fail_call(failed);
                    let _ = sender.send(Err(error)); // As above.
                }
            }
        }
        has_advanced
    }

    /// Sends a heartbeat if it is due, and checks the next rank.
    fn watch(&mut self) -> Result<(), Failed> {
        for mut send in mem::take(&mut self.sends) {
            if !send.is_complete()? {
                self.sends.push(send);
            }
        }
        if self.sends.is_empty() {
            self.told.take().map(|told| told.send(()));
        }
        let now = Instant::now();
        let Some(watch) = &mut self.watch else { return Ok(()) };
        let problem = watch.problem(self.n_started, now);
        let &Communicators { index, size, .. } = &self.collectives;
        if let Some(message) = problem {
            let rank = (index + 1) % size;
            let error = Error::RankFailed { rank, host: self.hosts[rank].clone(), message };
            self.report(&error);
            self.fail(error);
        } else if now >= self.beat_due && self.sends.is_empty() {
            self.beat_due = now + self.beat_interval();
            let beat = self.progress.beat(self.n_started, cpu_time()).to_bytes();
            self.sends.push(self.messages.send(beat, (index + size - 1) % size, BEAT)?);
        }
        Ok(())
    }

    fn beat_interval(&self) -> Duration {
        (self.timeout / 8).min(Duration::from_secs(1))
    }

    /// Receives heartbeats and failures.
    fn receive(&mut self) -> Result<(), Failed> {
        while let Some(message) = self.messages.receive()? {
            match (message.tag, &mut self.watch) {
                (BEAT, Some(watch)) => {
                    if let Some(beat) = Beat::from_bytes(&message.bytes) {
                        watch.record(beat, Instant::now());
                    }
                }
                (FAILURE, _) if self.failure.is_none() => {
                    let error = self.decode_failure(message.source, &message.bytes);
                    self.end_exchanges(error);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Ends all exchanges with this error, and tells the other ranks. Later failures are consequences of the first.
    fn fail(&mut self, error: Error) {
        if self.failure.is_some() {
            return;
        }
        let &Communicators { index, size, .. } = &self.collectives;
        let bytes = encode_failure(&error);
        for rank in (0..size).filter(|rank| *rank != index) {
            // A rank that can't be told is ended by the abort.
            self.sends.extend(self.messages.send(bytes.clone(), rank, FAILURE));
        }
        self.end_exchanges(error);
    }

    fn end_exchanges(&mut self, error: Error) {
        let in_flight = mem::take(&mut self.exchanges).into_iter().map(|it| it.sender);
        for sender in in_flight.chain(mem::take(&mut self.queue).into_iter().map(|(sender, _)| sender)) {
            let _ = sender.send(Err(error.clone())); // The rank may have dropped its handle.
        }
        self.watch = None;
        self.failure = Some((error, Instant::now()));
    }

    /// The error of a call of this rank that has failed.
    fn fail_call(&mut self, Failed { call, message }: Failed) -> Error {
        let rank = self.collectives.index;
        let error = Error::Mpi { call, rank, host: self.hosts[rank].clone(), message };
        self.fail(error.clone());
        error
    }

    fn own_failure(&self, message: &str) -> Error {
        let rank = self.collectives.index;
        Error::RankFailed { rank, host: self.hosts[rank].clone(), message: message.to_owned() }
    }

    fn decode_failure(&self, source: usize, bytes: &[u8]) -> Error {
        let (rank, message) = bytes.split_first_chunk().unwrap_or((&[0; 8], bytes));
        let rank = usize::try_from(u64::from_le_bytes(*rank)).ok().filter(|rank| *rank < self.hosts.len());
        let rank = rank.unwrap_or(source);
        let message = String::from_utf8_lossy(message).into_owned();
        Error::RankFailed { rank, host: self.hosts[rank].clone(), message }
    }

    /// Waits until no rank sends heartbeats any more.
    fn leave(&mut self) -> Result<(), Error> {
        self.watch = None;
        let until = Instant::now() + self.timeout;
        while !self.sends.is_empty() && self.failure.is_none() && Instant::now() < until {
            if !self.poll() {
                thread::sleep(PAUSE_MAX);
            }
        }
        self.exchange_alone(Call::GatherBytes(Vec::new()))?;
        self.poll();
        Ok(())
    }

    fn abort_after_grace(&self) {
        if let Some((error, since)) = &self.failure
            && since.elapsed() > GRACE.min(self.timeout)
        {
            self.report(error);
            self.world.abort(1);
        }
    }

    #[expect(clippy::print_stderr, reason = "the process is about to be aborted, and logs may be hidden")]
    fn report(&self, error: &Error) {
        let rank = self.collectives.index;
        eprintln!("error: {error}; reported by rank {rank} on {}, all ranks end", self.hosts[rank]);
    }
}

/// An identifier of the running system, which no other machine has; empty if it has none.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// A name for the host of each rank. `hosts` are names and identifiers. Of several machines with one name, all but the first get
/// a number.
fn distinct_names(hosts: &[String]) -> Vec<String> {
    let name = |host: &String| host.split('\n').next().unwrap_or_default().to_owned();
    let name = |idx: usize| {
        let same_name = hosts[..=idx].iter().filter(|host| name(host) == name(&hosts[idx]));
        let machines: Vec<&String> = same_name.fold(Vec::new(), |mut machines, host| {
            if !machines.contains(&host) {
                machines.push(host);
            }
            machines
        });
        let number = machines.iter().position(|host| **host == hosts[idx]).map_or(1, |idx| idx + 1);
        if number == 1 { name(&hosts[idx]) } else { format!("{} ({number})", name(&hosts[idx])) }
    };
    (0..hosts.len()).map(name).collect()
}

/// The rank that has failed and its message.
fn encode_failure(error: &Error) -> Vec<u8> {
    let (rank, message) = match error {
        Error::RankFailed { rank, message, .. } => (*rank, message.clone()),
        Error::Mpi { rank, call, message, .. } => (*rank, format!("failed in {call}: {message}")),
        other => unreachable!("{other} does not fail a rank"),
    };
    let mut bytes = (rank as u64).to_le_bytes().to_vec();
    bytes.extend(&message.as_bytes()[..message.floor_char_boundary(MESSAGE_BYTES_MAX)]);
    bytes
}

/// CPU time of this process without the calling thread.
fn cpu_time() -> Duration {
    read_clock(ClockId::CLOCK_PROCESS_CPUTIME_ID).saturating_sub(thread_cpu_time())
}

fn thread_cpu_time() -> Duration {
    read_clock(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

fn read_clock(clock: ClockId) -> Duration {
    clock_gettime(clock).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_of_one_name_are_told_apart() {
        let hosts = ["pc\n1", "node\n2", "pc\n3", "pc\n1", "pc\n4", "pc\n3"].map(str::to_owned);
        assert_eq!(distinct_names(&hosts), ["pc", "node", "pc (2)", "pc", "pc (3)", "pc (2)"]);
        assert_eq!(distinct_names(&["pc\n".to_owned(), "pc\n".to_owned()]), ["pc", "pc"]);
    }
}
