//! The Hugging Face hub configured by the environment, and the progress of downloads.

use std::{cell::RefCell, env, fs, path::PathBuf};

use console::{progress_bar, report};
use engine::{Download, Hub, Progress, Token};
use indicatif::{HumanBytes, ProgressBar};

/// The hub configured by `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN` and `HF_HUB_OFFLINE`.
pub(crate) fn from_env() -> Hub {
    let home = env::var_os("HF_HOME").map_or_else(default_home, PathBuf::from);
    let file = home.join("token");
    let token = match variable("HF_TOKEN") {
        Some(value) => Some(Token { value, origin: "HF_TOKEN".to_owned() }),
        None => {
            let token = fs::read_to_string(&file).ok().map(|token| token.trim().to_owned());
            let token = token.filter(|token| !token.is_empty());
            token.map(|value| Token { value, origin: file.display().to_string() })
        }
    };
    let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| Hub::ENDPOINT.to_owned());
    Hub {
        endpoint: endpoint.trim_end_matches('/').to_owned(),
        cache: variable("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from),
        token,
        is_offline: is_set("HF_HUB_OFFLINE"),
    }
}

fn default_home() -> PathBuf {
    env::home_dir().unwrap_or_default().join(".cache").join("huggingface")
}

/// An environment variable, if it is set and not blank.
fn variable(name: &str) -> Option<String> {
    let value = env::var(name).ok()?.trim().to_owned();
    (!value.is_empty()).then_some(value)
}

/// Whether a variable is true, with the spellings that `huggingface_hub` accepts.
fn is_set(name: &str) -> bool {
    variable(name).is_some_and(|value| ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str()))
}

/// Prints the name of each downloaded file, and shows a progress bar.
pub(crate) struct DownloadBar(RefCell<ProgressBar>);

impl DownloadBar {
    pub(crate) fn new() -> Self {
        Self(RefCell::new(ProgressBar::hidden()))
    }
}

impl Progress for DownloadBar {
    fn starting(&self, Download { file, repository, size_bytes }: Download<'_>) {
        let size = size_bytes.map_or_else(String::new, |size| format!(" ({})", HumanBytes(size)));
        report(format_args!("downloading {file} of {repository}{size}"));
        self.0.replace(progress_bar("{msg} {bar:24} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left"));
    }

    fn remaining(&self, download: Download<'_>, n_bytes: u64) {
        let bar = self.0.borrow();
        bar.set_length(n_bytes);
        bar.set_position(0);
        bar.set_message(download.file.to_owned());
    }

    fn received(&self, n_bytes: u64) {
        self.0.borrow().inc(n_bytes);
    }

    fn finished(&self) {
        self.0.borrow().finish_and_clear();
    }
}
