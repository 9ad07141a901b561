//! From a body to a job: parsing, templates and tokens, on threads of their own and few at a time.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::{sync::Semaphore, time::timeout};

use super::{
    App, SharedApp,
    body::Gathered,
    budget::SMALL,
    chat, completions,
    encoder::Encoder,
    error::ApiError,
    extent::Extent,
    fields::Fields,
    job::{Job, Kind},
};
use crate::appointments;

/// Short requests that are read at the same time: they wait for each other, and never for long ones.
const SHORT: usize = 4;

/// How many requests may be read as tokens at the same time.
#[derive(Debug)]
pub(crate) struct Readers {
    short: Arc<Semaphore>,
    long: Arc<Semaphore>,
}

impl Readers {
    /// At most `long` that are long.
    pub(crate) fn new(long: usize) -> Self {
        Self { short: Arc::new(Semaphore::new(SHORT)), long: Arc::new(Semaphore::new(long.max(1))) }
    }
}

/// Nobody waits any more, when this is dropped.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Reads a job, not on the threads that drive connections and passes. A tokenizer cannot be stopped: one that takes too long
/// is waited for no more, and keeps its place among the readers to its end.
pub(super) async fn read(app: &SharedApp, extent: Extent, body: Gathered, kind: Kind) -> Result<Job, ApiError> {
    let limit = app.options.reading_timeout;
    let readers = if body.bytes.len() <= SMALL { &app.readers.short } else { &app.readers.long };
    let place = timeout(limit, readers.clone().acquire_owned()).await;
    // The semaphore is never closed.
    let Ok(Ok(place)) = place else { return Err(ApiError::crowded(appointments::a_little())) };
    let waiting = Waiting(Arc::default());
    let (app, given_up) = (app.clone(), waiting.0.clone());
    let reading = tokio::task::spawn_blocking(move || {
        let _place = place;
        job(&app, extent, body, kind, &given_up)
    });
    let read = timeout(limit, reading).await.map_err(|_| ApiError::slow_text())?;
    read.map_err(|fault| ApiError::internal(format!("The request could not be read: {fault}.")))?
}

fn job(app: &App, extent: Extent, body: Gathered, kind: Kind, given_up: &AtomicBool) -> Result<Job, ApiError> {
    let Gathered { bytes, held } = body;
    let value = extent.parse(&bytes)?;
    drop((bytes, held));
    let fields = Fields::of_body(&value)?;
    let model = fields.text("model")?;
    let missing = || ApiError::invalid("model", "missing_required_parameter", "you must provide a model parameter");
    let model = model.ok_or_else(missing)?;
    if model != app.served_name {
        return Err(ApiError::unknown_model(model, &app.served_name));
    }
    let encoder = Encoder::new(&app.text, extent, given_up);
    match kind {
        Kind::Chat => chat::read(fields, &encoder),
        Kind::Text => completions::read(fields, &encoder),
    }
}
