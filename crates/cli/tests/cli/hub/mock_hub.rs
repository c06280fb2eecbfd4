//! A local mock of the Hugging Face hub, with the fields of its answers that kindling reads.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    io::Write,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tiny_http::{Header, Request, Response, Server, StatusCode};

use crate::support::{Ran, kindling, ran};

pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// Who may download the files of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Public,
    /// Everybody may list the files; only the owner of this token may download them.
    Gated(&'static str),
    /// For everybody but the owner of this token, the repository does not exist.
    Private(&'static str),
}

/// A repository. Its first revision is `main`.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    pub(crate) access: Access,
    pub(crate) revisions: Vec<(&'static str, Files)>,
    /// The architecture that the hub reports for its GGUF files.
    pub(crate) architecture: Option<&'static str>,
}

impl From<Files> for Repository {
    fn from(files: Files) -> Self {
        Self { access: Access::Public, revisions: vec![("main", files)], architecture: None }
    }
}

/// A logged request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) token: Option<String>,
    /// The first requested byte; `None` for a probe of one byte.
    pub(crate) start: Option<usize>,
}

#[derive(Default)]
struct State {
    repositories: BTreeMap<String, Repository>,
    seen: Vec<Seen>,
    /// Breaks off the next transfer of this file after this many bytes.
    broken: Option<(&'static str, usize)>,
    /// Answers every request with this status.
    status: Option<u16>,
}

/// The server, with a cache folder of its own.
pub(crate) struct Hub {
    server: Arc<Server>,
    thread: Option<JoinHandle<()>>,
    state: Arc<Mutex<State>>,
    home: TempDir,
}

impl Hub {
    pub(crate) fn new() -> Self {
        let server = Arc::new(Server::http("127.0.0.1:0").unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let (listening, shared) = (server.clone(), state.clone());
        let thread = thread::spawn(move || {
            for request in listening.incoming_requests() {
                shared.lock().unwrap().answer(request);
            }
        });
        Self { server, thread: Some(thread), state, home: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn with(self, id: &str, repository: impl Into<Repository>) -> Self {
        self.put(id, repository);
        self
    }

    pub(crate) fn put(&self, id: &str, repository: impl Into<Repository>) {
        self.state.lock().unwrap().repositories.insert(id.to_owned(), repository.into());
    }

    pub(crate) fn break_off(&self, file: &'static str, after: usize) {
        self.state.lock().unwrap().broken = Some((file, after));
    }

    pub(crate) fn answer_all_with(&self, status: u16) {
        self.state.lock().unwrap().status = Some(status);
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.server.server_addr())
    }

    /// The requests since the last call.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.state.lock().unwrap().seen)
    }

    /// The files downloaded since the last call of [`Hub::seen`], in order.
    pub(crate) fn downloaded(&self) -> Vec<String> {
        let file = |seen: Seen| {
            let (_, file) = seen.path.split_once("/resolve/")?.1.split_once('/')?;
            seen.start.map(|_| file.to_owned())
        };
        self.seen().into_iter().filter_map(file).collect()
    }

    /// `kindling import` with this hub, without environment variables for another hub or a proxy.
    pub(crate) fn command(&self, folder: &Path, args: &[&str]) -> Command {
        let mut command = kindling(folder, &[&["import"], args].concat());
        command.env("HF_ENDPOINT", self.endpoint()).env("HF_HOME", self.home());
        for name in ["HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE"] {
            command.env_remove(name);
        }
        for name in ["http_proxy", "https_proxy", "all_proxy"] {
            command.env_remove(name).env_remove(name.to_uppercase());
        }
        command
    }

    pub(crate) fn import(&self, folder: &Path, args: &[&str]) -> Ran {
        ran(&mut self.command(folder, args))
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.server.unblock();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl State {
    fn answer(&mut self, request: Request) {
        let header = |name: &'static str| {
            let found = request.headers().iter().find(|header| header.field.equiv(name));
            found.map(|header| header.value.as_str().to_owned())
        };
        let token = header("Authorization").and_then(|value| Some(value.strip_prefix("Bearer ")?.to_owned()));
        let range = header("Range").and_then(|value| {
            let (start, end) = value.strip_prefix("bytes=")?.split_once('-')?;
            Some((start.parse().ok()?, end.to_owned()))
        });
        let start = range.as_ref().and_then(|(start, end)| (end != "0").then_some(*start));
        let path = request.url().to_owned();
        self.seen.push(Seen { path: path.clone(), token: token.clone(), start });
        let token = token.as_deref();
        if let Some(status) = self.status {
            return refuse(request, status, "", "");
        }
        match token {
            Some("hf_wrong") => {
                return refuse(request, 401, "", "Invalid credentials in Authorization header");
            }
            Some("hf_expired") => return refuse(request, 401, "", "User Access Token \"mine\" is expired"),
            _ => {}
        }
        let (route, query) = path.split_once('?').unwrap_or((&path, ""));
        if route == "/api/models" {
            let word = query.split('&').find_map(|pair| pair.strip_prefix("search=")).unwrap();
            let ids = self.repositories.keys().filter(|id| id.to_lowercase().contains(&word.to_lowercase()));
            let found: Vec<Value> = ids.map(|id| json!({ "id": id })).collect();
            return send(request, &json!(found));
        }
        let Some((id, rest)) = self.split_id(route) else {
            return refuse(request, 401, "", "Invalid username or password.");
        };
        let repository = self.repositories[&id].clone();
        if matches!(repository.access, Access::Private(owner) if token != Some(owner)) {
            return refuse(request, 401, "RepoNotFound", "Repository not found");
        }
        match rest.split_once('/').unwrap_or((&rest, "")) {
            ("refs", _) => {
                let names = |is_branch: bool| {
                    let names = repository.revisions.iter().map(|(name, _)| *name);
                    let names = names.filter(move |name| (*name == "main") == is_branch);
                    names.map(|name| json!({ "name": name })).collect::<Vec<_>>()
                };
                send(request, &json!({ "branches": names(true), "tags": names(false) }));
            }
            ("revision", revision) => {
                let Some((commit, files)) = find(&id, &repository, revision) else {
                    return refuse(request, 404, "RevisionNotFound", "Invalid rev id");
                };
                let siblings =
                    files.iter().map(|(name, data)| json!({ "rfilename": name, "size": data.len() }));
                let gguf = repository.architecture.map(|name| json!({ "architecture": name }));
                let siblings: Vec<Value> = siblings.collect();
                send(request, &json!({ "id": id, "sha": commit, "siblings": siblings, "gguf": gguf }));
            }
            ("resolve", place) => {
                if matches!(repository.access, Access::Gated(owner) if token != Some(owner)) {
                    let status = if token.is_some() { 403 } else { 401 };
                    return refuse(request, status, "GatedRepo", "Access to this model is restricted.");
                }
                let (revision, file) = place.split_once('/').unwrap();
                let found = find(&id, &repository, revision);
                let Some((commit, data)) = found.and_then(|(commit, files)| Some((commit, files.get(file)?)))
                else {
                    return refuse(request, 404, "EntryNotFound", "Entry not found");
                };
                let (start, end) = range.expect("the library asks for ranges");
                let end = if end.is_empty() { data.len() } else { end.parse::<usize>().unwrap() + 1 };
                if start >= data.len() {
                    return refuse(request, 416, "", "Range not satisfiable");
                }
                match self.broken.take_if(|(broken, _)| *broken == file && end == data.len()) {
                    Some((_, after)) => break_off(request, &data[start..start + after]),
                    None => send_part(request, data, start..end, &commit),
                }
            }
            other => panic!("unknown route: {other:?}"),
        }
    }

    /// Splits a route into the id of an existing repository and the rest: `revision/main`, `resolve/main/config.json`.
    fn split_id(&self, route: &str) -> Option<(String, String)> {
        let route = route.strip_prefix("/api/models/").or(route.strip_prefix('/'))?;
        let known = self.repositories.keys();
        let mut found = known.filter_map(|id| {
            let rest = route.strip_prefix(id.as_str())?.strip_prefix('/')?;
            Some((id.clone(), rest.to_owned()))
        });
        found.next()
    }
}

/// The commit and files of a revision, given by its name or its commit.
fn find<'a>(id: &str, repository: &'a Repository, revision: &str) -> Option<(String, &'a Files)> {
    let revisions = repository.revisions.iter().map(|(name, files)| (*name, commit(id, files), files));
    let mut found =
        revisions.filter(|(name, commit, _)| *name == revision.replace("%2F", "/") || commit == revision);
    found.next().map(|(_, commit, files)| (commit, files))
}

/// A commit hash of 40 hexadecimal digits, by the id and the files.
pub(crate) fn commit(id: &str, files: &Files) -> String {
    format!("{:040x}", hash(&(id, files)))
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn header(name: &str, value: &str) -> Header {
    Header::from_bytes(name, value).unwrap()
}

fn send(request: Request, value: &Value) {
    let _ = request.respond(Response::from_string(value.to_string()));
}

fn refuse(request: Request, status: u16, code: &str, message: &str) {
    let body = json!({ "error": message }).to_string();
    let mut response = Response::from_string(body).with_status_code(status);
    for (name, value) in [("X-Error-Code", code), ("X-Error-Message", message)] {
        if !value.is_empty() {
            response.add_header(header(name, value));
        }
    }
    let _ = request.respond(response);
}

fn send_part(request: Request, data: &[u8], range: std::ops::Range<usize>, commit: &str) {
    let shown = format!("bytes {}-{}/{}", range.start, range.end - 1, data.len());
    let response = Response::from_data(&data[range])
        .with_status_code(StatusCode(206))
        .with_chunked_threshold(usize::MAX)
        .with_header(header("Content-Range", &shown))
        .with_header(header("ETag", &format!("\"{:x}\"", hash(&data))))
        .with_header(header("X-Repo-Commit", commit));
    let _ = request.respond(response);
}

/// Sends some bytes, then an invalid chunk header.
fn break_off(request: Request, data: &[u8]) {
    let mut writer = request.into_writer();
    let head =
        format!("HTTP/1.1 206 Partial Content\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", data.len());
    let _ = writer.write_all(&[head.as_bytes(), data, b"\r\nno length\r\n"].concat());
    let _ = writer.flush();
}
