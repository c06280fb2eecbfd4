//! Asks the hub for a repository, and downloads files of it into the cache.
//!
//! `hf-hub` has the cache, the requests and the downloads, which it resumes. It lacks one commit for all files of a model,
//! work without a network, and the hub's reasons for a refusal.

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

/// The branch that is meant when none is named.
const MAIN: &str = "main";
/// How long connecting to the hub may take, and how long its answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A repository of the hub, at one commit, or the copy of it in the cache.
pub(crate) struct Repository<'a> {
    name: &'a HubName,
    hub: Connection<'a>,
    commit: String,
    files: Vec<RemoteFile>,
    gguf_architecture: Option<String>,
    /// Whether the cache alone was asked.
    is_offline: bool,
}

/// A hub, its cache and whoever asks.
struct Connection<'a> {
    api: Api,
    cache: Cache,
    settings: &'a Hub,
    models: &'a Models,
}

/// What the hub says of a repository.
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

/// What the hub has read from the GGUF files of a repository.
#[derive(Deserialize)]
struct GgufInfo {
    architecture: Option<String>,
}

impl<'a> Repository<'a> {
    /// Asks the hub for a repository. Where there is no hub, it is the copy in the cache.
    ///
    /// # Errors
    ///
    /// If the hub refuses, each reason with its own message, or neither the hub nor the cache can be used.
    pub(crate) fn open(name: &'a HubName, hub: &'a Hub, models: &'a Models) -> Result<Self, HubError> {
        let hub = Connection::new(hub, models)?;
        let endpoint = &hub.settings.endpoint;
        if hub.settings.is_offline {
            return hub.cached(name, "HF_HUB_OFFLINE is set");
        }
        let request = hub.api.repo(repo(name, revision(name))).info_request().query("blobs", "true");
        let request = request.config().http_status_as_error(false);
        let request = request.timeout_connect(Some(PATIENCE)).timeout_recv_response(Some(PATIENCE)).build();
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
            let reason = format!("{endpoint} does not answer at the moment (HTTP status {status})");
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
            "{endpoint} does not answer as the hub does; check HF_ENDPOINT and the network"
        )))?;
        // A path in the cache is made of it.
        if !is_commit(&info.sha) {
            return Err(unavailable!(
                "{endpoint} names {:?} as the commit of {}, which is none",
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

    /// The names of its files, with the folders they are in.
    pub(crate) fn file_names(&self) -> Vec<&str> {
        self.files.iter().map(|file| file.rfilename.as_str()).collect()
    }

    /// The architecture of its GGUF files, where the hub knows it.
    pub(crate) fn gguf_architecture(&self) -> Option<&str> {
        self.gguf_architecture.as_deref()
    }

    /// The path of a small file in the cache, downloaded if it is not there.
    pub(crate) fn fetch(&self, file: &str) -> Result<PathBuf, HubError> {
        let (path, size) = (self.path(file), self.size_of(file));
        if is_whole(&path, size) {
            return Ok(path);
        }
        self.download(file, size, &())
    }

    /// The same of a file of weights, with its progress.
    pub(crate) fn fetch_weights(&self, file: &str, progress: &dyn Progress) -> Result<PathBuf, HubError> {
        let (path, size) = (self.path(file), self.size_of(file));
        if is_whole(&path, size) {
            return Ok(path);
        }
        self.download(file, size, progress)
    }

    /// Has the cache know the commit by the name of its branch or tag, for when there is no network.
    pub(crate) fn remember(&self) -> Result<(), HubError> {
        if self.is_offline {
            return Ok(());
        }
        let named = self.hub.cache.repo(repo(self.name, revision(self.name)));
        named.create_ref(&self.commit).map_err(HubError::failed(self.hub.cannot_write()))
    }

    fn download(&self, file: &str, size: Option<u64>, progress: &dyn Progress) -> Result<PathBuf, HubError> {
        let download = Download { file, repository: &self.name.id, size_bytes: size };
        progress.begins(download);
        let progress = Reported { download, progress };
        let path = self.path(file);
        // It is there with another size.
        remove(&path).map_err(HubError::failed(self.hub.cannot_write()))?;
        let at_commit = self.hub.api.repo(repo(self.name, &self.commit));
        let downloaded = match at_commit.download_with_progress(file, progress) {
            Err(error) if is_bad_part(&error) => self
                .remove_part(&at_commit, file)
                .and_then(|()| at_commit.download_with_progress(file, progress)),
            downloaded => downloaded,
        };
        let downloaded = downloaded.map_err(|error| self.explain(file, error))?;
        if !is_whole(&downloaded, size) {
            remove(&downloaded).map_err(HubError::failed(self.hub.cannot_write()))?;
            return Err(unavailable!(
                "{file} of {} arrived with another size than the hub says, and is removed; run the same command again",
                self.name.id
            ));
        }
        Ok(downloaded)
    }

    /// Removes what an earlier download left of a file, where the library cannot resume it.
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

    /// Why a file that the repository has was not downloaded, and what to do.
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
                "another program is downloading {file} of {id}; wait for it, then run the same command again. It holds {}",
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
                "the download of {file} of {id} broke off; run the same command again to resume it"
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
                "the token in {origin} has spaces or other characters that no token has; copy it again"
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

    /// The copy of a repository in the cache, where the hub cannot be used.
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
            list(&snapshot, "", &mut files);
        }
        if files.is_empty() {
            return Err(unavailable!(
                "there is no file or folder {name}, and {reason}. The cache {} has no copy of it either. To \
                 download it, {}; or name a folder or file of this computer",
                self.cache.path().display(),
                advice_online(self.settings)
            ));
        }
        files.sort();
        let short = commit.get(..8).unwrap_or(&commit);
        tracing::warn!("{reason}; using the copy of {} in the cache, of commit {short}", name.id);
        let files = files.into_iter().map(|rfilename| RemoteFile { rfilename, size: None }).collect();
        Ok(Repository { name, hub: self, commit, files, gguf_architecture: None, is_offline: true })
    }

    /// Why the hub gives no repository of that name.
    fn refusal(&self, name: &HubName, status: u16, code: &str, message: &str) -> HubError {
        let (id, endpoint) = (&name.id, &self.settings.endpoint);
        let is_about_token =
            ["Invalid credentials", "User Access Token"].iter().any(|part| message.contains(part));
        if is_about_token
            && status == 401
            && let Some(Token { origin, .. }) = &self.settings.token
        {
            return unavailable!(
                "{endpoint} does not accept the token in {origin}; make another at {endpoint}/settings/tokens, or remove it"
            );
        }
        match (code, status) {
            ("GatedRepo", _) => unavailable!("{}", self.gated(id)),
            ("RevisionNotFound", _) => unavailable!("{}", self.no_revision(name)),
            ("", 401) => unavailable!("{}", self.no_access(name)),
            ("RepoNotFound", _) | (_, 401 | 404) => unavailable!("{}", self.no_repository(name)),
            _ => unavailable!("{endpoint} refuses {id}: {message} (HTTP status {status})"),
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
            self.meant(name)
        )
    }

    /// What is said of a refusal without a reason, which is the same for all models that not everybody may see.
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
            self.meant(name)
        )
    }

    /// The run or the model that was probably meant.
    fn meant(&self, name: &HubName) -> String {
        let local = self.models.suggestion(Path::new(&name.id));
        if local.is_empty() { self.suggestion(&name.id) } else { local }
    }

    /// The model that was probably meant, by the hub's own search.
    fn suggestion(&self, id: &str) -> String {
        #[derive(Deserialize)]
        struct Found {
            id: String,
        }
        let query = [("search", model_of(id)), ("sort", "downloads"), ("direction", "-1"), ("limit", "20")];
        let found: Vec<Found> = self.ask("api/models", &query).unwrap_or_default();
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
        const SHOWN: usize = 5;
        let refs: Refs = self.ask(&format!("api/models/{}/refs", name.id), &[]).unwrap_or_default();
        let names: Vec<String> = refs.branches.into_iter().chain(refs.tags).map(|known| known.name).collect();
        let known = match names.len() {
            0 => String::new(),
            n if n > SHOWN => format!("; it has {} and {} more", names[..SHOWN].join(", "), n - SHOWN),
            _ => format!("; it has {}", names.join(", ")),
        };
        format!("{} has no branch, tag or commit {}{known}", name.id, revision(name))
    }

    /// What the hub answers to a question that only makes a message better, if it does.
    fn ask<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Option<T> {
        let mut request =
            ureq::get(format!("{}/{path}", self.settings.endpoint)).query_pairs(query.iter().copied());
        if let Some(Token { value, .. }) = &self.settings.token {
            request = request.header("Authorization", format!("Bearer {value}"));
        }
        let request = request.config().timeout_global(Some(PATIENCE)).build();
        request.call().ok()?.body_mut().read_json().ok()
    }

    fn cannot_write(&self) -> String {
        format!("cannot write to the cache {}; set HF_HOME to a folder of yours", self.cache.path().display())
    }
}

