//! Several models behind one endpoint: each request goes to the gateway of the model that its body names, and the answer comes back as
//! it is drawn. Keys are the gateways' affair: they pass through, and `/v1/models` lists what the client may use.

mod forward;

use std::{net::SocketAddr, str::FromStr, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, Request, State},
    http::{Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::future::join_all;
use hyper::http::uri::Authority;
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    ASKED, BodyBudget, body::gather, coding::Coding, error::ApiError, fields::wrong_type, json_text::mended, lenient,
    serve, server::Traffic,
};
use crate::{metrics::Metrics, options::Options};
use forward::{ask, send};

/// A model and the gateway that serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The name by which clients ask for it.
    pub model: String,
    /// Where its gateway is, as `HOST:PORT`.
    authority: String,
}

/// Why there is no router.
#[derive(Debug, Error)]
pub enum RouterError {
    /// Not `NAME=http://HOST[:PORT]`.
    #[error("{0:?} names no model and its gateway: write NAME=http://HOST:PORT")]
    Backend(String),
    /// One name for two gateways.
    #[error("the model {0:?} is named twice")]
    Twice(String),
    /// The address is taken, or not ours.
    #[error("{addr} cannot be listened on")]
    Listen {
        /// Where.
        addr: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

impl FromStr for Backend {
    type Err = RouterError;

    fn from_str(text: &str) -> Result<Self, RouterError> {
        let fault = || RouterError::Backend(text.to_owned());
        let (model, url) = text.split_once('=').ok_or_else(fault)?;
        let host = url.strip_prefix("http://").ok_or_else(fault)?.trim_end_matches('/');
        let authority: Authority = host.parse().map_err(|_| fault())?;
        if model.is_empty() || authority.host().is_empty() || host.contains(['/', '@']) {
            return Err(fault());
        }
        let authority = match authority.port_u16() {
            Some(_) => host.to_owned(),
            None => format!("{host}:80"),
        };
        Ok(Self { model: model.to_owned(), authority })
    }
}

/// A router at work.
#[derive(Debug)]
pub struct RouterHandle {
    addr: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl RouterHandle {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Ends, after the answers under way.
    pub async fn stop(self) {
        self.stop.cancel();
        // It has not panicked, or there is nothing left to wait for.
        let _ = self.task.await;
    }
}

struct Front {
    backends: Vec<Backend>,
    bodies: BodyBudget,
    options: Options,
}

type SharedFront = Arc<Front>;

/// Routes until it is stopped.
///
/// # Errors
/// When a model is named twice, or the address cannot be listened on.
pub async fn start_router(listen: SocketAddr, backends: Vec<Backend>) -> Result<RouterHandle, RouterError> {
    for (index, backend) in backends.iter().enumerate() {
        if backends[..index].iter().any(|other| other.model == backend.model) {
            return Err(RouterError::Twice(backend.model.clone()));
        }
    }
    let failed = |source| RouterError::Listen { addr: listen, source };
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let addr = listener.local_addr().map_err(failed)?;
    let options = Options::default();
    let front = Arc::new(Front { backends, bodies: BodyBudget::new(options.body_budget), options: options.clone() });
    let stop = CancellationToken::new();
    let serving = serve(listener, None, routes(front), options, Arc::new(Metrics::default()), stop.clone());
    Ok(RouterHandle { addr, stop, task: tokio::spawn(serving) })
}

fn routes(front: SharedFront) -> Router {
    let alive = || async { Json(json!({ "status": "ok" })) };
    let asked = ASKED.into_iter().fold(Router::new(), |routes, route| routes.route(route, post(complete)));
    let routes = asked
        .route("/v1/models", get(models))
        .route("/v1/models/{*id}", get(model))
        .route("/health", get(alive))
        .route("/live", get(alive))
        .route("/ready", get(ready))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(front);
    lenient(routes)
}

/// The one field that decides; a body's others are its gateway's affair.
#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    model: Value,
}

async fn complete(State(front): State<SharedFront>, request: Request) -> Response {
    route(&front, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn route(front: &SharedFront, request: Request) -> Result<Response, ApiError> {
    let (mut head, body) = request.into_parts();
    let coding = Coding::of(&head.headers)?;
    let _arriving = head.extensions.get::<Traffic>().map(Traffic::arriving);
    let most = front.options.body_limit;
    let check = move |bytes: u64| if bytes > most as u64 { Err(ApiError::large_body(most)) } else { Ok(()) };
    let mut parts = body.into_data_stream();
    let gathering = gather(&mut parts, &front.bodies, check, 0);
    let gathered =
        timeout(front.options.body_timeout, gathering).await.unwrap_or_else(|_| Err(ApiError::slow_body()))?;
    let shared = front.clone();
    let unpacking = tokio::task::spawn_blocking(move || coding.unpack(gathered, &shared.bodies, check));
    let mut gathered =
        unpacking.await.map_err(|fault| ApiError::internal(format!("The request could not be read: {fault}.")))??;
    head.headers.remove(header::CONTENT_ENCODING);
    let malformed = |error: serde_json::Error| {
        ApiError::invalid("", "invalid_json", format!("The request's body is no JSON object: {error}."))
    };
    let asked: Asked = serde_json::from_slice(mended(&mut gathered.bytes)).map_err(malformed)?;
    let backend = match &asked.model {
        Value::String(model) => front.backend(model)?,
        // One model needs no name, as with its gateway.
        Value::Null if front.backends.len() == 1 => &front.backends[0],
        Value::Null => {
            let message = format!("Missing required parameter: 'model'. This server has '{}'.", front.names());
            return Err(ApiError::invalid("model", "missing_required_parameter", message));
        }
        other => return Err(wrong_type("model", "a string", other)),
    };
    send(&backend.authority, head, gathered.bytes).await.map_err(|fault| away(&backend.model, &fault))
}

fn away(model: &str, fault: &str) -> ApiError {
    ApiError::unavailable(&format!("the gateway of {model} does not answer ({fault})"))
}

impl Front {
    fn backend(&self, model: &str) -> Result<&Backend, ApiError> {
        let found = self.backends.iter().find(|backend| backend.model == model);
        found.ok_or_else(|| ApiError::unknown_model(model, &self.names()))
    }

    fn names(&self) -> String {
        let names: Vec<String> = self.backends.iter().map(|backend| format!("'{}'", backend.model)).collect();
        names.join(", ").trim_matches('\'').to_owned()
    }
}

/// What every gateway lists to this client. One that is away is left out; keys that none takes are refused as a gateway does.
async fn models(State(front): State<SharedFront>, request: Request) -> Response {
    let authorization = request.headers().get(header::AUTHORIZATION).cloned();
    let asked = front.backends.iter().map(|backend| ask(&backend.authority, "/v1/models", authorization.clone()));
    let answers = join_all(asked).await;
    let mut listed = Vec::new();
    let mut refused = false;
    for (backend, answer) in front.backends.iter().zip(answers) {
        match answer {
            Ok((StatusCode::OK, list)) => {
                let models = list["data"].as_array().cloned().unwrap_or_default().into_iter();
                listed.extend(models.filter(|model| model["id"] == backend.model.as_str()));
            }
            Ok((StatusCode::UNAUTHORIZED, _)) => refused = true,
            Ok(_) | Err(_) => {}
        }
    }
    if listed.is_empty() && refused {
        return ApiError::unauthorized("Incorrect API key provided.").into_response();
    }
    Json(json!({ "object": "list", "data": listed })).into_response()
}

async fn model(State(front): State<SharedFront>, Path(id): Path<String>, request: Request) -> Response {
    let answer = async {
        let backend = front.backend(&id)?;
        let (mut head, _) = request.into_parts();
        head.method = Method::GET;
        send(&backend.authority, head, Vec::new()).await.map_err(|fault| away(&backend.model, &fault))
    };
    answer.await.unwrap_or_else(|error: ApiError| error.into_response())
}

/// Ready as soon as one model is served; each is told of.
async fn ready(State(front): State<SharedFront>) -> Response {
    let asked = front.backends.iter().map(|backend| ask(&backend.authority, "/ready", None));
    let answers = join_all(asked).await;
    let states = front.backends.iter().zip(&answers).map(|(backend, answer)| {
        let state = match answer {
            Ok((_, page)) => page["status"].as_str().unwrap_or("unknown").to_owned(),
            Err(fault) => format!("away: {fault}"),
        };
        json!({ "model": backend.model, "status": state })
    });
    let states: Vec<Value> = states.collect();
    let serves = answers.iter().any(|answer| matches!(answer, Ok((StatusCode::OK, _))));
    let (status, word) =
        if serves { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "unavailable") };
    (status, Json(json!({ "status": word, "models": states }))).into_response()
}

async fn unknown_path(method: Method, uri: Uri) -> ApiError {
    ApiError::unknown_path(method.as_str(), uri.path())
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    ApiError::method(method.as_str(), uri.path())
}
