//! Starting and stopping: one thread for I/O, one that computes.

use std::{
    net::SocketAddr,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use lime_ring::{MAX_IN_FLIGHT, Transport, incoming, server};
use tokio::{
    runtime,
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    command::Command, compute::Loader, compute_thread::ComputeThread, config::WorkerConfig, counters::Counters,
    error::WorkerError, health, pressure::Pressure, service::routes, state::Worker, vitals::Vitals,
};

/// How long connections may take to close when the worker stops.
const CLOSING: Duration = Duration::from_millis(800);

/// A ring through which no pass has come for so long is not used: between two tokens of an answer it takes less.
const QUIET: Duration = Duration::from_millis(500);
/// A worker that is used waits so long for the word that its gateway leaves too: where a node is emptied both are told in the same moment.
const WORD: Duration = Duration::from_secs(2);
/// How often a worker that is to leave looks whether it may.
const LOOK: Duration = Duration::from_millis(20);

/// A running worker. Dropped without [`WorkerHandle::stop`] it stops as well, but nobody waits for it.
#[derive(Debug)]
pub struct WorkerHandle {
    addr: SocketAddr,
    health: Option<SocketAddr>,
    worker: Arc<Worker>,
    stopping: CancellationToken,
    io: Option<JoinHandle<Result<(), WorkerError>>>,
}

impl WorkerHandle {
    /// Where the worker listens.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where its health is asked for, where it was told to say.
    pub const fn health(&self) -> Option<SocketAddr> {
        self.health
    }

    /// Resolves when nobody needs the worker any more: at once where no passes come. Where they do, its gateway may be about to leave too; if
    /// it says so, when it has ended its answers, and after `longest` whatever it says.
    pub async fn unneeded(&self, longest: Duration) {
        let session = || self.worker.session();
        let word = async {
            while session().is_some_and(|session| session.is_used(QUIET) && !session.is_staying()) {
                sleep(LOOK).await;
            }
        };
        let answers = async {
            while session().is_some_and(|session| session.is_staying()) {
                sleep(LOOK).await;
            }
        };
        // Longer is not waited for.
        let _ = timeout(longest.min(WORD), word).await;
        let _ = timeout(longest, answers).await;
    }

    /// Stops the worker: the listener is closed and every task and thread has ended when this returns. A pass being
    /// computed is finished first.
    ///
    /// # Errors
    /// When a thread of the worker had panicked or its listener failed.
    pub async fn stop(mut self) -> Result<(), WorkerError> {
        self.stopping.cancel();
        let Some(io) = self.io.take() else { return Ok(()) };
        let panicked = || WorkerError::Panicked("I/O");
        let joined = tokio::task::spawn_blocking(|| io.join()).await;
        joined.map_err(|_| panicked())?.map_err(|_| panicked())?
    }

    /// Waits until the worker has ended by itself, which it does only when its listener fails.
    pub async fn ended(&self) {
        self.stopping.cancelled().await;
    }
}

impl Drop for WorkerHandle {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

/// Starts a worker that computes with what `loader` loads; [`crate::start`] takes the real engine.
///
/// # Errors
/// When the address cannot be bound or the system gives no threads.
pub async fn start_with(
    config: WorkerConfig,
    loader: Box<dyn Loader>,
    listen: SocketAddr,
) -> Result<WorkerHandle, WorkerError> {
    let (listener, addr) = bind(listen)?;
    let health = config.health.map(bind).transpose()?;
    let health_addr = health.as_ref().map(|(_, addr)| *addr);
    let health = health.map(|(listener, _)| listener);
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(WorkerError::Threads)?;

    let stopping = CancellationToken::new();
    let counters = Arc::new(Counters::default());
    let vitals = Arc::new(Vitals::new(config.stuck_after));
    let (commands, queue) = mpsc::channel(2 * MAX_IN_FLIGHT);
    let (counted, watched, told) = (counters.clone(), vitals.clone(), stopping.clone());
    let compute = move || ComputeThread::new(loader, counted, watched, told).run(queue);
    let compute =
        thread::Builder::new().name("lime-compute".to_owned()).spawn(compute).map_err(WorkerError::Threads)?;
    let transport = config.transport.clone();
    let worker = Arc::new(Worker::new(config, counters, vitals, commands));

    let (token, shared) = (stopping.clone(), worker.clone());
    let pressure = Pressure::start(worker.clone()).map_err(WorkerError::Threads)?;
    let serve = move || {
        let served = runtime.block_on(serve(&worker, (listener, health), &transport, &token));
        // Connections that are still open and tasks that still run end here.
        runtime.shutdown_background();
        drop(pressure);
        token.cancel();
        let computed = compute.join().map_err(|_| WorkerError::Panicked("compute"));
        served.and(computed)
    };
    let io = thread::Builder::new().name("lime-io".to_owned()).spawn(serve).map_err(WorkerError::Threads)?;
    Ok(WorkerHandle { addr, health: health_addr, worker: shared, stopping, io: Some(io) })
}

fn bind(addr: SocketAddr) -> Result<(std::net::TcpListener, SocketAddr), WorkerError> {
    let listener = std::net::TcpListener::bind(addr)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .and_then(|listener| listener.local_addr().map(|addr| (listener, addr)));
    listener.map_err(|source| WorkerError::Listen { addr, source })
}

async fn serve(
    worker: &Arc<Worker>,
    (listener, health): (std::net::TcpListener, Option<std::net::TcpListener>),
    transport: &Transport,
    stopping: &CancellationToken,
) -> Result<(), WorkerError> {
    let served = async {
        let listener = tokio::net::TcpListener::from_std(listener).map_err(WorkerError::Threads)?;
        let health = health.map(tokio::net::TcpListener::from_std).transpose().map_err(WorkerError::Threads)?;
        let asked = async {
            match health {
                Some(listener) => health::answer(listener, worker.vitals.clone()).await,
                None => std::future::pending().await,
            }
        };
        let told = async {
            stopping.cancelled().await;
            worker.leave();
        };
        let incoming = incoming(listener, transport);
        let serving = server().add_routes(routes(worker)).serve_with_incoming_shutdown(incoming, told);
        let too_long = async {
            stopping.cancelled().await;
            sleep(CLOSING).await;
        };
        tokio::select! {
            served = serving => served.map_err(WorkerError::Serve),
            () = too_long => Ok(()),
            () = asked => Ok(()),
        }
    };
    let served = served.await;
    worker.leave();
    // Work of an ended epoch is skipped, so there is room soon.
    let _ = timeout(Duration::from_secs(600), worker.compute.send(Command::Stop)).await;
    served
}
