//! Two processes that want one run.

use std::path::Path;

use anyhow::bail;
use rand_chacha::ChaCha8Rng;

use super::ground::{Ground, N_ATTEMPTS};
use super::moment::{Moment, reached};
use super::program::{Ended, Exit, MAX_STEPS, Running};
use super::report::{Failure, Kind, Trial};
use super::run_folder;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    ResumeAtOnce,
    ResumeInMiddle,
    StartInMiddle,
    TwoStarts,
    TwoResumes,
}

const FAULTS: [Fault; 5] =
    [Fault::ResumeAtOnce, Fault::ResumeInMiddle, Fault::StartInMiddle, Fault::TwoStarts, Fault::TwoResumes];

pub(crate) const N_TRIALS: usize = FAULTS.len();

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::ResumeAtOnce => "resume of a run that has just begun",
            Self::ResumeInMiddle => "resume of a run that goes on",
            Self::StartInMiddle => "start of a run that goes on",
            Self::TwoStarts => "two starts at once",
            Self::TwoResumes => "two resumes at once",
        }
    }
}

/// The trial of number `trial_idx`, in an empty folder.
pub(crate) fn attempt(
    ground: &Ground,
    folder: &Path,
    trial_idx: usize,
    _rng: &mut ChaCha8Rng,
) -> anyhow::Result<Trial> {
    let fault = FAULTS[trial_idx % N_TRIALS];
    let run = folder.join("run");
    let program = &ground.program;
    let mut failures = match fault {
        Fault::ResumeAtOnce => second(ground, &run, 1, true)?,
        Fault::ResumeInMiddle => second(ground, &run, MAX_STEPS / 3, true)?,
        Fault::StartInMiddle => second(ground, &run, MAX_STEPS / 3, false)?,
        Fault::TwoStarts => one_of(program.start(&run)?, program.start(&run)?, false)?,
        Fault::TwoResumes => {
            run_folder::copy(ground.half_way()?, &run)?;
            one_of(program.resume(&run)?, program.resume(&run)?, true)?
        }
    };
    failures.extend(ground.differences(&run)?);
    Ok(Trial { fault: fault.name().to_owned(), outcome: "refused".to_owned(), failures })
}

/// A second process comes while the first does `step`.
fn second(ground: &Ground, run: &Path, step: u64, resumes: bool) -> anyhow::Result<Vec<Failure>> {
    for _ in 0..N_ATTEMPTS {
        let mut first = ground.program.start(run)?;
        if reached(Moment::Step(step), &mut first, run)? {
            let id = first.id();
            let second = if resumes { ground.program.resume(run)? } else { ground.program.start(run)? };
            let second = second.wait()?;
            let was_in_time = !first.is_over()?;
            let first = first.wait()?;
            if was_in_time {
                return Ok(judge(&first, &second, resumes.then_some(id)));
            }
        }
        std::fs::remove_dir_all(run)?;
    }
    bail!("the second process was too late {N_ATTEMPTS} times")
}

/// Two processes begin together: one, whichever it is, has to do all of it.
fn one_of(first: Running, second: Running, names_holder: bool) -> anyhow::Result<Vec<Failure>> {
    let ids = [first.id(), second.id()];
    let (first, second) = (first.wait()?, second.wait()?);
    let (winner, loser, id) =
        if first.exit == Exit::Code(0) { (first, second, ids[0]) } else { (second, first, ids[1]) };
    Ok(judge(&winner, &loser, names_holder.then_some(id)))
}

/// The first has to finish, and the second to be refused with the number of the process that holds the run.
fn judge(first: &Ended, second: &Ended, holder: Option<u32>) -> Vec<Failure> {
    let mut failures = Vec::new();
    if first.exit != Exit::Code(0) {
        let text = format!("the process that has the run: {}: {}", first.exit, first.last_words());
        failures.push(Failure::new(Kind::Answer, text));
    }
    failures.extend(Failure::of_error("the second process", second));
    let names = |id: u32| {
        let mut words = second.stderr.split(|letter: char| !letter.is_ascii_digit());
        words.any(|word| word == id.to_string())
    };
    if let Some(id) = holder.filter(|&id| !names(id)) {
        let text = format!("it is not said that process {id} has the run: {}", second.last_words());
        failures.push(Failure::new(Kind::Answer, text));
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_and_told_by_whom() {
        let first = Ended { exit: Exit::Code(0), stderr: String::new() };
        let judged = |code, stderr: &str| {
            judge(&first, &Ended { exit: Exit::Code(code), stderr: stderr.to_owned() }, Some(42)).len()
        };
        assert_eq!(judged(1, "error: process 42 has it\n"), 0);
        assert_eq!(judged(1, "error: process 421 has it\n"), 1);
        assert_eq!(judged(0, "process 42 has it\n"), 1);
        assert_eq!(judged(0, ""), 2);
    }
}
