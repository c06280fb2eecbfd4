//! Format versions of checkpoints, and conversion from older ones.

use burn_pack::{Bytes, Error, Reader, Tensor, Writer};

/// The current version.
///
/// | version | matrices of linear layers |
/// |--:|---|
/// | 0 | `[in, out]` |
/// | 1 | `[out, in]`, as in PyTorch's `nn.Linear` |
pub(crate) const VERSION: u32 = 1;

/// Path suffixes of the matrices that version 0 stores as `[in, out]`.
const LINEAR: [&str; 4] = [".qkv.weight", ".project.weight", ".expand.weight", ".head.weight"];

/// Converts a record of weights or optimizer state to the current version.
pub(crate) fn updated(record: Vec<u8>, version: u32) -> Result<Vec<u8>, Error> {
    if version >= VERSION {
        return Ok(record);
    }
    let reader = Reader::from_bytes(Bytes::from_bytes_vec(record))?;
    let (scalars, paths) = (reader.scalars().clone(), reader.metadata().clone());
    // A weight is named by its path. The name of optimizer state begins with an id, which the metadata maps to a path.
    let is_linear = |name: &str| {
        let path = name.split_once('.').and_then(|(id, _)| paths.get(id)).map_or(name, String::as_str);
        LINEAR.iter().any(|end| path.ends_with(end))
    };
    let tensors = reader.into_tensors()?.into_iter().map(|tensor| {
        let is_matrix = tensor.shape.num_dims() == 2;
        if is_matrix && is_linear(&tensor.name) { transposed(tensor) } else { Ok(tensor) }
    });
    let writer = Writer::new(tensors.collect::<Result<_, _>>()?);
    let writer = scalars.iter().fold(writer, |writer, (name, value)| writer.with_scalar(name, *value));
    let writer = paths.iter().fold(writer, |writer, (id, path)| writer.with_metadata(id, path));
    Ok(writer.into_bytes()?.to_vec())
}

/// Transposes a matrix.
fn transposed(tensor: Tensor) -> Result<Tensor, Error> {
    let (name, dtype, shape, param_id, bytes) = tensor.into_parts()?;
    let (n_rows, n_cols, size) = (shape[0], shape[1], dtype.size());
    let column = |col: usize| {
        (0..n_rows).flat_map(move |row| {
            let start = (row * n_cols + col) * size;
            start..start + size
        })
    };
    let values: Vec<u8> = (0..n_cols).flat_map(column).map(|idx| bytes[idx]).collect();
    Ok(Tensor::new(name, dtype, [n_cols, n_rows], param_id, Bytes::from_bytes_vec(values)))
}

#[cfg(test)]
mod tests {
    use burn_pack::{DType, Scalar};

    use super::*;

    fn matrix(name: &str, id: u64) -> Tensor {
        let values = [1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0];
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        Tensor::new(name.to_owned(), DType::F32, [2, 3], Some(id), Bytes::from_bytes_vec(bytes))
    }

    fn read(record: Vec<u8>) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        let tensors = Reader::from_bytes(Bytes::from_bytes_vec(record)).unwrap().into_tensors().unwrap();
        let values = |tensor: &Tensor| {
            let bytes = tensor.to_bytes().unwrap();
            bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
        };
        let mut found: Vec<_> =
            tensors.iter().map(|it| (it.name.clone(), it.shape.to_vec(), values(it))).collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }

    #[test]
    fn only_matrices_of_linear_layers_are_transposed() {
        let weights = vec![
            matrix("gpt.token_embedding.weight", 1),
            matrix("gpt.blocks.0.attention.qkv.weight", 2),
            matrix("gpt.head.weight", 3),
        ];
        let record = Writer::new(weights).into_bytes().unwrap().to_vec();
        let (plain, transposed) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        let found = read(updated(record.clone(), 0).unwrap());
        assert_eq!(
            found[0],
            ("gpt.blocks.0.attention.qkv.weight".to_owned(), vec![3, 2], transposed.to_vec())
        );
        assert_eq!(found[1], ("gpt.head.weight".to_owned(), vec![3, 2], transposed.to_vec()));
        assert_eq!(found[2], ("gpt.token_embedding.weight".to_owned(), vec![2, 3], plain.to_vec()));
        assert_eq!(updated(record.clone(), VERSION).unwrap(), record);
    }

    #[test]
    fn the_optimizer_state_of_a_matrix_is_found_by_its_id() {
        let state = vec![matrix("7.momentum.moment_1", 7), matrix("8.mean", 8)];
        let writer = Writer::new(state).with_scalar("7.momentum.time", Scalar::from(3_usize));
        let writer = writer.with_metadata("7", "gpt.token_embedding.weight");
        let record =
            writer.with_metadata("8", "gpt.blocks.1.feed_forward.expand.weight").into_bytes().unwrap();
        let after = updated(record.to_vec(), 0).unwrap();
        let shapes: Vec<_> = read(after.clone()).into_iter().map(|(name, shape, _)| (name, shape)).collect();
        assert_eq!(
            shapes,
            [("7.momentum.moment_1".to_owned(), vec![2, 3]), ("8.mean".to_owned(), vec![3, 2])]
        );
        let reader = Reader::from_bytes(Bytes::from_bytes_vec(after)).unwrap();
        assert_eq!(reader.scalars().len(), 1);
        assert_eq!(reader.metadata().len(), 2);
    }
}
