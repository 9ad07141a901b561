//! An agent that answers probes and nothing else.

use std::net::SocketAddr;

use bytes::Bytes;
use lime_ring::{
    CONTROL_MESSAGE_BYTES, LONGEST_PROBE_REPLY, Transport, incoming,
    proto::{
        ConfigureProgress, ConfigureRequest, DrainReply, DrainRequest, ProbeReply, ProbeRequest, StatusReply,
        StatusRequest, StayReply, StayRequest,
        control_server::{Control, ControlServer},
    },
    server,
};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tonic::{Request, Response, Status};

use crate::error::ProfileError;

/// A running agent; it ends with this value.
#[derive(Debug)]
pub struct Listener {
    addr: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Listener {
    /// Where it listens.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops listening.
    pub async fn stop(self) {
        // It ends by itself where nobody listens to the word any more.
        let _ = self.stop.send(());
        self.task.abort();
        let _ = self.task.await;
    }
}

/// Answers probes at `addr` until stopped.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn listen(addr: SocketAddr) -> Result<Listener, ProfileError> {
    let fail = |source| ProfileError::Listen { addr, source };
    let listener = TcpListener::bind(addr).await.map_err(fail)?;
    let addr = listener.local_addr().map_err(fail)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let control = ControlServer::new(Probed)
        .max_decoding_message_size(CONTROL_MESSAGE_BYTES)
        .max_encoding_message_size(CONTROL_MESSAGE_BYTES);
    let task = tokio::spawn(async move {
        let ended = async {
            let _ = stopped.await;
        };
        let incoming = incoming(listener, &Transport::Plaintext);
        let served = server().add_service(control).serve_with_incoming_shutdown(incoming, ended).await;
        if let Err(error) = served {
            tracing::warn!(%error, "the agent that answers probes ended");
        }
    });
    Ok(Listener { addr, stop, task })
}

struct Probed;

fn no_worker() -> Status {
    Status::unimplemented("this agent answers probes only: start `lime worker` to serve")
}

#[tonic::async_trait]
impl Control for Probed {
    type ConfigureStream = tokio_stream::Empty<Result<ConfigureProgress, Status>>;

    async fn configure(&self, _: Request<ConfigureRequest>) -> Result<Response<Self::ConfigureStream>, Status> {
        Err(no_worker())
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        Ok(Response::new(StatusReply { phase: "profiling".to_owned(), ..StatusReply::default() }))
    }

    async fn probe(&self, request: Request<ProbeRequest>) -> Result<Response<ProbeReply>, Status> {
        let bytes = request.into_inner().reply_bytes as usize;
        if bytes > LONGEST_PROBE_REPLY {
            let message = format!("a reply of {bytes} bytes is too long, the most is {LONGEST_PROBE_REPLY}");
            return Err(Status::invalid_argument(message));
        }
        Ok(Response::new(ProbeReply { payload: Bytes::from(vec![0; bytes]) }))
    }

    async fn drain(&self, _: Request<DrainRequest>) -> Result<Response<DrainReply>, Status> {
        Err(no_worker())
    }

    async fn stay(&self, _: Request<StayRequest>) -> Result<Response<StayReply>, Status> {
        Err(no_worker())
    }
}