/// The progress that the library reports, passed on.
#[derive(Clone, Copy)]
struct Reported<'a> {
    download: Download<'a>,
    progress: &'a dyn Progress,
}

impl api::Progress for Reported<'_> {
    fn init(&mut self, size: usize, _: &str) {
        self.progress.missing(self.download, size as u64);
    }

    fn update(&mut self, size: usize) {
        self.progress.received(size as u64);
    }

    fn finish(&mut self) {
        self.progress.ends();
    }
}

/// How to reach the hub that could not be used.
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

/// Whether a file is there, and of the size that the hub says.
fn is_whole(path: &Path, size: Option<u64>) -> bool {
    fs::metadata(path).is_ok_and(|metadata| size.is_none_or(|size| metadata.len() == size))
}

/// Removes a file of the cache, and the blob it is a link to.
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

/// Whether what an earlier download left is no beginning of the file, or all of it, which the library takes for an error.
fn is_bad_part(error: &ApiError) -> bool {
    match error {
        ApiError::InvalidResume => true,
        ApiError::RequestError(error) => matches!(**error, ureq::Error::StatusCode(416)),
        _ => false,
    }
}

/// The files under a folder, with the folders they are in.
fn list(folder: &Path, prefix: &str, files: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Some(name) = entry.file_name().to_str().map(|name| format!("{prefix}{name}")) else { continue };
        if entry.path().is_dir() {
            list(&entry.path(), &format!("{name}/"), files);
        } else if entry.path().is_file() {
            files.push(name);
        }
    }
}
