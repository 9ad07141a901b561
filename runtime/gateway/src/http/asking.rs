//! From a request over HTTP to the pieces of its answer: what every face of this server does in the same way.

use std::sync::Arc;

use axum::{extract::Request, response::Response};
use lime_trace::TraceContext;
use tokio::sync::mpsc;

use super::{
    App, SharedApp, body, encoder::Encoder, error::ApiError, extent::Extent, fields::Fields, job::Job, reading,
};
use crate::{
    answer::{Piece, Reading, read},
    intake::{Refusal, SequenceHandle, SequenceRequest},
    schedule::KeyId,
    trace::{AnswerTrace, RequestTrace},
};

/// Pieces that may lie between a reader and a slow client.
const PIECES: usize = 64;

/// What is known of a request besides what it asks.
pub(super) struct Asked {
    /// Where it is traced.
    trace: Option<Arc<RequestTrace>>,
    /// The key that it carries, where there are keys.
    key: Option<KeyId>,
}

impl Asked {
    /// The request's span, where it is traced.
    pub(super) fn trace(&self) -> Option<TraceContext> {
        self.trace.as_ref().map(|trace| trace.context())
    }

    /// The key that it carries.
    pub(super) const fn key(&self) -> Option<KeyId> {
        self.key
    }
}

/// Hands the sequences of a request in.
pub(super) async fn admit(app: &App, requests: Vec<SequenceRequest>) -> Result<Vec<SequenceHandle>, ApiError> {
    let count = requests.len();
    app.intake.admit(requests).await.map_err(|refusal| match refusal {
        Refusal::QueueFull(full) => ApiError::queue_full(full, app.metrics.wait_for_room(count)),
        Refusal::Stopping => ApiError::stopping(),
    })
}

/// A request to `route` comes, and its trace begins.
pub(super) fn asked(app: &App, request: &Request, route: &'static str) -> Asked {
    let trace = RequestTrace::begin(request.headers(), route, &app.served_name);
    Asked { trace, key: request.extensions().get().copied() }
}

/// Notes what was answered.
pub(super) fn answered(asked: Asked, response: Response) -> Response {
    if let Some(trace) = asked.trace {
        trace.answered(response.status());
    }
    response
}

/// Reads a request's body as `face` does.
pub(super) async fn hear<T: Send + 'static>(
    app: &SharedApp,
    request: Request,
    face: impl FnOnce(&App, Fields<'_>, &Encoder<'_>) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let extent = Extent::of(&app.status.plan(), app.queue_limit, &app.options);
    let body = body::read(app, &extent, request, app.check_serving()).await?;
    let shared = app.clone();
    reading::read(app, extent, body, move |fields, encoder| face(&shared, fields, encoder)).await
}

/// The same of a request that draws: it names this server's model, and fields that are not `known` are told of or refused.
pub(super) async fn hear_known<T: Send + 'static>(
    app: &SharedApp,
    request: Request,
    known: &'static [&'static [&'static str]],
    face: impl FnOnce(Fields<'_>, &Encoder<'_>) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let heard = hear(app, request, move |app, fields, encoder| {
        reading::check_model(fields, &app.served_name)?;
        app.unknown.check(fields, known)?;
        face(fields, encoder)
    });
    heard.await
}

/// Has the sequences of a request taken up and reads each in a task of its own.
pub(super) async fn begin(app: &SharedApp, job: &Job, asked: &Asked) -> Result<mpsc::Receiver<Piece>, ApiError> {
    let (sender, pieces) = mpsc::channel(PIECES);
    if !job.draws() {
        return Ok(pieces);
    }
    let trace = &asked.trace;
    let sequences = admit(app, job.sequences(&app.text, asked.trace(), asked.key())).await?;
    for (choice, sequence) in sequences.into_iter().enumerate() {
        let prompt = job.prompt_of(choice);
        app.metrics.prompt(prompt.tokens.len());
        let reading = Reading {
            choice,
            stops: job.common.stops.clone(),
            logprobs: job.logprobs.is_some() || job.chooses(),
            before: prompt.tokens.last().copied(),
            min_tokens: job.common.sampling.min_tokens.into(),
            skip_special: job.common.skip_special,
            answer: job.answer.clone(),
            echoed: prompt.echo.chars().count(),
            told: if job.scoring.is_some() { prompt.tokens.clone() } else { Arc::default() },
            empty: job.is_empty(choice),
        };
        let trace = trace.as_ref().map(|trace| {
            trace.prompt(prompt.tokens.len());
            AnswerTrace::begin(trace.clone(), choice)
        });
        tokio::spawn(read(app.text.clone(), sequence, reading, sender.clone(), app.metrics.clone(), trace));
    }
    Ok(pieces)
}
