//! A server with a tiny model, and a runs folder with one run.

use std::{
    fs::OpenOptions,
    io::Write,
    net::Ipv4Addr,
    ops::Range,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use checkpoint::RunFolder;
use engine::Model;
use formats::weights::FloatType;
use kernels::testing::test_device;
use model::GptConfig;
use serve::{ApiKey, Control, Settings};
use tempfile::TempDir;
use tokenizer::{SpecialTokens, Tokenizer};

/// Serves the model `tiny` until it is dropped.
pub(crate) struct Server {
    port: u16,
    control: Control,
    thread: Option<JoinHandle<()>>,
    run: RunFolder,
    _runs: TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(None)
    }

    pub(crate) fn start_with_key(key: &str) -> Self {
        Self::start_with(Some(ApiKey::new(key).unwrap()))
    }

    fn start_with(api_key: Option<ApiKey>) -> Self {
        let runs = tempfile::tempdir().unwrap();
        let model = tiny_model();
        let run = runs.path().join("live");
        let run = RunFolder::create_model(
            &run,
            &model.gpt,
            &model.tokenizer,
            &model.special_tokens,
            FloatType::F32,
        );
        let settings = Settings { api_key, runs: runs.path().to_owned(), ..Settings::default() };
        let listener = serve::listen(Ipv4Addr::LOCALHOST.into(), 0).unwrap();
        let port = listener.local_addr().unwrap().port();
        let control = Control::default();
        let thread = thread::spawn({
            let control = control.clone();
            move || serve::run(settings, vec![("tiny".to_owned(), model)], listener, &control).unwrap()
        });
        Self { port, control, thread: Some(thread), run: run.unwrap(), _runs: runs }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    /// Waits until no request runs.
    pub(crate) fn wait_until_idle(&self) {
        let start = Instant::now();
        while self.control.n_running() > 0 {
            assert!(start.elapsed() < Duration::from_secs(30), "{} requests run", self.control.n_running());
            thread::yield_now();
        }
    }

    /// Appends training losses, as training does. The loss of step 0 is 9.
    pub(crate) fn log_losses(&self, steps: Range<u32>) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.run.metrics_path()).unwrap();
        for step in steps {
            let loss = 9.0 / f64::from(step + 1);
            let line = serde_json::json!({
                "step": step, "split": "train", "loss": loss, "perplexity": f64::exp(loss), "tokens": 1024 * step,
                "elapsed_seconds": step,
            });
            writeln!(file, "{line}").unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.control.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// Generates the letters a to m. Its context is long, so that a generation takes long enough to be stopped.
fn tiny_model() -> Model {
    let config = GptConfig { block_size: 100_000, ..GptConfig::debug() };
    let tokenizer = Tokenizer::from_chars('a'..='m').unwrap();
    let gpt = config.init(7, &test_device()).unwrap();
    Model { gpt, special_tokens: SpecialTokens::of(&tokenizer), tokenizer }
}
