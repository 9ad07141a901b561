//! A plan file that is followed: whoever replaces it gives the gateway another plan.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use lime_plan::{PlanInForce, PlanInForceError};
use lime_ring::Transport;
use thiserror::Error;
use tokio::{
    sync::watch,
    task::{JoinError, spawn_blocking},
    time::{MissedTickBehavior, interval},
};

use crate::orders::Orders;

/// How often the file is looked at.
const PERIOD: Duration = Duration::from_secs(1);
/// Longest file that is believed: a ConfigMap holds a MiB.
const LONGEST: u64 = 64 << 20;

/// A plan file that cannot be followed.
#[derive(Debug, Error)]
pub enum PlanFileError {
    /// It cannot be read.
    #[error("the plan {path} cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is too long.
    #[error("the plan {path} has {found} bytes, at most {LONGEST} are believed")]
    Long {
        /// The file.
        path: PathBuf,
        /// Its length.
        found: u64,
    },
    /// It holds something else.
    #[error("{path} holds no plan in force: {source}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: PlanInForceError,
    },
    /// An address of another transport than the gateway's.
    #[error("{path}: the worker of {device:?} is at {uri}, but this gateway speaks {scheme}://")]
    Scheme {
        /// The file.
        path: PathBuf,
        /// The device.
        device: String,
        /// The address.
        uri: String,
        /// What the gateway speaks.
        scheme: &'static str,
    },
}

/// A [`PlanInForce`] in a file that others replace, by a rename or by a symbolic link, as the kubelet does.
#[derive(Debug)]
pub struct PlanFile {
    path: PathBuf,
    scheme: &'static str,
    /// What the file was when it was last read.
    seen: Option<Stamp>,
}

/// What changes when a file is replaced or written: device, inode, length and modification time.
type Stamp = (u64, u64, u64, i64, i64);

impl PlanFile {
    /// Reads the file for the first time; the gateway speaks `transport` to the workers.
    ///
    /// # Errors
    /// When it cannot be followed.
    pub fn open(path: &Path, transport: &Transport) -> Result<(Self, Orders), PlanFileError> {
        let mut file = Self { path: path.to_owned(), scheme: transport.scheme(), seen: None };
        let orders = file.read()?;
        Ok((file, orders))
    }

    /// Looks at the file every second and publishes what it says. What cannot be followed is refused with a line in the log, and
    /// what was published before stays. Ends when nobody listens.
    ///
    /// # Errors
    /// When a look ended with a panic.
    pub async fn follow(mut self, publish: watch::Sender<Orders>) -> Result<(), JoinError> {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut said = String::new();
        while !publish.is_closed() {
            ticks.tick().await;
            let news;
            (self, news) = spawn_blocking(move || {
                let news = self.news();
                (self, news)
            })
            .await?;
            match news {
                Ok(None) => {}
                Ok(Some(orders)) => {
                    said.clear();
                    publish.send_if_modified(|published| {
                        let changed = *published != orders;
                        *published = orders;
                        changed
                    });
                }
                Err(refused) => {
                    let refused = refused.to_string();
                    if refused != said {
                        tracing::warn!("a plan is refused, and the one before stays: {refused}");
                    }
                    said = refused;
                }
            }
        }
        Ok(())
    }

    /// What the file says, if it is another than before.
    fn news(&mut self) -> Result<Option<Orders>, PlanFileError> {
        let before = self.seen;
        if before.is_some() && before == Some(self.stamp()?) { Ok(None) } else { self.read().map(Some) }
    }

    fn stamp(&self) -> Result<Stamp, PlanFileError> {
        let found = fs::metadata(&self.path).map_err(|source| self.unreadable(source))?;
        Ok((found.dev(), found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
    }

    fn read(&mut self) -> Result<Orders, PlanFileError> {
        // Before the text: what is written in between is read again at the next look.
        let stamp = self.stamp()?;
        self.seen = Some(stamp);
        if stamp.2 > LONGEST {
            return Err(PlanFileError::Long { path: self.path.clone(), found: stamp.2 });
        }
        let text = fs::read_to_string(&self.path).map_err(|source| self.unreadable(source))?;
        let path = || self.path.clone();
        let in_force =
            PlanInForce::from_json(&text).map_err(|source| PlanFileError::Content { path: path(), source })?;
        let scheme = self.scheme;
        let spoken = |uri: &str| uri.split_once("://").is_some_and(|(found, _)| found == scheme);
        if let Some((device, uri)) = in_force.workers.iter().find(|(_, uri)| !spoken(uri)) {
            return Err(PlanFileError::Scheme { path: path(), device: device.clone(), uri: uri.clone(), scheme });
        }
        Ok(Orders::of(in_force, PlanInForce::digest(&text)))
    }

    fn unreadable(&self, source: std::io::Error) -> PlanFileError {
        PlanFileError::Read { path: self.path.clone(), source }
    }
}
