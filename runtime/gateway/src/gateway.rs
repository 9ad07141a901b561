//! Starting and stopping.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use lime_plan::{Plan, TokenBasis};
use thiserror::Error;
use tokio::{
    net::TcpListener,
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    access::Access,
    config::{Event, GatewayConfig},
    coordinator::Coordinator,
    dispatcher::Dispatcher,
    epochs::Epochs,
    http::{App, BodyBudget, Hosts, Lookout, Readers, UnknownFields, raise_open_files, router, serve, status_router},
    intake::Intake,
    metrics::Metrics,
    options::Options,
    orders::Following,
    recovery::{Recovery, Repair},
    ring::{RingTransport, WorkerRing},
    schedule::{Limits, Roots, Scheduler},
    status::{Phase, RingStatus},
    text::TextModel,
    turn::Turn,
};

/// Why a gateway could not start.
#[derive(Debug, Error)]
pub enum GatewayError {
    /// The address is taken or not ours.
    #[error("cannot listen on {listen}: {source}")]
    Listen {
        /// The address asked for.
        listen: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The plan breaks a rule.
    #[error(transparent)]
    Plan(#[from] lime_plan::PlanError),
    /// What tokens depend on cannot be named.
    #[error("what tokens depend on cannot be named: {0}")]
    Basis(serde_json::Error),
    /// The model's tokenizer or others of its text files cannot be used.
    #[error(transparent)]
    Model(#[from] lime_text::TextFaults),
}

/// A running gateway.
#[derive(Debug)]
pub struct GatewayHandle {
    addr: SocketAddr,
    status: Arc<RingStatus>,
    metrics: Arc<Metrics>,
    grace: Duration,
    leaving: CancellationToken,
    stop_passes: CancellationToken,
    stop_http: CancellationToken,
    passes: JoinHandle<()>,
    http: JoinHandle<()>,
}

impl GatewayHandle {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Takes no more requests, lets answers go on for a short grace, ends the rest with a final error, closes the ring's
    /// streams and stops listening.
    pub async fn stop(self) {
        self.status.set_phase(Phase::Stopping, self.status.view().epoch);
        self.leaving.cancel();
        let deadline = Instant::now() + self.grace;
        while self.metrics.under_way() > 0 && Instant::now() < deadline && !self.passes.is_finished() {
            sleep(Duration::from_millis(20)).await;
        }
        self.stop_passes.cancel();
        // A panic in either has been reported where it happened; stopping goes on.
        let _ = self.passes.await;
        self.stop_http.cancel();
        let _ = self.http.await;
    }
}

/// Starts a gateway: returns as soon as it listens. Requests are answered with 503 until the ring is ready.
///
/// # Errors
/// The address cannot be had, or the model's tokenizer cannot be read.
pub async fn start(
    config: GatewayConfig,
    options: Options,
    events: mpsc::UnboundedSender<Event>,
) -> Result<GatewayHandle, GatewayError> {
    let plan = config.orders.borrow().plan.clone();
    raise_open_files();
    let transport = WorkerRing::new(plan, config.transport.clone(), options.patience);
    start_with(config, options, transport, events).await
}

/// Starts a gateway over a ring of one's own.
///
/// # Errors
/// As [`start`].
pub async fn start_with<T: RingTransport>(
    config: GatewayConfig,
    options: Options,
    transport: T,
    events: mpsc::UnboundedSender<Event>,
) -> Result<GatewayHandle, GatewayError> {
    let GatewayConfig {
        listen,
        orders,
        transport: wire,
        model,
        template_program,
        served_name,
        access: Access { api_keys, allow_hosts, allow_origins, certificate, status_listen },
        queue_limit,
    } = config;
    let following = Following::new(orders);
    let plan = following.served.plan.clone();
    let text = Arc::new(TextModel::open(&model, &plan, template_program)?);
    let listener = bind(listen).await?;
    let addr = listener.local_addr().map_err(|source| GatewayError::Listen { listen, source })?;
    let status_listener = match status_listen {
        Some(listen) => Some(bind(listen).await?),
        None => None,
    };
    if api_keys.is_empty() && !addr.ip().to_canonical().is_loopback() {
        tracing::warn!(%addr, "anyone who reaches this address is served: there are no API keys");
    }
    if text.tokenizer.vocab_size() > text.vocabulary as usize {
        let (tokens, rows) = (text.tokenizer.vocab_size(), text.vocabulary);
        tracing::warn!(
            tokens,
            rows,
            "the tokenizer has more tokens than the model has rows: prompts with the others are refused"
        );
    }

    let limits = Limits::of(&plan, queue_limit);
    let names = Roots::new(&TokenBasis::of(&plan), &api_keys).map_err(GatewayError::Basis)?;
    let status = Arc::new(RingStatus::new(&following.served));
    let metrics = Arc::new(Metrics::default());
    let (intake, commands) = Intake::new();
    let (leaving, stop_passes, stop_http) =
        (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
    let coordinator = Coordinator {
        transport,
        dispatcher: Dispatcher::new(
            Scheduler::speculating(limits, options.speculation).keeping(options.prefix_cache).naming(names),
            metrics.clone(),
        ),
        commands,
        following,
        queue_limit,
        status: status.clone(),
        metrics: metrics.clone(),
        events,
        stop: stop_passes.clone(),
        leaving: leaving.clone(),
        longest_pause: options.longest_pause,
        quiet: options.quiet,
        state: Epochs::default(),
        recovery: Recovery::new(options.recovery),
        repair: Repair::default(),
        turn: Turn::new(options.name.clone(), options.grace),
    };
    let ended = Arc::new(AtomicBool::new(false));
    let passes = tokio::spawn(watch_over(coordinator, ended.clone()));

    let (grace, connecting) = (options.grace, options.clone());
    let app = App {
        fingerprint: fingerprint(&plan),
        queue_limit,
        served_name,
        api_keys,
        hosts: Hosts::new(addr, allow_hosts, allow_origins),
        bodies: BodyBudget::new(options.body_budget),
        readers: Readers::new(options.readers),
        lookout: Lookout::default(),
        unknown: UnknownFields::new(options.strict),
        options,
        text,
        intake,
        status: status.clone(),
        metrics: metrics.clone(),
        transport: wire,
        started: App::now(),
        ended,
    };
    let app = Arc::new(app);
    let told = status_listener.map(|listener| {
        let router = status_router(app.clone());
        serve(listener, None, router, connecting.clone(), metrics.clone(), stop_http.clone())
    });
    let told = async move {
        if let Some(told) = told {
            told.await;
        }
    };
    let answered = serve(listener, certificate, router(app), connecting, metrics.clone(), stop_http.clone());
    let http = tokio::spawn(async move {
        tokio::join!(told, answered);
    });
    Ok(GatewayHandle { addr, status, metrics, grace, leaving, stop_passes, stop_http, passes, http })
}

async fn bind(listen: SocketAddr) -> Result<TcpListener, GatewayError> {
    TcpListener::bind(listen).await.map_err(|source| GatewayError::Listen { listen, source })
}

async fn watch_over<T: RingTransport>(coordinator: Coordinator<T>, ended: Arc<AtomicBool>) {
    /// Says so even when the pass loop panics.
    struct Ended(Arc<AtomicBool>);
    impl Drop for Ended {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let _ended = Ended(ended);
    coordinator.run().await;
}

/// Names everything that tokens depend on. Devices and segments are no part of it: they change no token.
fn fingerprint(plan: &Plan) -> String {
    let card = &plan.model;
    let basis = format!(
        "{} {:?} {} {} {:?} {} {} {}",
        card.name,
        card.architecture,
        card.parameters,
        card.format,
        plan.arithmetic,
        plan.residual,
        plan.kv,
        env!("CARGO_PKG_VERSION")
    );
    // FNV-1a: a name, not a seal.
    let hash = basis
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("fp_{:010x}", hash >> 24)
}
