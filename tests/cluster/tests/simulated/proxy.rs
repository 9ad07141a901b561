//! A way to the API server that fails by a script: between the operator and the real one, on loopback and in plain text.
//! Which request fails is drawn from a seed, so that a run can be repeated.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Frame, Incoming},
    header::{AUTHORIZATION, CONTENT_LENGTH, HOST, RETRY_AFTER, TRANSFER_ENCODING},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
};
use serde_json::json;

type Fault = Box<dyn std::error::Error + Send + Sync>;
type Answer = Response<UnsyncBoxBody<Bytes, Fault>>;

/// How long a silent server holds its client, before the connection breaks.
const SILENCE: Duration = Duration::from_secs(40);

/// What may befall a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// 409: a write met another.
    Conflict,
    /// 410: the version from which a watch or list is to go on is gone.
    Expired,
    /// 429 with `Retry-After: 1`.
    Busy,
    /// 500.
    Broken,
    /// 503.
    Unavailable,
    /// Nothing comes back.
    Silent,
    /// The connection is reset: half of the time after the request was carried out.
    Reset,
    /// Half of the answer comes back, then the connection is reset.
    Truncated,
}

impl Mishap {
    pub(crate) const ALL: [Self; 8] = [
        Self::Conflict,
        Self::Expired,
        Self::Busy,
        Self::Broken,
        Self::Unavailable,
        Self::Silent,
        Self::Reset,
        Self::Truncated,
    ];

    /// Whether a server could answer so.
    fn fits(self, method: &Method) -> bool {
        match self {
            Self::Conflict => method != Method::GET,
            Self::Expired => method == Method::GET,
            _ => true,
        }
    }
}

/// Of so many requests that could fail one does: with small chances none might, and nothing would have been tried.
const SURELY: u32 = 25;

/// What the proxy does, until it is told otherwise.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    /// One of these befalls a request,
    pub(crate) mishaps: Vec<Mishap>,
    /// with this chance, in percent; one of the first [`SURELY`] for sure.
    pub(crate) percent: u64,
    /// Every watch ends after so long: in turn as a server ends it, and by a broken connection.
    pub(crate) cut_watches: Option<Duration>,
    /// Each request waits so long before it is passed on.
    pub(crate) delay: Duration,
}

/// A request that came by.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) at: Instant,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) mishap: Option<Mishap>,
}

impl Asked {
    /// Whether it changes something other than the Lease by which replicas agree who leads.
    pub(crate) fn writes(&self) -> bool {
        self.method != Method::GET && !self.path.ends_with("/leases/lime-operator") && !self.path.ends_with("/leases")
    }
}

#[derive(Debug, Default)]
struct Shared {
    script: Script,
    /// Requests that could have failed since the script began, until the first that did.
    spared: Option<u32>,
    log: Vec<Asked>,
    drawn: u64,
}

/// A running proxy; it ends with its runtime.
pub(crate) struct Proxy {
    shared: Arc<Mutex<Shared>>,
    folder: tempfile::TempDir,
}

impl Proxy {
    /// Listens, and writes a configuration that leads here.
    pub(crate) async fn start(seed: u64) -> Self {
        let mut config = Config::infer().await.unwrap();
        config.default_retry = false;
        let upstream: Client = ClientBuilder::try_from(config).unwrap().build();
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
            "clusters": [{ "name": "proxy", "cluster": { "server": format!("http://{}", listener.local_addr().unwrap()) } }],
            "users": [{ "name": "proxy", "user": {} }],
            "contexts": [{ "name": "proxy", "context": { "cluster": "proxy", "user": "proxy" } }],
        });
        std::fs::write(folder.path().join("kubeconfig"), kubeconfig.to_string()).unwrap();
        let shared = Arc::new(Mutex::new(Shared { drawn: seed, ..Shared::default() }));
        tokio::spawn(listen(listener, upstream, shared.clone()));
        Self { shared, folder }
    }

    /// The configuration with which clients come by here.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    pub(crate) fn follow(&self, script: Script) {
        let mut shared = self.shared.lock().unwrap();
        shared.spared = (script.percent > 0).then_some(0);
        shared.script = script;
    }

    /// What came by since `since`.
    pub(crate) fn asked_since(&self, since: Instant) -> Vec<Asked> {
        self.shared.lock().unwrap().log.iter().filter(|asked| asked.at >= since).cloned().collect()
    }
}

