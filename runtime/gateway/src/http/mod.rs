//! The OpenAI-compatible HTTP interface.

mod auth;
mod body;
mod budget;
mod chat;
mod completions;
mod cors;
mod encoder;
mod error;
mod extent;
mod fields;
mod job;
mod live;
mod origin;
mod page;
mod pages;
mod params;
mod prediction;
mod reading;
pub(crate) mod router;
mod server;
mod shape;
mod stream;
mod whole;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, Method, Uri},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use lime_ring::Transport;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    Options,
    answer::{Piece, Reading, read},
    intake::{Intake, Refusal},
    metrics::Metrics,
    status::{Phase, RingStatus},
    text::TextModel,
    trace::{AnswerTrace, RequestTrace},
};
pub(crate) use budget::BodyBudget;
use error::ApiError;
use extent::Extent;
use job::{Job, Kind};
pub(crate) use live::Lookout;
pub(crate) use origin::Hosts;
pub(crate) use reading::Readers;
pub(crate) use server::{raise_open_files, serve};
use shape::{Shape, now};

/// Pieces that may lie between a reader and a slow client.
const PIECES: usize = 64;

/// What every handler needs.
pub(crate) struct App {
    pub(crate) served_name: String,
    pub(crate) fingerprint: String,
    pub(crate) api_keys: Vec<String>,
    /// Most sequences that may wait for a slot.
    pub(crate) queue_limit: usize,
    pub(crate) options: Options,
    pub(crate) hosts: Hosts,
    pub(crate) bodies: BodyBudget,
    pub(crate) readers: Readers,
    pub(crate) lookout: Lookout,
    pub(crate) text: Arc<TextModel>,
    pub(crate) intake: Intake,
    pub(crate) status: Arc<RingStatus>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) transport: Transport,
    pub(crate) started: u64,
    pub(crate) ended: Arc<AtomicBool>,
}

/// The same for all.
pub(crate) type SharedApp = Arc<App>;

impl App {
    /// Seconds since 1970.
    pub(crate) fn now() -> u64 {
        now()
    }

    fn model_object(&self) -> Value {
        json!({
            "id": self.served_name,
            "object": "model",
            "created": self.started,
            "owned_by": "lime",
            "max_model_len": self.status.plan().context,
        })
    }

    /// Since the gateway began.
    fn age(&self) -> Duration {
        Duration::from_secs(now().saturating_sub(self.started))
    }

    fn pass_loop_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Refuses requests that could only wait for a ring that was never there.
    fn check_serving(&self) -> Result<(), ApiError> {
        match self.status.phase() {
            // While the ring is brought back, another plan's ring up, or another gateway at its last answers, requests wait in the queue.
            Phase::Ready | Phase::Recovering | Phase::Waiting => Ok(()),
            Phase::Unavailable => {
                Err(ApiError::unavailable(self.status.view().trouble.as_deref().unwrap_or("the ring is away")))
            }
            Phase::Loading => {
                let state = self.status.view();
                Err(ApiError::loading(pages::loading_message(&state), pages::loading_wait(&state, self.age())))
            }
            Phase::Stopping => Err(ApiError::stopping()),
        }
    }
}

/// Every route.
pub(crate) fn router(app: SharedApp) -> Router {
    let v1 = Router::new()
        .route("/v1/chat/completions", post(chat_completions))
        .route("/v1/completions", post(text_completions))
        .route("/v1/models", get(pages::models))
        .route("/v1/models/{*id}", get(pages::model))
        .route("/lime/v1/live", get(live::live))
        .layer(middleware::from_fn_with_state(app.clone(), auth::check));
    Router::new()
        .merge(v1)
        .route("/", get(page::root))
        .route("/page/{file}", get(page::file))
        .merge(status())
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(cors::layer(&app.hosts))
        .layer(middleware::from_fn_with_state(app.clone(), origin::check))
        .layer(middleware::from_fn_with_state(app.clone(), account))
        .with_state(app)
}

/// Health and figures alone, for whoever probes.
pub(crate) fn status_router(app: SharedApp) -> Router {
    status()
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(app.clone(), account))
        .with_state(app)
}

fn status() -> Router<SharedApp> {
    Router::new()
        .route("/health", get(pages::health))
        .route("/live", get(pages::live))
        .route("/ready", get(pages::ready))
        .route("/metrics", get(pages::metrics))
}

