//! The weights of a model in one or several files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
};

use serde::Deserialize;

use crate::{
    refuse_lfs_pointer,
    weights::{Error, Result, Tensor, error::io, pytorch, safetensors},
};

/// The file to open in a model folder, by preference.
const NAMES: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// The tensors of a model by name, from one or several files.
#[derive(Debug, Clone)]
pub struct Weights {
    path: PathBuf,
    tensors: BTreeMap<String, Tensor>,
}

/// `model.safetensors.index.json` or `pytorch_model.bin.index.json`.
#[derive(Debug, Deserialize)]
struct Index {
    /// Tensor name to file name.
    weight_map: BTreeMap<String, String>,
}

impl Weights {
    /// Finds the weight file of a model folder.
    #[must_use]
    pub fn find(folder: &Path) -> Option<PathBuf> {
        NAMES.into_iter().map(|name| folder.join(name)).find(|path| path.is_file())
    }

    /// Opens a weight file, or an index of several.
    ///
    /// # Errors
    ///
    /// If a file is unreadable, damaged or has other objects beside tensors, or the shards do not match the index.
    pub fn open(path: &Path) -> Result<Self> {
        let tensors =
            if has_extension(path, "json") { shards(path)? } else { tensors(path)?.into_iter().collect() };
        Ok(Self { path: path.to_owned(), tensors })
    }

    /// Opens the dictionary of tensors under a key of a pickle, for example `model` in nanoGPT's `ckpt.pt`.
    ///
    /// # Errors
    ///
    /// As [`Weights::open`].
    pub fn open_under(path: &Path, key: &str) -> Result<Self> {
        let tensors = pytorch::tensors(path, Some(key))?.into_iter().collect();
        Ok(Self { path: path.to_owned(), tensors })
    }

    /// The tensors of a file in another format, by name.
    #[must_use]
    pub fn from_tensors(path: &Path, tensors: BTreeMap<String, Tensor>) -> Self {
        Self { path: path.to_owned(), tensors }
    }

    /// The opened file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The tensor with a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// All tensors, by name.
    #[must_use]
    pub fn into_tensors(self) -> BTreeMap<String, Tensor> {
        self.tensors
    }
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

fn tensors(path: &Path) -> Result<Vec<(String, Tensor)>> {
    refuse_lfs_pointer(path)?;
    if has_extension(path, "safetensors") { safetensors::tensors(path) } else { pytorch::tensors(path, None) }
}

/// The tensors of all shards. Checks that each is in the file that the index names.
fn shards(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    refuse_lfs_pointer(path)?;
    let text = fs::read_to_string(path).map_err(io("read", path))?;
    let index: Index =
        serde_json::from_str(&text).map_err(|source| Error::Index { path: path.to_owned(), source })?;
    let files: BTreeSet<&String> = index.weight_map.values().collect();
    let problem = |problem: String| Error::Shards { path: path.to_owned(), problem };
    let mut found = BTreeMap::new();
    for shard in files {
        // Only a file name, no path to another folder.
        let mut parts = Path::new(shard).components();
        if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
            return Err(Error::ShardName { path: path.to_owned(), shard: shard.clone() });
        }
        for (name, tensor) in tensors(&path.with_file_name(shard))? {
            match index.weight_map.get(&name) {
                Some(file) if file == shard => {}
                Some(file) => return Err(problem(format!("{name} is in {shard} instead of {file}"))),
                None => return Err(problem(format!("{name} of {shard} is not in the index"))),
            }
            found.insert(name, tensor);
        }
    }
    match index.weight_map.iter().find(|(name, _)| !found.contains_key(*name)) {
        Some((name, file)) => Err(problem(format!("{name} is not in {file}"))),
        None => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use ::safetensors::{Dtype, tensor::TensorView};
    use proptest::prelude::*;

    use super::*;

    fn file(tensors: &BTreeMap<String, Vec<f32>>) -> Vec<u8> {
        let bytes: Vec<_> =
            tensors.iter().map(|(name, x)| (name, x.len(), bytemuck::cast_slice(x))).collect();
        let views = bytes.iter().map(|&(name, len, bytes): &(_, _, &[u8])| {
            (name, TensorView::new(Dtype::F32, vec![len], bytes).unwrap())
        });
        ::safetensors::serialize(views, None).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn a_file_survives_the_round_trip(tensors in prop::collection::btree_map(
            "[a-z.]{1,9}", prop::collection::vec(-1e30_f32..1e30, 0..20), 0..6,
        )) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("model.safetensors");
            fs::write(&path, file(&tensors)).unwrap();
            let weights = Weights::open(&path).unwrap();
            prop_assert_eq!(weights.names().count(), tensors.len());
            for (name, values) in &tensors {
                prop_assert_eq!(&weights.get(name).unwrap().read().unwrap(), values);
            }
        }
    }

    #[test]
    fn shards_of_pickles_are_found() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("pytorch_model.bin.index.json"), r#"{"weight_map": {}}"#).unwrap();
        let path = Weights::find(folder.path()).unwrap();
        assert!(path.ends_with("pytorch_model.bin.index.json"));
        assert_eq!(Weights::open(&path).unwrap().names().count(), 0);
        fs::write(folder.path().join("model.safetensors"), "").unwrap();
        assert!(Weights::find(folder.path()).unwrap().ends_with("model.safetensors"));
    }
}
