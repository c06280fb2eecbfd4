//! Serialisation of paths to JSON: as a string, or as bytes if the path is not valid Unicode.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Deserialize)]
#[serde(untagged)]
enum AnyPath {
    Text(PathBuf),
    /// Serde's form: `{"Unix": [..]}` or `{"Windows": [..]}`.
    Other(OsString),
}

pub(crate) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    match path.to_str() {
        Some(text) => text.serialize(serializer),
        None => path.as_os_str().serialize(serializer),
    }
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    Ok(match AnyPath::deserialize(deserializer)? {
        AnyPath::Text(path) => path,
        AnyPath::Other(path) => path.into(),
    })
}