async fn chat_completions(State(app): State<SharedApp>, request: Request) -> Response {
    traced(app, request, Kind::Chat).await
}

async fn text_completions(State(app): State<SharedApp>, request: Request) -> Response {
    traced(app, request, Kind::Text).await
}

async fn traced(app: SharedApp, request: Request, kind: Kind) -> Response {
    let route = match kind {
        Kind::Chat => "/v1/chat/completions",
        Kind::Text => "/v1/completions",
    };
    let trace = RequestTrace::begin(request.headers(), route, &app.served_name);
    let response = complete(app, request, kind, trace.as_ref()).await.unwrap_or_else(IntoResponse::into_response);
    if let Some(trace) = trace {
        trace.answered(response.status());
    }
    response
}

async fn complete(
    app: SharedApp,
    request: Request,
    kind: Kind,
    trace: Option<&Arc<RequestTrace>>,
) -> Result<Response, ApiError> {
    let extent = Extent::of(&app.status.plan(), app.queue_limit, &app.options);
    let body = body::read(&app, &extent, request, app.check_serving()).await?;
    let job = reading::read(&app, extent, body, kind).await?;
    let pieces = begin(&app, &job, trace).await?;
    let shape = Shape::new(kind, &app.served_name, &app.fingerprint, job.common.return_token_ids);
    if job.common.stream {
        Ok(stream::respond(job, shape, app.text.clone(), pieces))
    } else {
        Ok(whole::respond(&job, &shape, &app.text, pieces).await)
    }
}

/// Has the sequences of a request taken up and reads each in a task of its own.
async fn begin(
    app: &SharedApp,
    job: &Job,
    trace: Option<&Arc<RequestTrace>>,
) -> Result<mpsc::Receiver<Piece>, ApiError> {
    let (sender, pieces) = mpsc::channel(PIECES);
    if !job.draws() {
        return Ok(pieces);
    }
    let wishes = job.wishes(&app.text, trace.map(|trace| trace.context()));
    let sequences = app.intake.admit(wishes).await.map_err(|refusal| match refusal {
        Refusal::QueueFull(full) => ApiError::queue_full(full, app.metrics.appointment(job.choices())),
        Refusal::Stopping => ApiError::stopping(),
    })?;
    for (choice, sequence) in sequences.into_iter().enumerate() {
        let prompt = job.prompt_of(choice);
        app.metrics.prompt(prompt.tokens.len());
        let reading = Reading {
            choice,
            stops: job.common.stops.clone(),
            logprobs: job.logprobs.is_some(),
            before: prompt.tokens.last().copied(),
        };
        let trace = trace.map(|trace| {
            trace.prompt(prompt.tokens.len());
            AnswerTrace::begin(trace.clone(), choice)
        });
        tokio::spawn(read(app.text.clone(), sequence, reading, sender.clone(), app.metrics.clone(), trace));
    }
    Ok(pieces)
}

async fn unknown_path(method: Method, uri: Uri) -> ApiError {
    ApiError::unknown_path(method.as_str(), uri.path())
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    ApiError::method(method.as_str(), uri.path())
}

/// Counts answers by route and status, and gives each a name.
async fn account(State(app): State<SharedApp>, request: Request, next: Next) -> Response {
    let route = route_name(request.uri().path());
    let mut response = next.run(request).await;
    app.metrics.request(route, response.status().as_u16());
    if let Ok(name) = HeaderValue::from_str(&format!("req-{:016x}", params::random())) {
        response.headers_mut().insert("x-request-id", name);
    }
    response
}

/// A route for figures: few names, whatever clients ask for.
fn route_name(path: &str) -> &'static str {
    const ROUTES: [&str; 9] = [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/models",
        "/health",
        "/live",
        "/ready",
        "/metrics",
        "/lime/v1/live",
        "/",
    ];
    const FOLDERS: [(&str, &str); 2] = [("/v1/models/", "/v1/models/{id}"), ("/page/", "/page/{file}")];
    let known = ROUTES.into_iter().find(|route| *route == path);
    let within = || FOLDERS.into_iter().find_map(|(folder, route)| path.starts_with(folder).then_some(route));
    known.or_else(within).unwrap_or("other")
}
