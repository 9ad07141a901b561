//! Where the test models are.

use std::path::PathBuf;

/// The root of the repository.
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The bundled model's folder.
pub fn bard() -> PathBuf {
    repository().join("tests/fixtures/models/bard-2m")
}

/// A folder of the house's shared models; `None`, said aloud, where this checkout has none beside it.
pub fn shared(name: &str) -> Option<PathBuf> {
    let folder = repository().join("../shared/models").join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: ../shared/models/{name} is not beside this checkout");
    None
}
