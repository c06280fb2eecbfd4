//! Servers with tiny models, and a client that can send anything.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    thread::{self, JoinHandle},
};

use engine::Model;
use model::GptConfig;
use serde_json::Value;
use serve::{Control, Settings};
use tokenizer::{SpecialTokens, Tokenizer};

/// A server on a free port of this machine. It ends when this is dropped.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) control: Control,
    thread: Option<JoinHandle<serve::Result<()>>>,
}

impl TestServer {
    /// Serves [`tiny_model`] as `tiny`.
    pub(crate) fn start() -> Self {
        Self::with(Settings::default())
    }

    pub(crate) fn with(settings: Settings) -> Self {
        Self::of(settings, vec![("tiny".to_owned(), tiny_model())])
    }

    pub(crate) fn of(settings: Settings, models: Vec<(String, Model)>) -> Self {
        let listener = serve::listen(Ipv4Addr::LOCALHOST.into(), 0).unwrap();
        let address = listener.local_addr().unwrap();
        let control = Control::default();
        let thread = thread::spawn({
            let control = control.clone();
            move || serve::run(settings, models, listener, &control)
        });
        Self { address, control, thread: Some(thread) }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[("Content-Type", "application/json")], &body.to_string())
    }

    /// Sends a request with `Host: localhost`, and these headers.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        self.send_raw(&format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\
             {headers}\r\n{body}"
        ))
    }

    /// Sends these bytes, and reads until the server closes the connection.
    pub(crate) fn send_raw(&self, request: &str) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        Answer::read(&mut stream)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    /// Stops the server and waits for its end.
    pub(crate) fn stop(&mut self) {
        self.control.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.stop();
        }
    }
}

/// A response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn read(stream: &mut TcpStream) -> Self {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("not a response: {text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// The value of a header, named in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The body of a successful response.
    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        self.json()
    }

    /// The message of an error in OpenAI's form.
    #[track_caller]
    pub(crate) fn error(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.body);
        let body = self.json();
        assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
        let error = body["error"].as_object().unwrap();
        let keys: BTreeSet<&str> = error.keys().map(String::as_str).collect();
        assert_eq!(keys, BTreeSet::from(["code", "message", "param", "type"]), "{body}");
        assert!(error["type"].is_string(), "{body}");
        error["message"].as_str().unwrap().to_owned()
    }
}

/// A model of bytes with a context of 4096 tokens, and random weights.
pub(crate) fn tiny_model() -> Model {
    with_tokenizer(Tokenizer::byte(), SpecialTokens::default())
}

pub(crate) fn with_tokenizer(tokenizer: Tokenizer, special_tokens: SpecialTokens) -> Model {
    let config = GptConfig { vocab_size: tokenizer.vocab_size(), block_size: 4096, ..GptConfig::debug() };
    Model { gpt: config.init(1, &kernels::testing::test_device()).unwrap(), tokenizer, special_tokens }
}
