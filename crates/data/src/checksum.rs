//! Computes the SHA-256 of files and bytes.

use std::{
    fs::{self, File},
    io::Read,
    path::Path,
};

use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// Returns the size of a file in bytes and its SHA-256 in lower-case hexadecimal digits.
///
/// # Errors
/// [`Error::Io`], also if the path is not a regular file.
pub fn sha256_of_file(path: &Path) -> Result<(u64, String)> {
    // Reading a pipe would block, and some devices never end.
    if !fs::metadata(path).map_err(Error::io("read", path))?.is_file() {
        let source = std::io::Error::other("it is not a regular file");
        return Err(Error::Io { action: "read", path: path.to_owned(), source });
    }
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut bytes = 0;
    loop {
        let n = file.read(&mut buffer).map_err(Error::io("read", path))?;
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
        bytes += n as u64;
    }
    let digits = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((bytes, digits))
}

/// Returns the SHA-256 of the bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}
