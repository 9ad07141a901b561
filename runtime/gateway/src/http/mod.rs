//! The OpenAI-compatible HTTP interface.

mod asking;
mod auth;
mod body;
mod budget;
mod chat;
mod choices;
mod coding;
mod completions;
mod cors;
mod embeddings;
mod encoder;
mod error;
mod extent;
mod fields;
mod form;
mod job;
mod json_text;
mod live;
mod messages;
mod origin;
mod page;
mod pages;
mod params;
mod paths;
mod prediction;
mod reading;
mod responses;
pub(crate) mod router;
mod said;
mod server;
mod shape;
mod sse;
mod stops;
mod stream;
mod texts;
mod unknown_fields;
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
    response::Response,
    routing::{get, post},
};
use lime_ring::Transport;
use serde_json::{Value, json};

use crate::{
    intake::Intake,
    metrics::Metrics,
    options::Options,
    status::{Phase, RingStatus},
    text::TextModel,
};
pub(crate) use budget::BodyBudget;
use error::ApiError;
pub(crate) use live::Lookout;
pub(crate) use origin::Hosts;
pub(crate) use reading::Readers;
pub(crate) use server::{raise_open_files, serve};
use shape::now;
pub(crate) use unknown_fields::UnknownFields;

/// Where a model is asked for something, by a body that names it.
const ASKED: [&str; 10] = [
    chat::ROUTE,
    completions::ROUTE,
    embeddings::ROUTE,
    responses::ROUTE,
    messages::ROUTE,
    messages::COUNT,
    texts::TOKENIZE,
    texts::DETOKENIZE,
    texts::TEMPLATE,
    texts::INFO,
];

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
    pub(crate) unknown: UnknownFields,
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
    let check = || middleware::from_fn_with_state(app.clone(), auth::check);
    let v1 = Router::new()
        .route(chat::ROUTE, post(chat::handle))
        .route(completions::ROUTE, post(completions::handle))
        .route(embeddings::ROUTE, post(embeddings::handle))
        .route(responses::ROUTE, post(responses::handle))
        .route(texts::TOKENIZE, post(texts::tokenize))
        .route(texts::DETOKENIZE, post(texts::detokenize))
        .route(texts::TEMPLATE, post(texts::apply_template))
        .route(texts::INFO, get(texts::tokenizer_info))
        .route("/v1/models", get(pages::models))
        .route("/v1/models/{*id}", get(pages::model))
        .route("/lime/v1/live", get(live::live))
        .layer(check());
    let messages = Router::new()
        .route(messages::ROUTE, post(messages::handle))
        .route(messages::COUNT, post(messages::count))
        .layer(check())
        .layer(middleware::map_response(messages::in_its_form));
    let routes = Router::new()
        .merge(v1)
        .merge(messages)
        .route("/", get(page::root))
        .route("/page/{file}", get(page::file))
        .merge(status())
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(cors::layer(&app.hosts))
        .layer(middleware::from_fn_with_state(app.clone(), origin::check))
        .layer(middleware::from_fn_with_state(app.clone(), account))
        .with_state(app);
    lenient(routes)
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

/// The same routes under the paths that clients are set up to write.
fn lenient(routes: Router) -> Router {
    // What a router's own layers change comes too late to choose a route by.
    Router::new().fallback_service(routes).layer(middleware::map_request(paths::as_meant))
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
    const ROUTES: [&str; 7] = ["/v1/models", "/health", "/live", "/ready", "/metrics", "/lime/v1/live", "/"];
    const FOLDERS: [(&str, &str); 2] = [("/v1/models/", "/v1/models/{id}"), ("/page/", "/page/{file}")];
    let known = ASKED.into_iter().chain(ROUTES).find(|route| *route == path);
    let within = || FOLDERS.into_iter().find_map(|(folder, route)| path.starts_with(folder).then_some(route));
    known.or_else(within).unwrap_or("other")
}
