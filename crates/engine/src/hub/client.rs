//! A client of the Hugging Face hub, which downloads files of a repository into the cache.
//!
//! `hf-hub` provides the cache, requests and resumable downloads. This module adds one commit for all files of a model,
//! offline use, and the hub's error messages.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use hf_hub::{
    Cache, Repo, RepoType,
    api::{
        self,
        sync::{Api, ApiBuilder, ApiError, ApiRepo},
    },
};
use serde::{Deserialize, de::DeserializeOwned};

use super::{Download, Hub, HubError, HubName, Progress, Token, error::unavailable, name::model_of};
use crate::{Models, did_you_mean};

/// The default branch.
const MAIN: &str = "main";
/// For connecting to the hub, and for its response.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A repository on the hub at one commit, or its cached copy.
pub(crate) struct Repository<'a> {
    name: &'a HubName,
    hub: Connection<'a>,
    commit: String,
    files: Vec<RemoteFile>,
    gguf_architecture: Option<String>,
    /// Whether this is the cached copy.
    is_offline: bool,
}

/// The hub's API and cache, with the settings of both.
struct Connection<'a> {
    api: Api,
    cache: Cache,
    settings: &'a Hub,
    models: &'a Models,
}

/// The hub's response about a repository.
#[derive(Deserialize)]
struct Info {
    sha: String,
    siblings: Vec<RemoteFile>,
    gguf: Option<GgufInfo>,
}

#[derive(Deserialize)]
struct RemoteFile {
    rfilename: String,
    size: Option<u64>,
}

/// The hub's metadata of the GGUF files of a repository.
#[derive(Deserialize)]
struct GgufInfo {
    architecture: Option<String>,
}

impl<'a> Repository<'a> {
    /// Requests a repository from the hub, or opens its cached copy if the hub is unavailable.
    ///
    /// # Errors
    ///
    /// If the hub rejects the request, with a message for each reason, or neither the hub nor the cache can be used.
    pub(crate) fn open(name: &'a HubName, hub: &'a Hub, models: &'a Models) -> Result<Self, HubError> {
        let hub = Connection::new(hub, models)?;
        let endpoint = &hub.settings.endpoint;
        if hub.settings.is_offline {
            return hub.cached(name, "HF_HUB_OFFLINE is set");
        }
        let request = hub.api.repo(repo(name, revision(name))).info_request().query("blobs", "true");
        let request = request.config().http_status_as_error(false);
        let request = request.timeout_connect(Some(TIMEOUT)).timeout_recv_response(Some(TIMEOUT)).build();
        let mut response = match request.call() {
            Ok(response) => response,
            Err(ureq::Error::BadUri(_) | ureq::Error::Http(_)) => {
                return Err(unavailable!(
                    "HF_ENDPOINT is {:?}, which is not a URL; set it to one such as {}, or unset it",
                    endpoint,
                    Hub::ENDPOINT
                ));
            }
            Err(error) => {
                let reason = format!("{endpoint} cannot be reached ({error})");
                return hub.cached(name, &reason);
            }
        };
        let status = response.status();
        if status.is_server_error() || status.as_u16() == 429 {
            let reason = format!("{endpoint} is unavailable at the moment (HTTP status {status})");
            return hub.cached(name, &reason);
        }
        if !status.is_success() {
            let header = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
            let (code, message) = (header("x-error-code").unwrap_or_default(), header("x-error-message"));
            let message = message.or_else(|| {
                Some(response.body_mut().read_json::<serde_json::Value>().ok()?["error"].to_string())
            });
            return Err(hub.refusal(name, status.as_u16(), &code, &message.unwrap_or_default()));
        }
        let info: Info = response.body_mut().read_json().map_err(HubError::failed(format!(
            "{endpoint} returned an unexpected response; check HF_ENDPOINT and the network"
        )))?;
        // The commit becomes part of a path in the cache.
        if !is_commit(&info.sha) {
            return Err(unavailable!(
                "{endpoint} returned {:?} as the commit of {}, which is not a commit hash",
                info.sha,
                name.id
            ));
        }
        let gguf_architecture = info.gguf.and_then(|gguf| gguf.architecture);
        Ok(Self { name, hub, commit: info.sha, files: info.siblings, gguf_architecture, is_offline: false })
    }

    pub(crate) fn is_offline(&self) -> bool {
        self.is_offline
    }

    /// The paths of its files.
    pub(crate) fn file_names(&self) -> Vec<&str> {
        self.files.iter().map(|file| file.rfilename.as_str()).collect()
    }

