//! The margins of a run's pairs by the reference model of preference tuning. They are computed once and kept.

use std::{collections::HashMap, fs, io::ErrorKind, path::PathBuf};

use ::fs::atomic;
use safetensors::{Dtype, SafeTensorError, SafeTensors, tensor::TensorView};

use crate::{Error, Result, RunFolder, error::io};

/// The file name.
const REFERENCE: &str = "reference.safetensors";

/// The parts of the data, by their names in the file.
const PARTS: [&str; 2] = ["train", "valid"];

/// The key of the metadata with the checksums of the parts.
const CHECKSUMS: &str = "sha256";

impl RunFolder {
    fn reference_path(&self) -> PathBuf {
        self.path().join(REFERENCE)
    }

    /// Writes a number for each pair of the training and of the validation data, with the checksums of both.
    ///
    /// # Errors
    ///
    /// If the file can't be written.
    pub fn save_reference(&self, parts: [&[f64]; 2], checksums: &[String; 2]) -> Result<()> {
        let path = self.reference_path();
        let bytes = parts.map(|part| part.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
        let view = |idx: usize| TensorView::new(Dtype::F64, vec![parts[idx].len()], &bytes[idx]);
        let failed = |reason: SafeTensorError| Error::Safetensors { path: path.clone(), reason };
        let views = [view(0).map_err(failed)?, view(1).map_err(failed)?];
        // One entry: the order of several in the file would be random.
        let checksums = HashMap::from([(CHECKSUMS.to_owned(), checksums.join(" "))]);
        let file = safetensors::serialize(PARTS.into_iter().zip(views), Some(checksums)).map_err(failed)?;
        Ok(atomic::write_file(&path, &file)?)
    }

    /// The numbers that [`RunFolder::save_reference`] wrote, or `None` if it was not called yet.
    ///
    /// # Errors
    ///
    /// If the file can't be read, or belongs to data with other checksums.
    pub fn load_reference(&self, checksums: &[String; 2]) -> Result<Option<[Vec<f64>; 2]>> {
        let path = self.reference_path();
        let file = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file.map_err(io("read", &path))?,
        };
        let unusable = |reason: String| Error::Reference { path: path.clone(), reason };
        let damaged = |error: SafeTensorError| unusable(format!("it is damaged ({error})"));
        let (_, header) = SafeTensors::read_metadata(&file).map_err(damaged)?;
        let tensors = SafeTensors::deserialize(&file).map_err(damaged)?;
        let found = header.metadata().clone().unwrap_or_default();
        if found.get(CHECKSUMS) != Some(&checksums.join(" ")) {
            return Err(unusable("it belongs to other data".to_owned()));
        }
        let numbers = |part: &str| -> Result<Vec<f64>> {
            let view = tensors.tensor(part).map_err(damaged)?;
            if view.dtype() != Dtype::F64 {
                return Err(unusable(format!("it has numbers of type {:?}, not F64", view.dtype())));
            }
            Ok(view.data().as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect())
        };
        Ok(Some([numbers(PARTS[0])?, numbers(PARTS[1])?]))
    }

    /// The error for numbers that a run has used and that are gone.
    pub fn without_reference(&self) -> Error {
        Error::Reference { path: self.reference_path(), reason: "it is missing".to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(texts: [&str; 2]) -> [String; 2] {
        texts.map(str::to_owned)
    }

    #[test]
    fn numbers_come_back_for_the_same_data_only() {
        let parent = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(&parent.path().join("run")).unwrap();
        let (data, numbers) = (sums(["a", "b"]), [vec![0.1, -3e-9, f64::MAX], vec![1.5]]);
        assert_eq!(folder.load_reference(&data).unwrap(), None);
        folder.save_reference([&numbers[0], &numbers[1]], &data).unwrap();
        assert_eq!(folder.load_reference(&data).unwrap(), Some(numbers));
        let error = folder.load_reference(&sums(["a", "c"])).unwrap_err().to_string();
        assert!(error.contains("reference.safetensors can't be used: it belongs to other data"), "{error}");
        fs::write(folder.reference_path(), b"no").unwrap();
        let error = folder.load_reference(&data).unwrap_err().to_string();
        assert!(error.contains("it is damaged"), "{error}");
    }
}
