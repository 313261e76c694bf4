//! The digest of a file or folder that a setting names.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

/// Read at a time.
const PIECE: usize = 1 << 20;

/// SHA-256 (hex) of a file's bytes, or of the names and digests of everything in a folder, sorted.
///
/// # Errors
/// What cannot be read.
pub fn digest_of(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    if path.is_dir() {
        let mut entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let line = format!("{}  {:?}\n", digest_of(&entry.path())?, entry.file_name());
            hash.update(line);
        }
    } else {
        let mut file = File::open(path)?;
        let mut piece = vec![0; PIECE];
        loop {
            match file.read(&mut piece)? {
                0 => break,
                n => hash.update(&piece[..n]),
            }
        }
    }
    Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_and_every_name_counts() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| dir.path().join(name);
        fs::write(at("a"), "abc").expect("writable");
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest_of(&at("a")).expect("readable"), abc);
        let digest = || digest_of(dir.path()).expect("readable");
        let before = digest();
        fs::rename(at("a"), at("b")).expect("renamed");
        assert_ne!(digest(), before);
        fs::rename(at("b"), at("a")).expect("renamed");
        assert_eq!(digest(), before);
        fs::write(at("a"), "abd").expect("writable");
        assert_ne!(digest(), before);
        assert!(digest_of(&at("c")).is_err());
    }
}