    /// The architecture of its GGUF files, if the hub reports it.
    pub(crate) fn gguf_architecture(&self) -> Option<&str> {
        self.gguf_architecture.as_deref()
    }

    /// Downloads a small file unless it is cached, and returns its path in the cache.
    pub(crate) fn fetch(&self, file: &str) -> Result<PathBuf, HubError> {
        let (path, size) = (self.path(file), self.size_of(file));
        if is_complete(&path, size) {
            return Ok(path);
        }
        self.download(file, size, &())
    }

    /// As [`Repository::fetch`], with progress, for a file of weights.
    pub(crate) fn fetch_weights(&self, file: &str, progress: &dyn Progress) -> Result<PathBuf, HubError> {
        let (path, size) = (self.path(file), self.size_of(file));
        if is_complete(&path, size) {
            return Ok(path);
        }
        self.download(file, size, progress)
    }

    /// Saves the commit of the branch or tag in the cache, for offline use.
    pub(crate) fn save_ref(&self) -> Result<(), HubError> {
        if self.is_offline {
            return Ok(());
        }
        let named = self.hub.cache.repo(repo(self.name, revision(self.name)));
        named.create_ref(&self.commit).map_err(HubError::failed(self.hub.cannot_write()))
    }

    fn download(&self, file: &str, size: Option<u64>, progress: &dyn Progress) -> Result<PathBuf, HubError> {
        let download = Download { file, repository: &self.name.id, size_bytes: size };
        progress.starting(download);
        let progress = ProgressAdapter { download, progress };
        let path = self.path(file);
        // An existing file has another size.
        remove(&path).map_err(HubError::failed(self.hub.cannot_write()))?;
        let at_commit = self.hub.api.repo(repo(self.name, &self.commit));
        let downloaded = match at_commit.download_with_progress(file, progress) {
            Err(error) if cannot_resume(&error) => self
                .remove_part(&at_commit, file)
                .and_then(|()| at_commit.download_with_progress(file, progress)),
            downloaded => downloaded,
        };
        let downloaded = downloaded.map_err(|error| self.explain(file, error))?;
        if !is_complete(&downloaded, size) {
            remove(&downloaded).map_err(HubError::failed(self.hub.cannot_write()))?;
            return Err(unavailable!(
                "{file} of {} does not have the size that the hub reports and was removed; run the same command again",
                self.name.id
            ));
        }
        Ok(downloaded)
    }

    /// Removes a partial download that `hf-hub` cannot resume.
    fn remove_part(&self, at_commit: &ApiRepo, file: &str) -> Result<(), ApiError> {
        let metadata = self.hub.api.metadata(&at_commit.url(file))?;
        let blob = self.hub.cache.repo(repo(self.name, &self.commit)).blob_path(metadata.etag());
        Ok(fs::remove_file(blob.with_extension("part"))?)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.hub.cache.repo(repo(self.name, &self.commit)).pointer_path(&self.commit).join(file)
    }

    fn size_of(&self, file: &str) -> Option<u64> {
        self.files.iter().find(|known| known.rfilename == file)?.size
    }

    /// Turns a download error into a message with advice.
    fn explain(&self, file: &str, error: ApiError) -> HubError {
        let id = &self.name.id;
        if let ApiError::RequestError(request) = &error
            && let ureq::Error::StatusCode(status) = **request
        {
            match status {
                401 | 403 => return unavailable!("{}", self.hub.gated(id)),
                404 => {
                    return unavailable!(
                        "{} lists {file} of {id} but does not have it",
                        self.hub.settings.endpoint
                    );
                }
                _ => {}
            }
        }
        match &error {
            ApiError::LockAcquisition(lock) => unavailable!(
                "another program is downloading {file} of {id}; when it has finished, run the same command again (lock: {})",
                lock.display()
            ),
            ApiError::IoError(source) if source.kind() == io::ErrorKind::StorageFull => unavailable!(
                "no room for {file} of {id} in {}; free some space, or set HF_HOME to a folder on another disk",
                self.hub.cache.path().display()
            ),
            ApiError::IoError(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                HubError::failed(self.hub.cannot_write())(error)
            }
            _ => HubError::failed(format!(
                "the download of {file} of {id} was interrupted; run the same command again to resume it"
            ))(error),
        }
    }
}

