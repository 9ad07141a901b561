//! What is made of files, made anew when they change; as it was, while what is there makes no sense.

use std::sync::{Arc, Mutex, PoisonError};

use super::{
    error::SecurityError,
    files::{self, Contents, Paths, Stamp},
};

/// Something made of `N` files.
#[derive(Debug)]
pub(super) struct Fresh<T, const N: usize> {
    paths: Paths<N>,
    make: fn(Contents<N>, &Paths<N>) -> Result<T, SecurityError>,
    held: Mutex<Held<T, N>>,
}

#[derive(Debug)]
struct Held<T, const N: usize> {
    /// The files that were looked at last, whether they were taken or not.
    seen: Stamp<N>,
    made: Arc<T>,
}

impl<T, const N: usize> Fresh<T, N> {
    /// Reads the files.
    pub(super) fn open(
        paths: Paths<N>,
        make: fn(Contents<N>, &Paths<N>) -> Result<T, SecurityError>,
    ) -> Result<Self, SecurityError> {
        let (seen, contents) = files::read(&paths);
        let made = make(contents?, &paths)?;
        Ok(Self { paths, make, held: Mutex::new(Held { seen, made: Arc::new(made) }) })
    }

    /// The files as they are now. Costs a `stat` call for each.
    pub(super) fn current(&self) -> Arc<T> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if Stamp::of(&self.paths) != held.seen {
            let (seen, contents) = files::read(&self.paths);
            // Noted even when it makes no sense: one warning for each state of the files, and no second reading.
            held.seen = seen;
            match contents.and_then(|contents| (self.make)(contents, &self.paths)) {
                Ok(made) => {
                    tracing::info!(files = ?self.paths, "new connections use the new certificate");
                    held.made = Arc::new(made);
                }
                Err(error) => {
                    tracing::warn!(%error, "the new certificate is not used: new connections keep the last good one");
                }
            }
        }
        held.made.clone()
    }
}
