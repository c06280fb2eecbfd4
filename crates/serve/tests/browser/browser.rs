//! A session with a headless browser, in the WebDriver protocol.

use std::{
    env,
    io::{BufRead, BufReader, Write, stderr},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use ureq::Agent;

/// A condition that does not hold by then fails the test.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Keys of WebDriver.
pub(crate) const HOME: &str = "\u{E011}";
pub(crate) const RIGHT: &str = "\u{E014}";
pub(crate) const ESCAPE: &str = "\u{E00C}";

/// A browser with one window. It is closed with this value, also if a test fails.
pub(crate) struct Browser {
    agent: Agent,
    session: String,
    _driver: Driver,
}

/// The process that drives the browser.
struct Driver {
    process: Child,
    url: String,
}

impl Browser {
    /// Starts a browser. `None` if this machine has none and none is required.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(json!({}))
    }

    /// Starts a browser with a touch screen of 360 by 740 pixels.
    pub(crate) fn start_narrow() -> Option<Self> {
        let screen = json!({ "width": 360, "height": 740, "pixelRatio": 1, "touch": true });
        Self::start_with(json!({ "mobileEmulation": { "deviceMetrics": screen } }))
    }

    fn start_with(mut options: Value) -> Option<Self> {
        let browser = ["chromium", "chromium-browser", "google-chrome"].iter().find_map(|name| on_path(name));
        let (Some(browser), Some(driver)) = (browser, on_path("chromedriver")) else {
            let is_required = env::var("KINDLING_REQUIRE_BROWSER").is_ok_and(|value| value == "1");
            assert!(!is_required, "KINDLING_REQUIRE_BROWSER=1 needs chromium and chromedriver on the PATH");
            // Not by a print macro, whose output cargo hides if the test passes.
            stderr()
                .write_all(b"skipping a browser test: chromium or chromedriver is not on the PATH\n")
                .unwrap();
            return None;
        };
        // The sandbox can't start as root, as in containers. The page comes from this process only.
        options["args"] = json!([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--window-size=1280,900"
        ]);
        options["binary"] = json!(browser);
        // The driver then waits for elements.
        let timeouts = json!({ "implicit": TIME_LIMIT.as_millis(), "script": TIME_LIMIT.as_millis() });
        let capabilities = json!({ "alwaysMatch": { "goog:chromeOptions": options, "timeouts": timeouts } });

        let driver = Driver::start(driver);
        let config = Agent::config_builder().http_status_as_error(false).timeout_global(Some(2 * TIME_LIMIT));
        let agent: Agent = config.build().into();
        let body = json!({ "capabilities": capabilities });
        let created = post(&agent, &format!("{}/session", driver.url), &body).unwrap();
        let session = format!("{}/session/{}", driver.url, created["sessionId"].as_str().unwrap());
        Some(Self { agent, session, _driver: driver })
    }

    pub(crate) fn open(&self, url: &str) {
        self.command("url", json!({ "url": url }));
    }

    pub(crate) fn reload(&self) {
        self.command("refresh", json!({}));
    }

    /// Waits for an element that this CSS selector matches.
    pub(crate) fn see(&self, selector: &str) {
        self.find("css selector", selector);
    }

    /// Waits until the text of the element with this id contains `text`.
    pub(crate) fn see_text(&self, id: &str, text: &str) {
        self.find("xpath", &format!("//*[@id='{id}'][contains(., '{text}')]"));
    }

    pub(crate) fn click(&self, selector: &str) {
        let element = self.find("css selector", selector);
        self.command(&format!("element/{element}/click"), json!({}));
    }

    pub(crate) fn type_into(&self, selector: &str, text: &str) {
        let element = self.find("css selector", selector);
        self.command(&format!("element/{element}/value"), json!({ "text": text }));
    }

    /// Replaces the value of an input.
    pub(crate) fn set(&self, selector: &str, value: &str) {
        let element = self.find("css selector", selector);
        self.command(&format!("element/{element}/clear"), json!({}));
        self.type_into(selector, value);
    }

    /// Presses a key, wherever the focus is.
    pub(crate) fn press(&self, key: &str) {
        let strokes = json!([{ "type": "keyDown", "value": key }, { "type": "keyUp", "value": key }]);
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": strokes });
        self.command("actions", json!({ "actions": [keyboard] }));
    }

    /// Runs JavaScript in the page and returns its result.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.command("execute/sync", json!({ "script": script, "args": [] }))
    }

    /// Waits for an element and returns its id.
    fn find(&self, strategy: &str, selector: &str) -> String {
        let query = json!({ "using": strategy, "value": selector });
        let found = post(&self.agent, &format!("{}/element", self.session), &query).unwrap_or_else(|error| {
            panic!(
                "{selector} does not appear: {error}\nThe page shows: {}",
                self.run("return document.body.innerText")
            )
        });
        // The key is the protocol's constant name for elements.
        found.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned()
    }

    fn command(&self, path: &str, body: Value) -> Value {
        post(&self.agent, &format!("{}/{path}", self.session), &body)
            .unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.agent.delete(&self.session).call();
    }
}

impl Driver {
    /// Starts the driver on a free port, which it prints.
    fn start(program: PathBuf) -> Self {
        let mut process = Command::new(program).arg("--port=0").stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            Some(line.unwrap().strip_suffix('.')?.split_once("started successfully on port ")?.1.to_owned())
        });
        let url = format!("http://127.0.0.1:{}", port.expect("chromedriver prints its port"));
        Self { process, url }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The value in the answer to a command, or the driver's message.
fn post(agent: &Agent, url: &str, body: &Value) -> Result<Value, String> {
    let mut response = agent.post(url).send_json(body).unwrap();
    let is_success = response.status().is_success();
    let mut answer: Value = response.body_mut().read_json().unwrap();
    let value = answer["value"].take();
    if is_success { Ok(value) } else { Err(value["message"].as_str().unwrap_or_default().to_owned()) }
}

fn on_path(name: &str) -> Option<PathBuf> {
    let folders = env::var_os("PATH")?;
    env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file())
}