async fn listen(listener: tokio::net::TcpListener, upstream: Client, shared: Arc<Mutex<Shared>>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        // What is closed in the middle is reset, not ended in order.
        stream.set_zero_linger().unwrap();
        let (upstream, shared) = (upstream.clone(), shared.clone());
        tokio::spawn(async move {
            let answer = service_fn(move |request| answer(upstream.clone(), shared.clone(), request));
            // A connection that breaks is what this is for.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

async fn answer(upstream: Client, shared: Arc<Mutex<Shared>>, request: Request<Incoming>) -> Result<Answer, Fault> {
    let (mut head, body) = request.into_parts();
    let watch = head.uri.query().unwrap_or_default().contains("watch=true");
    let (script, mishap, chance) = {
        let mut shared = shared.lock().unwrap();
        let chance = draw(&mut shared.drawn);
        let script = shared.script.clone();
        let fitting: Vec<_> = script.mishaps.iter().filter(|mishap| mishap.fits(&head.method)).copied().collect();
        let overdue = shared.spared.is_some_and(|spared| spared + 1 >= SURELY);
        let befalls = !fitting.is_empty() && (overdue || chance % 100 < script.percent);
        if befalls {
            shared.spared = None;
        } else if let Some(spared) = shared.spared.as_mut().filter(|_| !fitting.is_empty()) {
            *spared += 1;
        }
        let mishap = befalls.then(|| fitting[(chance / 100) as usize % fitting.len()]);
        let (method, path) = (head.method.clone(), head.uri.path().to_owned());
        shared.log.push(Asked { at: Instant::now(), method, path, mishap });
        (script, mishap, chance)
    };
    tokio::time::sleep(script.delay).await;
    let early = chance.is_multiple_of(2);
    match mishap {
        Some(Mishap::Expired) if watch => return Ok(expired_event()),
        Some(Mishap::Conflict) => return Ok(refusal(StatusCode::CONFLICT, "Conflict")),
        Some(Mishap::Expired) => return Ok(refusal(StatusCode::GONE, "Expired")),
        Some(Mishap::Busy) => return Ok(refusal(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests")),
        Some(Mishap::Broken) => return Ok(refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError")),
        Some(Mishap::Unavailable) => return Ok(refusal(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable")),
        Some(Mishap::Silent) => {
            tokio::time::sleep(SILENCE).await;
            return Err("silence".into());
        }
        Some(Mishap::Reset) if early => return Err("reset".into()),
        _ => {}
    }
    let sent = body.collect().await?.to_bytes();
    for header in [HOST, AUTHORIZATION, CONTENT_LENGTH, TRANSFER_ENCODING] {
        head.headers.remove(header);
    }
    let (mut head, body) = upstream.send(Request::from_parts(head, Body::from(sent))).await?.into_parts();
    head.headers.remove(TRANSFER_ENCODING);
    if watch {
        let cut = if mishap.is_some() { Some(Duration::from_millis(500)) } else { script.cut_watches };
        return Ok(Response::from_parts(head, cut_after(body, cut, early)));
    }
    let whole = body.collect().await?.to_bytes();
    let body = match mishap {
        Some(Mishap::Reset) => return Err("reset".into()),
        Some(Mishap::Truncated) => {
            head.headers.insert(CONTENT_LENGTH, whole.len().into());
            let half = Frame::data(whole.slice(..whole.len() / 2));
            // The first half must have left before the connection is reset.
            let breaks = stream::once(async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Err(Fault::from("truncated"))
            });
            StreamBody::new(stream::iter([Ok(half)]).chain(breaks)).boxed_unsync()
        }
        _ => {
            head.headers.remove(CONTENT_LENGTH);
            full(whole)
        }
    };
    Ok(Response::from_parts(head, body))
}

/// A watch that ends after `cut`: `gently` as a server ends it, or in the middle.
fn cut_after(body: Body, cut: Option<Duration>, gently: bool) -> UnsyncBoxBody<Bytes, Fault> {
    let Some(cut) = cut else { return body.map_err(Fault::from).boxed_unsync() };
    let deadline = tokio::time::Instant::now() + cut;
    let parts = body.into_data_stream();
    let events = stream::unfold(Some(parts), move |parts| async move {
        let mut parts = parts?;
        match tokio::time::timeout_at(deadline, parts.next()).await {
            Ok(Some(part)) => Some((part.map(Frame::data).map_err(Fault::from), Some(parts))),
            Ok(None) => None,
            Err(_) if gently => None,
            Err(_) => Some((Err(Fault::from("cut")), None)),
        }
    });
    StreamBody::new(events).boxed_unsync()
}

fn full(bytes: Bytes) -> UnsyncBoxBody<Bytes, Fault> {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// A `Status` as the API server writes it.
fn status(code: StatusCode, reason: &str) -> serde_json::Value {
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason,
        "message": format!("{reason}: injected by a test"), "code": code.as_u16() })
}

fn refusal(code: StatusCode, reason: &str) -> Answer {
    let mut response = Response::builder().status(code).header("Content-Type", "application/json");
    if code == StatusCode::TOO_MANY_REQUESTS {
        response = response.header(RETRY_AFTER, "1");
    }
    response.body(full(status(code, reason).to_string().into())).unwrap()
}

/// How an API server tells a watch that it is too late.
fn expired_event() -> Answer {
    let event = json!({ "type": "ERROR", "object": status(StatusCode::GONE, "Expired") });
    Response::builder().header("Content-Type", "application/json").body(full(format!("{event}\n").into())).unwrap()
}

/// The next number of splitmix64.
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
