//! Samples generated during training, and the file that records them, `samples.txt`.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use engine::{Generation, Request, default_prompt};
use model::Gpt;
use sampler::Options;
use tokenizer::Tokenizer;

use crate::Result;

/// Length of a sample during training, in tokens.
pub const SAMPLE_TOKENS: usize = 200;

/// Length of the sample at the end of training, in tokens.
pub const LAST_SAMPLE_TOKENS: usize = 500;

/// Generates a sample without a prompt, with the run's seed, up to the EOS token or `max_tokens`.
///
/// # Errors
///
/// If the logits are not finite, as in a model that diverged.
pub fn sample(model: &Gpt, tokenizer: &Tokenizer, seed: u64, max_tokens: usize) -> Result<String> {
    let stop_tokens = tokenizer.end_of_text().into_iter().collect();
    let options = Options { max_tokens, stop_tokens, seed, ..Options::default() };
    let request = Request::new(default_prompt(tokenizer), options);
    let generation = Generation::begin(model, tokenizer, request)?;
    Ok(generation.map(|piece| piece.map(|piece| piece.text)).collect::<Result<_, engine::Error>>()?)
}

/// Appends samples to a file, each below a heading with its step.
#[derive(Debug)]
pub struct SampleLog {
    file: File,
}

impl SampleLog {
    /// Opens the file for the samples after `step`. Later samples, of an earlier session, are removed.
    ///
    /// # Errors
    ///
    /// If the file can't be read or written.
    pub fn open(path: &Path, step: u64) -> io::Result<Self> {
        if path.exists() {
            let kept = bytes_up_to(&fs::read(path)?, step);
            File::options().write(true).open(path)?.set_len(kept as u64)?;
        }
        let file = File::options().create(true).append(true).open(path)?;
        Ok(Self { file })
    }

    /// Appends one sample.
    ///
    /// # Errors
    ///
    /// If the file can't be written.
    pub fn write(&mut self, step: u64, text: &str) -> io::Result<()> {
        write!(self.file, "--- step {step} ---\n{text}\n\n")
    }
}

/// The last sample that the file has for this step.
pub(crate) fn recorded_sample(path: &Path, step: u64) -> Option<String> {
    let samples = fs::read(path).ok()?;
    let (mut found, mut is_inside) = (None, false);
    for line in samples.split_inclusive(|&byte| byte == b'\n') {
        if let Some(heading) = step_of(line) {
            is_inside = heading == step;
            if is_inside {
                found = Some(Vec::new());
            }
        } else if let Some(text) = found.as_mut().filter(|_| is_inside) {
            text.extend_from_slice(line);
        }
    }
    Some(String::from_utf8_lossy(&found?).trim_end().to_owned())
}

/// The length of the file up to the first sample after `step`.
fn bytes_up_to(samples: &[u8], step: u64) -> usize {
    let mut n_bytes = 0;
    for line in samples.split_inclusive(|&byte| byte == b'\n') {
        if step_of(line).is_some_and(|it| it > step) {
            break;
        }
        n_bytes += line.len();
    }
    n_bytes
}

/// The step in a sample's heading; `None` for other lines.
fn step_of(line: &[u8]) -> Option<u64> {
    str::from_utf8(line).ok()?.trim_end().strip_prefix("--- step ")?.strip_suffix(" ---")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_run_records_each_sample_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("samples.txt");
        let mut log = SampleLog::open(&path, 0).unwrap();
        for step in [5, 10, 15] {
            log.write(step, &format!("Thus, after {step},\n--- he said ---")).unwrap();
        }
        let before = fs::read_to_string(&path).unwrap();

        let mut log = SampleLog::open(&path, 10).unwrap();
        log.write(15, "Thus, after 15,\n--- he said ---").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), before);
        assert_eq!(recorded_sample(&path, 10).unwrap(), "Thus, after 10,\n--- he said ---");
        assert_eq!(recorded_sample(&path, 15).unwrap(), "Thus, after 15,\n--- he said ---");
        assert_eq!(recorded_sample(&path, 11), None);
        drop(SampleLog::open(&path, 15).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), before, "no sample is removed");
        drop(SampleLog::open(&path, 0).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
    }
}
