//! Downloads texts over HTTP.

use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use super::errors::ADVICE;
use crate::files::{persist, temporary_file};
use crate::{Error, OnProgress, Phase, Progress, Result};

/// Timeout for the connection, and for the beginning of the response.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Downloads a URL to `input`.
pub(crate) fn url(url: &str, input: &Path, on_progress: OnProgress<'_>) -> Result<()> {
    let mut file = temporary_file(input, 0)?;
    download(url, &mut file, input, on_progress)?;
    persist(file, input, 0)
}

/// Downloads a URL to `file`, the temporary file of `input`.
pub(super) fn download(
    url: &str,
    file: &mut impl Write,
    input: &Path,
    on_progress: OnProgress<'_>,
) -> Result<()> {
    let failed = |reason: String| Error::Fetch { what: url.into(), reason, advice: ADVICE.into() };
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_connect(Some(TIMEOUT))
        .timeout_recv_response(Some(TIMEOUT))
        .build()
        .into();
    let mut response = agent.get(url).call().map_err(|error| failed(error.to_string()))?;
    let total = response.body().content_length();
    let mut reader = response.body_mut().as_reader();

    let mut buffer = vec![0; 1 << 16];
    let mut done = 0;
    loop {
        let n_read = reader.read(&mut buffer).map_err(|error| failed(error.to_string()))?;
        if n_read == 0 {
            break;
        }
        file.write_all(&buffer[..n_read])
            .map_err(|source| Error::write(input, total.unwrap_or(done), source))?;
        done += n_read as u64;
        on_progress(Progress { phase: Phase::Fetch, done, total });
    }
    match total {
        Some(total) if total != done => {
            Err(failed(format!("the connection closed after {done} of {total} bytes")))
        }
        _ => Ok(()),
    }
}
