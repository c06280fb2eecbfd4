//! Checksums as they are printed.

use sha2::{Digest, Sha256};

use crate::Error;

/// The SHA-256 of `bytes`, as 64 lower-case hexadecimal digits.
///
/// ```
/// let empty = embed::sha256_hex(b"");
/// assert_eq!(empty, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
/// ```
pub fn sha256_hex(bytes: &[u8]) -> String {
    base16ct::lower::encode_string(&Sha256::digest(bytes))
}

/// Fails with [`Error::Checksum`], which names `what`, unless the SHA-256 of `bytes` is `expected`.
pub fn check_sha256(what: &str, bytes: &[u8], expected: &str) -> Result<(), Error> {
    let actual = sha256_hex(bytes);
    if actual == expected {
        Ok(())
    } else {
        Err(Error::Checksum { what: what.to_owned(), expected: expected.to_owned(), actual })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_of_these_bytes_and_no_others() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        check_sha256("abc", b"abc", expected).unwrap();

        let error = check_sha256("vocab.bpe", b"abd", expected).unwrap_err().to_string();
        assert!(error.starts_with("vocab.bpe has the sha256 a52d159f"), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}