impl<'a> Connection<'a> {
    fn new(hub: &'a Hub, models: &'a Models) -> Result<Self, HubError> {
        if let Some(Token { value, origin }) = &hub.token
            && !value.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(unavailable!(
                "the token in {origin} contains spaces or other invalid characters; copy it again"
            ));
        }
        let cache = Cache::new(hub.cache.clone());
        let api = ApiBuilder::from_cache(cache.clone())
            .with_endpoint(hub.endpoint.clone())
            .with_token(hub.token.as_ref().map(|token| token.value.clone()))
            .build()
            .map_err(HubError::failed("cannot prepare a connection to the hub".to_owned()))?;
        Ok(Self { api, cache, settings: hub, models })
    }

    /// Opens the cached copy of a repository. `reason` is why the hub is not used.
    fn cached(self, name: &'a HubName, reason: &str) -> Result<Repository<'a>, HubError> {
        let repo = repo(name, revision(name));
        let reference = self.cache.path().join(repo.folder_name()).join("refs").join(revision(name));
        let commit = match fs::read_to_string(reference) {
            Ok(commit) => commit.trim().to_owned(),
            Err(_) => revision(name).to_owned(),
        };
        let snapshot = self.cache.repo(repo).pointer_path(&commit);
        let mut files = Vec::new();
        if is_commit(&commit) {
            list_files(&snapshot, "", &mut files);
        }
        if files.is_empty() {
            return Err(unavailable!(
                "there is no file or folder {name}, and {reason}. The cache {} has no copy of it either. To \
                 download it, {}; or give a local file or folder",
                self.cache.path().display(),
                advice_online(self.settings)
            ));
        }
        files.sort();
        let short = commit.get(..8).unwrap_or(&commit);
        tracing::warn!("{reason}; using the copy of {} in the cache (commit {short})", name.id);
        let files = files.into_iter().map(|rfilename| RemoteFile { rfilename, size: None }).collect();
        Ok(Repository { name, hub: self, commit, files, gguf_architecture: None, is_offline: true })
    }

    /// Turns the hub's error response into a message with advice.
    fn refusal(&self, name: &HubName, status: u16, code: &str, message: &str) -> HubError {
        let (id, endpoint) = (&name.id, &self.settings.endpoint);
        let is_about_token =
            ["Invalid credentials", "User Access Token"].iter().any(|part| message.contains(part));
        if is_about_token
            && status == 401
            && let Some(Token { origin, .. }) = &self.settings.token
        {
            return unavailable!(
                "{endpoint} does not accept the token in {origin}; create a new one at {endpoint}/settings/tokens, or remove it"
            );
        }
        match (code, status) {
            ("GatedRepo", _) => unavailable!("{}", self.gated(id)),
            ("RevisionNotFound", _) => unavailable!("{}", self.no_revision(name)),
            ("", 401) => unavailable!("{}", self.no_access(name)),
            ("RepoNotFound", _) | (_, 401 | 404) => unavailable!("{}", self.no_repository(name)),
            _ => unavailable!("{endpoint} rejected the request for {id}: {message} (HTTP status {status})"),
        }
    }

    fn gated(&self, id: &str) -> String {
        let endpoint = &self.settings.endpoint;
        match &self.settings.token {
            None => format!(
                "{id} is gated. Accept its licence on {endpoint}/{id}, then set HF_TOKEN to a token of your account from \
                 {endpoint}/settings/tokens"
            ),
            Some(Token { origin, .. }) => format!(
                "{id} is gated, and the token in {origin} has no access to it. Accept its licence on {endpoint}/{id} with \
                 the account of that token"
            ),
        }
    }

    fn no_repository(&self, name: &HubName) -> String {
        let private = match &self.settings.token {
            None => ". If it is private, set HF_TOKEN".to_owned(),
            Some(Token { origin, .. }) => {
                format!(". If it is private, the token in {origin} has no access to it")
            }
        };
        format!(
            "there is no file or folder {name}, and {} has no model {}{}{private}",
            self.settings.endpoint,
            name.id,
            self.suggestion(name)
        )
    }

    /// A message for status 401 without an error code, which the hub returns for missing, private and gated models.
    fn no_access(&self, name: &HubName) -> String {
        let (id, endpoint) = (&name.id, &self.settings.endpoint);
        let token = match &self.settings.token {
            None => "set HF_TOKEN to a token with access".to_owned(),
            Some(Token { origin, .. }) => {
                format!("the token in {origin} has no access; set HF_TOKEN to one that has")
            }
        };
        format!(
            "there is no file or folder {name}, and on {endpoint} the model {id} is missing, private or gated{}. If it is \
             private or gated, see {endpoint}/{id} and {token}",
            self.suggestion(name)
        )
    }

    /// A suffix for messages that suggests a run or a model with a similar name.
    fn suggestion(&self, name: &HubName) -> String {
        let local = self.models.suggestion(Path::new(&name.id));
        if local.is_empty() { self.hub_suggestion(&name.id) } else { local }
    }

    /// A suffix for messages that suggests a similar model, found with the hub's search.
    fn hub_suggestion(&self, id: &str) -> String {
        #[derive(Deserialize)]
        struct Found {
            id: String,
        }
        let query = [("search", model_of(id)), ("sort", "downloads"), ("direction", "-1"), ("limit", "20")];
        let found: Vec<Found> = self.query("api/models", &query).unwrap_or_default();
        let ids: Vec<&str> = found.iter().map(|found| found.id.as_str()).collect();
        let same = ids.iter().copied().find(|known| model_of(known).eq_ignore_ascii_case(model_of(id)));
        same.map_or_else(|| did_you_mean(id, ids.iter().copied()), |known| format!("; did you mean {known}?"))
    }

    fn no_revision(&self, name: &HubName) -> String {
        #[derive(Default, Deserialize)]
        struct Refs {
            #[serde(default)]
            branches: Vec<Ref>,
            #[serde(default)]
            tags: Vec<Ref>,
        }
        #[derive(Deserialize)]
        struct Ref {
            name: String,
        }
        const MAX_LISTED: usize = 5;
        let refs: Refs = self.query(&format!("api/models/{}/refs", name.id), &[]).unwrap_or_default();
        let names: Vec<String> = refs.branches.into_iter().chain(refs.tags).map(|known| known.name).collect();
        let known = match names.len() {
            0 => String::new(),
            n if n > MAX_LISTED => {
                format!("; it has {} and {} more", names[..MAX_LISTED].join(", "), n - MAX_LISTED)
            }
            _ => format!("; it has {}", names.join(", ")),
        };
        format!("{} has no branch, tag or commit {}{known}", name.id, revision(name))
    }

    /// The hub's response to a request that only improves a message. `None` on any error.
    fn query<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Option<T> {
        let mut request =
            ureq::get(format!("{}/{path}", self.settings.endpoint)).query_pairs(query.iter().copied());
        if let Some(Token { value, .. }) = &self.settings.token {
            request = request.header("Authorization", format!("Bearer {value}"));
        }
        let request = request.config().timeout_global(Some(TIMEOUT)).build();
        request.call().ok()?.body_mut().read_json().ok()
    }

    fn cannot_write(&self) -> String {
        format!("cannot write to the cache {}; set HF_HOME to a writable folder", self.cache.path().display())
    }
}

