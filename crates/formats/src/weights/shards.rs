//! Which files hold the weights of a model.

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

/// The names of the file to open, in the order of preference.
const NAMES: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// The tensors of a model, by name, whatever the files they are in.
#[derive(Debug, Clone)]
pub struct Weights {
    path: PathBuf,
    tensors: BTreeMap<String, Tensor>,
}

/// `model.safetensors.index.json`, or the same for pickles.
#[derive(Debug, Deserialize)]
struct Index {
    /// The file of each tensor.
    weight_map: BTreeMap<String, String>,
}

impl Weights {
    /// The file with the weights of the model in a folder, if there is one.
    #[must_use]
    pub fn find(folder: &Path) -> Option<PathBuf> {
        NAMES.into_iter().map(|name| folder.join(name)).find(|path| path.is_file())
    }

    /// Opens a file of weights, or an index of several.
    ///
    /// # Errors
    ///
    /// If it can't be read, is damaged, holds something else than tensors, or its shards are not those of its index.
    pub fn open(path: &Path) -> Result<Self> {
        let tensors =
            if has_extension(path, "json") { shards(path)? } else { tensors(path)?.into_iter().collect() };
        Ok(Self { path: path.to_owned(), tensors })
    }

    /// Opens the dictionary of tensors that a pickle has under a key, among other things.
    ///
    /// # Errors
    ///
    /// As [`Weights::open`].
    pub fn open_under(path: &Path, key: &str) -> Result<Self> {
        let tensors = pytorch::tensors(path, Some(key))?.into_iter().collect();
        Ok(Self { path: path.to_owned(), tensors })
    }

    /// Tensors of a file of another format, by name.
    #[must_use]
    pub fn of(path: &Path, tensors: BTreeMap<String, Tensor>) -> Self {
        Self { path: path.to_owned(), tensors }
    }

    /// The file that was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A tensor.
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

/// The tensors of all shards of an index: those that it names, each in the file where it says.
fn shards(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    refuse_lfs_pointer(path)?;
    let text = fs::read_to_string(path).map_err(io("read", path))?;
    let index: Index =
        serde_json::from_str(&text).map_err(|source| Error::Index { path: path.to_owned(), source })?;
    let files: BTreeSet<&String> = index.weight_map.values().collect();
    let problem = |problem: String| Error::Shards { path: path.to_owned(), problem };
    let mut found = BTreeMap::new();
    for shard in files {
        // A name, and nothing that leads elsewhere.
        let mut parts = Path::new(shard).components();
        if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
            return Err(Error::ShardName { path: path.to_owned(), shard: shard.clone() });
        }
        for (name, tensor) in tensors(&path.with_file_name(shard))? {
            match index.weight_map.get(&name) {
                Some(file) if file == shard => {}
                Some(file) => return Err(problem(format!("{name} is in {shard}, not in {file}"))),
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
        fn what_is_written_is_read(tensors in prop::collection::btree_map(
            "[a-z.]{1,9}", prop::collection::vec(-1e30_f32..1e30, 0..20), 0..6,
        )) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("model.safetensors");
            fs::write(&path, file(&tensors)).unwrap();
            let weights = Weights::open(&path).unwrap();
            prop_assert_eq!(weights.names().count(), tensors.len());
            for (name, numbers) in &tensors {
                prop_assert_eq!(&weights.get(name).unwrap().read().unwrap(), numbers);
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
