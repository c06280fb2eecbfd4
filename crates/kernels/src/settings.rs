//! The GPU settings of `burn.toml`, at the root of the repository.

use std::{
    env,
    path::{Path, PathBuf},
};

use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use serde::Deserialize;

/// Without these settings, CubeCL does not cache compiled kernels on disk.
const SHIPPED: &str = include_str!("../../../burn.toml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shipped {
    cubecl: CubeClRuntimeConfig,
}

/// Applies the settings of the built-in `burn.toml`, unless the user has a settings file where Burn looks: in the
/// working directory or one of its parents.
///
/// Call it before the first GPU is opened; later calls have no effect.
pub fn use_shipped_settings() {
    if env::current_dir().is_ok_and(|folder| user_settings(&folder).is_some()) {
        return;
    }
    CubeClRuntimeConfig::try_set(shipped().override_from_env());
}

fn shipped() -> CubeClRuntimeConfig {
    let Shipped { cubecl } = toml::from_str(SHIPPED).expect("a test parses this file");
    cubecl
}

/// The user's settings file, which CubeCL reads.
fn user_settings(folder: &Path) -> Option<PathBuf> {
    let sections = CubeClRuntimeConfig::section_file_names().iter().map(|(name, _)| name);
    let names = || CubeClRuntimeConfig::file_names().iter().chain(sections.clone());
    folder.ancestors().flat_map(|folder| names().map(|name| folder.join(name))).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use cubecl::config::{cache::CacheConfig, memory::PersistentMemory};
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_shipped_settings_are_parsed() {
        let settings = shipped();
        assert!(settings.compilation.cache);
        assert!(matches!(settings.environment.path, CacheConfig::Global));
        assert!(matches!(settings.memory.persistent_memory, PersistentMemory::SizeMatch));
    }

    /// CubeCL ignores most unknown keys.
    #[test]
    fn every_key_of_the_shipped_settings_is_known_to_cubecl() {
        fn check(file: &Value, parsed: &Value, path: &str) {
            let Some(keys) = file.as_object() else { return assert_eq!(file, parsed, "{path}") };
            for (key, value) in keys {
                check(value, &parsed[key], &format!("{path}.{key}"));
            }
        }
        let file: Value = toml::from_str(SHIPPED).unwrap();
        check(&file["cubecl"], &serde_json::to_value(shipped()).unwrap(), "cubecl");
    }

    #[test]
    fn the_users_file_is_found_in_a_parent_folder() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        let own = folder.path().join("a/burn.toml");
        assert_ne!(user_settings(&below), Some(own.clone()));
        fs::write(&own, "").unwrap();
        assert_eq!(user_settings(&below), Some(own));
        let nearer = below.join("cubecl.toml");
        fs::write(&nearer, "").unwrap();
        assert_eq!(user_settings(&below), Some(nearer));
    }
}
