//! SHA-256 checksums in hexadecimal.

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

/// Checks that the SHA-256 of `bytes` is `expected`. `name` identifies the data in the error.
///
/// # Errors
///
/// [`Error::Checksum`] if it differs.
pub fn check_sha256(name: &str, bytes: &[u8], expected: &str) -> Result<(), Error> {
    let actual = sha256_hex(bytes);
    if actual == expected {
        Ok(())
    } else {
        Err(Error::Checksum { name: name.to_owned(), expected: expected.to_owned(), actual })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_bytes_fail_the_check() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        check_sha256("abc", b"abc", expected).unwrap();

        let error = check_sha256("vocab.bpe", b"abd", expected).unwrap_err().to_string();
        assert!(error.starts_with("vocab.bpe has SHA-256 a52d159f"), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}
