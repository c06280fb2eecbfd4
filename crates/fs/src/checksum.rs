//! SHA-256 checksums in hexadecimal.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use sha2::{Digest, Sha256};

/// Bytes read at a time.
const BLOCK_BYTES: usize = 1 << 20;

/// The SHA-256 of some bytes, as 64 lower-case hexadecimal digits.
///
/// ```
/// let empty = fs::sha256_hex(b"");
/// assert_eq!(empty, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
/// ```
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The SHA-256 of a file. `on_bytes` receives the size of each block read.
///
/// # Errors
///
/// If the file can't be read.
pub fn sha256_of_file(path: &Path, mut on_bytes: impl FnMut(u64)) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BLOCK_BYTES];
    loop {
        let n_read = file.read(&mut buffer)?;
        if n_read == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&buffer[..n_read]);
        on_bytes(n_read as u64);
    }
}

/// Encodes bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    base16ct::lower::encode_string(bytes)
}
