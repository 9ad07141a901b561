//! From a body to what it asks for: parsing, templates and tokens, on threads of their own and few at a time.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::{sync::Semaphore, time::timeout};

use super::{
    App, SharedApp,
    body::Sent,
    budget::{Gathered, SMALL},
    coding::Coding,
    encoder::Encoder,
    error::ApiError,
    extent::Extent,
    fields::Fields,
};
use crate::retry_after;

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

/// Reads a body as `face` does, not on the threads that drive connections and passes. A tokenizer cannot be stopped: one that takes too long
/// is waited for no more, and keeps its place among the readers to its end.
pub(super) async fn read<T: Send + 'static>(
    app: &SharedApp,
    extent: Extent,
    body: Sent,
    face: impl FnOnce(Fields<'_>, &Encoder<'_>) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let limit = app.options.reading_timeout;
    // A short body that is packed may hold a long one.
    let readers = if body.coding == Coding::Plain && body.gathered.bytes.len() <= SMALL {
        &app.readers.short
    } else {
        &app.readers.long
    };
    let place = timeout(limit, readers.clone().acquire_owned()).await;
    // The semaphore is never closed.
    let Ok(Ok(place)) = place else { return Err(ApiError::crowded(retry_after::a_little())) };
    let waiting = Waiting(Arc::default());
    let (app, given_up) = (app.clone(), waiting.0.clone());
    let reading = tokio::task::spawn_blocking(move || {
        let _place = place;
        parsed(&app, extent, body, &given_up, face)
    });
    let read = timeout(limit, reading).await.map_err(|_| ApiError::slow_text())?;
    read.map_err(|fault| ApiError::internal(format!("The request could not be read: {fault}.")))?
}

fn parsed<T>(
    app: &App,
    extent: Extent,
    body: Sent,
    given_up: &AtomicBool,
    face: impl FnOnce(Fields<'_>, &Encoder<'_>) -> Result<T, ApiError>,
) -> Result<T, ApiError> {
    let Gathered { mut bytes, held } =
        body.coding.unpack(body.gathered, &app.bodies, |bytes| extent.check_body(bytes))?;
    let value = extent.parse(&mut bytes)?;
    drop((bytes, held));
    let encoder = Encoder::new(&app.text, extent, given_up);
    face(Fields::of_body(&value)?, &encoder)
}

/// Whether a request names the model that is served, as every one must that has something drawn.
pub(super) fn check_model(fields: Fields<'_>, served: &str) -> Result<(), ApiError> {
    let missing = || ApiError::invalid("model", "missing_required_parameter", "you must provide a model parameter");
    let model = fields.text("model")?.ok_or_else(missing)?;
    if model == served { Ok(()) } else { Err(ApiError::unknown_model(model, served)) }
}
