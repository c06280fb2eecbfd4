//! A server on a free port, and a client.

use std::net::{Ipv4Addr, SocketAddr};

use engine::Model;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    HeaderMap, Method, Request, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use serve::{Control, Settings};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

pub(crate) const COMPLETIONS: &str = "/v1/completions";
pub(crate) const CHAT: &str = "/v1/chat/completions";

/// A server in this process. It stops when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    pub(crate) control: Control,
}

impl Server {
    /// Serves one model with the default settings.
    pub(crate) async fn of(model: Model) -> Self {
        Self::start(vec![("tiny", model)], Settings::default()).await
    }

    pub(crate) async fn start(models: Vec<(&str, Model)>, settings: Settings) -> Self {
        let models = models.into_iter().map(|(name, model)| (name.to_owned(), model)).collect();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let server = Self { address: listener.local_addr().unwrap(), control: Control::default() };
        let control = server.control.clone();
        tokio::spawn(async move { serve::serve(settings, models, listener, &control).await.unwrap() });
        server
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) async fn request(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: String,
    ) -> Response {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = Connection(tokio::spawn(async move { _ = connection.await }));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.address.to_string())
            .header(header::CONTENT_TYPE, content_type)
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        Response {
            status: head.status,
            headers: head.headers,
            body,
            _sender: sender,
            _connection: connection,
        }
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Response {
        self.request(Method::POST, path, "application/json", body.to_string()).await
    }

    /// The body of a successful response.
    pub(crate) async fn json(&self, path: &str, body: &Value) -> Value {
        let response = self.post(path, body).await;
        let status = response.status;
        let text = response.text().await;
        assert_eq!(status, StatusCode::OK, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The status and the error of a failed request.
    pub(crate) async fn error(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        let response = self.post(path, body).await;
        (response.status, response.error().await)
    }

    /// The events of a stream.
    pub(crate) async fn stream(&self, path: &str, body: &Value) -> Events {
        let response = self.post(path, body).await;
        assert_eq!(response.status, StatusCode::OK);
        assert_eq!(response.headers[header::CONTENT_TYPE], "text/event-stream");
        Events { response, buffer: Vec::new() }
    }

    /// The chunks of a whole stream, which must end with `[DONE]`.
    pub(crate) async fn chunks(&self, path: &str, body: &Value) -> Vec<Value> {
        let mut events = self.stream(path, body).await;
        let mut chunks = Vec::new();
        while let Some(event) = events.next().await {
            if event == "[DONE]" {
                assert_eq!(events.next().await, None, "nothing follows [DONE]");
                return chunks;
            }
            chunks.push(serde_json::from_str(&event).unwrap());
        }
        panic!("the stream ended without [DONE]");
    }

    /// The sum of a metric over all labels.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let text = self.request(Method::GET, "/metrics", "text/plain", String::new()).await.text().await;
        let lines = text.lines().filter(|line| line.split('{').next() == Some(name));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    /// Asks until a metric has this value. Only the limit of the test ends it otherwise.
    pub(crate) async fn wait_for_metric(&self, name: &str, value: u64) {
        while self.metric(name).await != value {
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.control.stop();
    }
}

/// A connection of a client, closed when this is dropped.
#[derive(Debug)]
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Dropping a response closes its connection.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    _sender: http1::SendRequest<Full<Bytes>>,
    _connection: Connection,
}

impl Response {
    pub(crate) async fn text(self) -> String {
        let Self { body, _sender, _connection, .. } = self;
        String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    /// The `error` of the body, which must have OpenAI's form.
    pub(crate) async fn error(self) -> Value {
        let text = self.text().await;
        let body: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text:?} is not JSON"));
        let error = body["error"].clone();
        assert!(error["message"].is_string() && error["type"].is_string(), "{body}");
        assert!(error.get("param").is_some() && error.get("code").is_some(), "{body}");
        error
    }
}

/// The server-sent events of a response.
#[derive(Debug)]
pub(crate) struct Events {
    response: Response,
    buffer: Vec<u8>,
}

impl Events {
    /// The data of the next event.
    pub(crate) async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = self.buffer.drain(..end + 2).collect();
                let event = String::from_utf8(event).expect("an event is UTF-8");
                return Some(event.strip_prefix("data: ").unwrap().trim_end().to_owned());
            }
            let frame = self.response.body.frame().await?.unwrap();
            self.buffer.extend_from_slice(&frame.into_data().unwrap());
        }
    }
}

/// The concatenated texts of completion chunks for a choice.
pub(crate) fn text_of(chunks: &[Value], index: usize) -> String {
    let choices = chunks.iter().flat_map(|chunk| chunk["choices"].as_array().unwrap());
    choices.filter(|choice| choice["index"] == index).map(|choice| choice["text"].as_str().unwrap()).collect()
}
