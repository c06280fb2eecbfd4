//! Tokenises a text on all cores and writes it as a shard, with a few megabytes of memory.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::Path;

use ::fs::hex;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use tokenizer::Tokenizer;

use crate::chunks::{Chunk, Chunks};
use crate::meta::Part;
use crate::text::Text;
use crate::{Dtype, Error, Result};

/// Chunks per core in a batch: with more than one, cores rarely wait for each other.
const CHUNKS_PER_CORE: usize = 2;

/// Encodes a range of characters into a new file, which is flushed to disk.
///
/// If the tokenizer has `<|endoftext|>`, that token is written between the documents of a folder and in place of each
/// `separator`. Separators do not count as text of the part. `on_bytes` receives the number of bytes of text encoded
/// since the last call. `failed` converts write errors; after an error the file is incomplete.
pub(crate) fn write(
    path: &Path,
    text: &Text,
    characters: Range<u64>,
    tokenizer: &Tokenizer,
    separator: Option<&str>,
    on_bytes: &dyn Fn(u64),
    failed: &dyn Fn(io::Error) -> Error,
) -> Result<Part> {
    let dtype = Dtype::for_vocab(tokenizer.vocab_size());
    let end_of_text = tokenizer.end_of_text();
    let boundary = |text: &str| tokenizer.last_boundary(text);
    let mut chunks = Chunks::new(text, characters, boundary).keep_documents_apart(end_of_text.is_some());
    chunks = chunks.separated_by(separator.filter(|_| end_of_text.is_some()));
    let batch_size = CHUNKS_PER_CORE * rayon::current_num_threads();
    let mut read = || chunks.by_ref().take(batch_size).collect::<Result<Vec<Chunk>>>();

    let mut file = BufWriter::with_capacity(1 << 20, File::create_new(path).map_err(failed)?);
    let mut hasher = Sha256::new();
    let mut part = Part { n_tokens: 0, text_bytes: 0, sha256: String::new() };
    let mut batch = read()?;
    while !batch.is_empty() {
        let encode = |chunk: &Chunk| encode(chunk, text, tokenizer, end_of_text, dtype);
        let (encoded, next) =
            rayon::join(|| batch.par_iter().map(encode).collect::<Result<Vec<_>>>(), &mut read);
        for (chunk, bytes) in batch.iter().zip(encoded?) {
            hasher.update(&bytes);
            file.write_all(&bytes).map_err(failed)?;
            part.n_tokens += (bytes.len() / dtype.size_bytes()) as u64;
            part.text_bytes += chunk.text.len() as u64;
            on_bytes(chunk.text.len() as u64);
        }
        batch = next?;
    }
    file.into_inner().map_err(|error| error.into_error()).and_then(|file| file.sync_all()).map_err(failed)?;
    part.sha256 = hex(&hasher.finalize());
    Ok(part)
}

/// Encodes a chunk as bytes of the shard.
fn encode(
    chunk: &Chunk,
    text: &Text,
    tokenizer: &Tokenizer,
    end_of_text: Option<u32>,
    dtype: Dtype,
) -> Result<Vec<u8>> {
    let ids = tokenizer.encode(&chunk.text).map_err(|source| match source {
        tokenizer::Error::UnknownCharacter { character, offset, .. } => {
            unknown_character(text, character, chunk.offset + offset as u64)
        }
        source => Error::Tokenize { text: text.name.clone(), source },
    })?;
    let before = end_of_text.filter(|_| chunk.follows_document);
    let after = end_of_text.filter(|_| chunk.ends_document);
    let ids = before.into_iter().chain(ids).chain(after);
    Ok(match dtype {
        Dtype::U16 => ids.flat_map(|id| narrow(id).to_le_bytes()).collect(),
        Dtype::U32 => ids.flat_map(u32::to_le_bytes).collect(),
    })
}

fn narrow(id: u32) -> u16 {
    u16::try_from(id).expect("the vocabulary has at most 65,536 tokens")
}

