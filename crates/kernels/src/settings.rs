//! How GPUs are used: `burn.toml`, at the root of the repository.

use std::{
    env,
    path::{Path, PathBuf},
};

use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use serde::Deserialize;

/// The file, without which CubeCL keeps no kernel that it has compiled.
const SHIPPED: &str = include_str!("../../../burn.toml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shipped {
    cubecl: CubeClRuntimeConfig,
}

/// Has GPUs used as our `burn.toml` says, unless there is one where Burn itself looks: in the working directory, or one
/// above.
///
/// It counts if it is called before the first GPU is opened, and changes nothing later.
pub fn use_shipped_settings() {
    if env::current_dir().is_ok_and(|folder| own_settings(&folder).is_some()) {
        return;
    }
    CubeClRuntimeConfig::try_set(shipped().override_from_env());
}

fn shipped() -> CubeClRuntimeConfig {
    let Shipped { cubecl } = toml::from_str(SHIPPED).expect("a test has read it");
    cubecl
}

/// The file that CubeCL would read.
fn own_settings(folder: &Path) -> Option<PathBuf> {
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
    fn the_shipped_settings_are_understood() {
        let settings = shipped();
        assert!(settings.compilation.cache);
        assert!(matches!(settings.environment.path, CacheConfig::Global));
        assert!(matches!(settings.memory.persistent_memory, PersistentMemory::SizeMatch));
    }

    /// CubeCL passes over most keys that it does not know.
    #[test]
    fn every_key_of_the_shipped_settings_is_one_of_cubecls() {
        fn check(written: &Value, understood: &Value, path: &str) {
            let Some(keys) = written.as_object() else { return assert_eq!(written, understood, "{path}") };
            for (key, value) in keys {
                check(value, &understood[key], &format!("{path}.{key}"));
            }
        }
        let written: Value = toml::from_str(SHIPPED).unwrap();
        check(&written["cubecl"], &serde_json::to_value(shipped()).unwrap(), "cubecl");
    }

    #[test]
    fn a_file_of_ones_own_is_found_from_below() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        let own = folder.path().join("a/burn.toml");
        assert_ne!(own_settings(&below), Some(own.clone()));
        fs::write(&own, "").unwrap();
        assert_eq!(own_settings(&below), Some(own));
        let nearer = below.join("cubecl.toml");
        fs::write(&nearer, "").unwrap();
        assert_eq!(own_settings(&below), Some(nearer));
    }
}