/// Passes the progress of `hf-hub` on to a [`Progress`].
#[derive(Clone, Copy)]
struct ProgressAdapter<'a> {
    download: Download<'a>,
    progress: &'a dyn Progress,
}

impl api::Progress for ProgressAdapter<'_> {
    fn init(&mut self, size: usize, _: &str) {
        self.progress.remaining(self.download, size as u64);
    }

    fn update(&mut self, size: usize) {
        self.progress.received(size as u64);
    }

    fn finish(&mut self) {
        self.progress.finished();
    }
}

/// Advice for an unavailable hub.
pub(crate) fn advice_online(hub: &Hub) -> &'static str {
    if hub.is_offline { "unset HF_HUB_OFFLINE" } else { "check the network and HF_ENDPOINT" }
}

fn revision(name: &HubName) -> &str {
    name.revision.as_deref().unwrap_or(MAIN)
}

fn repo(name: &HubName, revision: &str) -> Repo {
    Repo::with_revision(name.id.clone(), RepoType::Model, revision.to_owned())
}

fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a file exists and has the size that the hub reports.
fn is_complete(path: &Path, size: Option<u64>) -> bool {
    fs::metadata(path).is_ok_and(|metadata| size.is_none_or(|size| metadata.len() == size))
}

/// Removes a file of the cache and the blob that it links to.
fn remove(path: &Path) -> io::Result<()> {
    let blob = fs::canonicalize(path);
    for file in [blob.as_deref().unwrap_or(path), path] {
        match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Whether a partial download is not a prefix of the file, or is the whole file, which `hf-hub` treats as an error.
fn cannot_resume(error: &ApiError) -> bool {
    match error {
        ApiError::InvalidResume => true,
        ApiError::RequestError(error) => matches!(**error, ureq::Error::StatusCode(416)),
        _ => false,
    }
}

/// The paths of all files under a folder, relative to it.
fn list_files(folder: &Path, prefix: &str, files: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Some(name) = entry.file_name().to_str().map(|name| format!("{prefix}{name}")) else { continue };
        if entry.path().is_dir() {
            list_files(&entry.path(), &format!("{name}/"), files);
        } else if entry.path().is_file() {
            files.push(name);
        }
    }
}
