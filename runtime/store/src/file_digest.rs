//! Digests of whole files, as sources name them and as the manifest records them.

use std::fmt;

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// The SHA-256 of a file, as `sha256sum` writes it.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// What the hub says of a whole file: of one that it keeps apart (LFS) the SHA-256, of one that lies in git its blob's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PromisedDigest {
    Sha256(String),
    GitBlob(String),
}

impl PromisedDigest {
    /// What an ETag of the hub promises. Only that which the hub gives for a file elsewhere (`linked`) is a SHA-256: other places have
    /// hashes of their own as long as it.
    pub(crate) fn named(etag: &str, linked: bool) -> Option<Self> {
        let text = etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"').to_ascii_lowercase();
        let plain = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match (text.len(), linked) {
            (64, true) if plain => Some(Self::Sha256(text)),
            (40, false) if plain => Some(Self::GitBlob(text)),
            _ => None,
        }
    }

    /// Whether `bytes` are the file.
    pub(crate) fn is_of(&self, bytes: &[u8]) -> bool {
        match self {
            Self::Sha256(promised) => *promised == sha256(bytes),
            Self::GitBlob(promised) => {
                let mut hash = Sha1::new();
                hash.update(format!("blob {}\0", bytes.len()));
                hash.update(bytes);
                *promised == hexadecimal(&hash.finalize())
            }
        }
    }
}

impl fmt::Display for PromisedDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(text) => write!(f, "SHA-256 {text}"),
            Self::GitBlob(text) => write!(f, "git blob {text}"),
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hubs_etags_are_told_apart_from_others() {
        let (blob, sha) = ("e69de29bb2d1d6434b8b29ae775ad8c2e48c5391", sha256(b""));
        assert_eq!(sha, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let git = PromisedDigest::named(&format!("\"{blob}\""), false).unwrap();
        let lfs = PromisedDigest::named(&format!("W/\"{}\"", sha.to_uppercase()), true).unwrap();
        for digest in [&git, &lfs] {
            assert!(digest.is_of(b"") && !digest.is_of(b"x"), "{digest}");
        }
        for (etag, linked) in [(blob, true), (&sha, false), ("\"5d41402abc4b2a76b9719d911017c592\"", false), ("", true)]
        {
            assert_eq!(PromisedDigest::named(etag, linked), None, "{etag}");
        }
    }
}
