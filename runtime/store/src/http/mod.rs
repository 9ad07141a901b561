//! Models on web servers: the Hugging Face hub, servers that speak as it does, and plain folders of files.

mod answer;
mod client;
mod fault;
mod listing;
pub(crate) mod options;
mod trouble;
mod url;

use std::{
    collections::{BTreeMap, hash_map::RandomState},
    hash::BuildHasher as _,
    io::Read as _,
    sync::{Mutex, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

use lime_backoff::Backoff;

pub use options::RemoteOptions;

use crate::{
    error::{RemoteCause, StoreError},
    file_digest::PromisedDigest,
    http::{
        answer::{check_part, refusal},
        client::{Answer, Ask, Client, Want},
        fault::Fault,
        listing::Listing,
        trouble::{Tries, Trouble},
    },
    offers::Listed,
    origin::{Origin, OriginFile, Sink},
};

const BUFFER: usize = 256 << 10;
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Fewer bytes than this in the time for which a silent connection is kept are next to nothing. An attempt that got so far made headway.
const LEAST: u64 = 32 << 10;

/// How the files of a model are addressed.
enum Place {
    /// `ENDPOINT/ORG/NAME/resolve/REVISION/[FOLDER/]FILE`.
    Hub { repository: String, revision: String, folder: String, probe: String },
    /// `FOLDER/FILE`.
    Folder(String),
}

/// A model on a web server.
pub(crate) struct HttpOrigin {
    client: Client,
    options: RemoteOptions,
    place: Place,
    /// The commit that the revision stands for, once it was asked for: from then on all is asked of that commit.
    commit: OnceLock<String>,
    /// What the hub says that whole files hash to.
    promised: Mutex<BTreeMap<String, PromisedDigest>>,
    trouble: Trouble,
}

impl HttpOrigin {
    pub(crate) fn hub(repository: &str, revision: &str, options: RemoteOptions) -> Result<Self, StoreError> {
        let client = Client::new(&options, options.token_for_endpoint())?;
        let (repository, revision) = (repository.to_owned(), revision.to_owned());
        let place = Place::Hub { repository, revision, folder: String::new(), probe: "config.json".into() };
        Ok(Self::at(place, client, options))
    }

    /// The same repository, of which the files in `folder` are the model's, that of the name `probe` one of them.
    pub(crate) fn within(self, folder: &str, probe: &str) -> Self {
        let place = match self.place {
            Place::Hub { repository, revision, .. } => {
                Place::Hub { repository, revision, folder: folder.to_owned(), probe: probe.to_owned() }
            }
            other => other,
        };
        Self { place, ..self }
    }

    pub(crate) fn folder(url: &str, options: RemoteOptions) -> Result<Self, StoreError> {
        let client = Client::new(&options, None)?;
        Ok(Self::at(Place::Folder(url.to_owned()), client, options))
    }

    fn at(place: Place, client: Client, options: RemoteOptions) -> Self {
        let (commit, promised, trouble) = (OnceLock::new(), Mutex::default(), Trouble::default());
        Self { client, options, place, commit, promised, trouble }
    }

    fn url(&self, file: &str) -> String {
        match &self.place {
            Place::Hub { repository, revision, folder, .. } => {
                let revision = self.commit.get().unwrap_or(revision).replace('/', "%2F");
                let between = if folder.is_empty() { "" } else { "/" };
                format!("{}/{repository}/resolve/{revision}/{folder}{between}{file}", self.options.endpoint)
            }
            Place::Folder(url) => format!("{url}/{file}"),
        }
    }

    /// Tries until something other than a passing fault comes of it, or there is too much trouble. An attempt that got further than those
    /// before it starts the count anew.
    fn retry<T>(&self, mut attempt: impl FnMut() -> Result<T, Failed>) -> Result<T, StoreError> {
        let (mut tries, mut headway) = (Tries::default(), Instant::now());
        loop {
            self.trouble.asked();
            let failed = match attempt() {
                Ok(value) => return Ok(value),
                Err(failed) => failed,
            };
            let (url, reason, wait) = match failed.fault {
                Fault::Final(fault) => return Err(fault),
                Fault::Passing { url, reason, wait } => (url, reason, wait),
            };
            if failed.got_further {
                headway = Instant::now();
            }
            let idle = headway.elapsed();
            if let Some(trouble) = self.trouble.too_much(&mut tries, failed.got_further, idle, &self.options) {
                let reason = format!("{reason}; {trouble}; what is there is kept, try again later");
                return Err(StoreError::Remote { url, reason, cause: RemoteCause::Trouble });
            }
            let pause = wait.unwrap_or_else(|| self.pause(tries.failures)).min(LONGEST_PAUSE);
            tracing::warn!(url, reason, ?pause, failures = tries.failures, "the source is asked again");
            thread::sleep(pause);
        }
    }

    /// Twice as long each time, and never as long as another's, so that many devices do not come back at once.
    fn pause(&self, failures: u32) -> Duration {
        let whole = Backoff::doubling(self.options.pause, LONGEST_PAUSE).after(failures);
        let random = (RandomState::new().hash_one(failures) % 512) as u32;
        whole * (512 + random) / 1024
    }

    fn head(&self, file: &str) -> Result<Option<Answer>, StoreError> {
        self.retry(|| {
            let answer = self.client.send(&Ask::head(self.url(file)))?;
            match answer.status {
                200..=399 => Ok(Some(answer)),
                404 | 410 if answer.is_missing_file() => Ok(None),
                _ => Err(refusal(&answer).into()),
            }
        })
    }

    /// One request's worth of `file` from `from` on; says how far it came even when it fails.
    fn part(&self, file: &OriginFile, want: Want, sink: Sink<'_>, done: &mut u64) -> Result<(), Fault> {
        let answer = self.client.send(&Ask::part(self.url(&file.name), want, file))?;
        check_part(&answer, want, file)?;
        let mut body = answer.body.into_reader();
        let (mut buffer, mut left) = (vec![0; BUFFER], want.bytes);
        let (mut since, mut before) = (Instant::now(), left);
        while left > 0 {
            if since.elapsed() >= self.options.patience {
                let came = before - left;
                if came < LEAST {
                    let reason = format!("only {came} bytes in {:?}, {left} are missing", self.options.patience);
                    return Err(Fault::Passing { url: answer.url, reason, wait: None });
                }
                (since, before) = (Instant::now(), left);
            }
            let room = buffer.len().min(left as usize);
            let cut = |reason: String| Fault::Passing { url: answer.url.clone(), reason, wait: None };
            match body.read(&mut buffer[..room]) {
                Ok(0) => return Err(cut(format!("the connection ended {left} bytes early"))),
                Ok(length) => {
                    sink(&buffer[..length]).map_err(Fault::Final)?;
                    self.trouble.came(length as u64);
                    *done += length as u64;
                    left -= length as u64;
                }
                Err(fault) if fault.kind() == std::io::ErrorKind::Interrupted => {}
                Err(fault) => return Err(cut(format!("the connection broke {left} bytes early ({fault})"))),
            }
        }
        // To its end, so that the connection can be used again.
        let _ = body.read(&mut [0; 1]);
        Ok(())
    }
}

/// An attempt that failed.
struct Failed {
    fault: Fault,
    got_further: bool,
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self { fault, got_further: false }
    }
}

impl Origin for HttpOrigin {
    fn revision(&self) -> Result<String, StoreError> {
        let Place::Hub { revision, probe, .. } = &self.place else { return Ok(String::new()) };
        if self.commit.get().is_none() {
            let commit = self.head(probe)?.and_then(|answer| answer.commit);
            // A server that names no commit is taken at its word; ETags still tell changes.
            let _ = self.commit.set(commit.unwrap_or_else(|| revision.clone()));
        }
        Ok(self.commit.get().unwrap_or(revision).clone())
    }

    fn describe(&self, name: &str) -> Result<Option<OriginFile>, StoreError> {
        let Some(answer) = self.head(name)? else { return Ok(None) };
        let Some(bytes) = answer.size else {
            let reason =
                format!("the server does not say how large {name} is, without which parts of it cannot be asked for");
            return Err(StoreError::Remote { url: answer.url, reason, cause: RemoteCause::Trouble });
        };
        let etag = answer.etag.unwrap_or_default();
        // Other servers' ETags say nothing of the bytes.
        let is_hub = matches!(self.place, Place::Hub { .. });
        if let Some(digest) = PromisedDigest::named(&etag, answer.is_linked).filter(|_| is_hub) {
            self.promised.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), digest);
        }
        Ok(Some(OriginFile { name: name.to_owned(), bytes, etag }))
    }

    fn listed(&self) -> Result<Vec<Listed>, StoreError> {
        let Place::Hub { repository, revision, .. } = &self.place else { return Ok(Vec::new()) };
        let revision = self.commit.get().unwrap_or(revision).replace('/', "%2F");
        let url = format!("{}/api/models/{repository}/revision/{revision}?blobs=true", self.options.endpoint);
        let Listing { commit, files } = self.retry(|| Ok(listing::ask(&self.client, url.clone())?))?;
        // From now on all is asked of the commit whose files these are.
        if let Some(commit) = commit {
            let _ = self.commit.set(commit);
        }
        Ok(files)
    }

    fn promised(&self, name: &str) -> Option<PromisedDigest> {
        self.promised.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn read(&self, file: &OriginFile, from: u64, bytes: u64, sink: Sink<'_>) -> Result<(), StoreError> {
        let mut done = 0;
        self.retry(|| {
            let (before, want) = (done, Want { from: from + done, bytes: bytes - done });
            let part = self.part(file, want, sink, &mut done);
            // A few bytes are none: a source that drips would never come to an end.
            part.map_err(|fault| Failed { fault, got_further: done >= before + LEAST })
        })
    }
}