fn unknown_character(text: &Text, character: char, offset: u64) -> Error {
    match text.locate(offset) {
        Ok((text, line)) => Error::UnknownCharacter { text, character, line },
        Err(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tokens;
    use crate::text::Document;

    fn write_failed(error: io::Error) -> Error {
        Error::write(Path::new("shard.bin"), 0, error)
    }

    fn write_all(text: &Text, tokenizer: &Tokenizer) -> (Part, Vec<i32>) {
        write_separated(text, tokenizer, None)
    }

    fn write_separated(text: &Text, tokenizer: &Tokenizer, separator: Option<&str>) -> (Part, Vec<i32>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shard.bin");
        let part = write(&path, text, 0..u64::MAX, tokenizer, separator, &|_| (), &write_failed).unwrap();
        let tokens = Tokens::open(&path, Dtype::for_vocab(tokenizer.vocab_size())).unwrap();
        assert_eq!(tokens.len() as u64, part.n_tokens);
        let mut ids = vec![0; tokens.len()];
        tokens.copy_range(0, &mut ids);
        (part, ids)
    }

    #[test]
    fn a_shard_holds_the_tokens_of_the_text() {
        let (part, ids) =
            write_all(&Text::embedded("test", "γα β"), &Tokenizer::from_chars("αβγ ".chars()).unwrap());
        assert_eq!(ids, [3, 1, 0, 2]);
        assert_eq!(part.text_bytes, 7);
        let bytes: Vec<u8> = [3_u16, 1, 0, 2].into_iter().flat_map(u16::to_le_bytes).collect();
        assert_eq!(part.sha256, ::fs::sha256_hex(&bytes));
    }

    #[test]
    fn a_large_vocabulary_takes_four_bytes() {
        let tokenizer = Tokenizer::from_chars(('\0'..=char::MAX).take(65_537)).unwrap();
        // U+D800 to U+DFFF are not characters.
        let (_, ids) = write_all(&Text::embedded("test", "a\u{10000}\u{10800}"), &tokenizer);
        assert_eq!(ids, [97, 0x10000 - 0x800, 0x10800 - 0x800]);
    }

    #[test]
    fn separators_become_tokens_and_do_not_count_as_text() {
        let text = Text::embedded("test", "one<|endoftext|>two<|endoftext|>");
        let gpt2 = Tokenizer::gpt2();
        let separator = Some(crate::END_OF_TEXT);
        let [one, two] = ["one", "two"].map(|word| gpt2.encode(word).unwrap());
        let expected = [one, vec![50256], two, vec![50256]].concat();
        let (part, ids) = write_separated(&text, &gpt2, separator);
        assert_eq!(ids.into_iter().map(i32::cast_unsigned).collect::<Vec<_>>(), expected);
        assert_eq!(part.text_bytes, 6);
        // It stays plain text if the tokenizer has no such token, or no separator is given.
        let (part, ids) = write_separated(&text, &Tokenizer::byte(), separator);
        assert_eq!((part.text_bytes, ids.len()), (32, 32));
        assert_eq!(write_all(&text, &gpt2).0.text_bytes, 32);
    }

    #[test]
    fn documents_are_separated_by_end_of_text_if_the_tokenizer_has_it() {
        let documents = ["one", "two"].map(Document::Embedded).to_vec();
        let text = Text { name: "test".into(), documents };
        let gpt2 = Tokenizer::gpt2();
        let expected = [gpt2.encode("one\n\n").unwrap(), vec![50256], gpt2.encode("two").unwrap()].concat();
        let (_, ids) = write_all(&text, &gpt2);
        assert_eq!(ids, expected.into_iter().map(u32::cast_signed).collect::<Vec<_>>());

        let (_, ids) = write_all(&text, &Tokenizer::byte());
        assert_eq!(ids, b"one\n\ntwo".map(i32::from));
    }

    #[test]
    fn an_unknown_character_is_named_with_its_document_and_line() {
        let documents = ["one", "two\nthrée"].map(Document::Embedded).to_vec();
        let text = Text { name: "test".into(), documents };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shard.bin");
        let tokenizer = Tokenizer::from_chars("onetwhr\n".chars()).unwrap();
        let error = write(&path, &text, 0..u64::MAX, &tokenizer, None, &|_| (), &write_failed).unwrap_err();
        let Error::UnknownCharacter { character: 'é', line: 2, text } = error else { panic!("{error}") };
        assert_eq!(text, "test");
    }
}
