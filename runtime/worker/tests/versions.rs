//! Members of different wires refuse each other by name, whichever of the two is the newer one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{anywhere, config};
use lime_ring::{
    DriverError, FaultKind, Transport, Version,
    proto::{
        ConfigureProgress, ConfigureRequest, DrainReply, DrainRequest, Peer, ProbeReply, ProbeRequest, StatusReply,
        StatusRequest, StayReply, StayRequest,
        control_client::ControlClient,
        control_server::{Control, ControlServer},
    },
    status,
};
use lime_worker::{fake::FakeLoader, start_with};
use tokio::net::TcpListener;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Code, Request, Response, Status, transport::Channel};

/// A worker of a build that knows nothing of versions.
struct Old;

#[tonic::async_trait]
impl Control for Old {
    type ConfigureStream = ReceiverStream<Result<ConfigureProgress, Status>>;

    async fn configure(&self, _: Request<ConfigureRequest>) -> Result<Response<Self::ConfigureStream>, Status> {
        Err(Status::internal("it understood"))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        Ok(Response::new(StatusReply::default()))
    }

    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeReply>, Status> {
        Err(Status::internal("it understood"))
    }

    async fn drain(&self, _: Request<DrainRequest>) -> Result<Response<DrainReply>, Status> {
        Err(Status::internal("it understood"))
    }

    async fn stay(&self, _: Request<StayRequest>) -> Result<Response<StayReply>, Status> {
        Err(Status::internal("it understood"))
    }
}

#[tokio::test]
async fn a_member_that_does_not_say_what_it_speaks_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = Peer { device: "old".into(), uri: format!("http://{}", listener.local_addr().unwrap()) };
    let server = tonic::transport::Server::builder().add_service(ControlServer::new(Old));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let refused = status(&Transport::Plaintext, &peer).await.unwrap_err();
    let DriverError::Fault(fault) = &refused else { panic!("{refused:?}") };
    assert_eq!((fault.kind, fault.device.as_str()), (FaultKind::Version, "old"));
    assert!(fault.reason.contains(&Version::own().to_string()), "{}", fault.reason);
    assert!(fault.reason.contains("does not say which wire"), "{}", fault.reason);
}

#[tokio::test]
async fn who_asks_in_another_wire_is_refused_and_told_both() {
    let worker = start_with(config("a"), Box::new(FakeLoader::default()), anywhere()).await.unwrap();
    let channel = Channel::from_shared(format!("http://{}", worker.addr())).unwrap().connect().await.unwrap();
    for (wire, build, told) in
        [(None, None, "does not say which wire"), (Some(7), Some("9.9.9"), "LIME 9.9.9 (wire 7)")]
    {
        let mut request = Request::new(StatusRequest {});
        if let (Some(wire), Some(build)) = (wire, build) {
            request.metadata_mut().insert("lime-wire", wire.into());
            request.metadata_mut().insert("lime-build", tonic::metadata::MetadataValue::from_static(build));
        }
        let refused = ControlClient::new(channel.clone()).status(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains(told), "{}", refused.message());
        assert!(refused.message().contains(&Version::own().to_string()), "{}", refused.message());
    }
    // Its own kind is let in.
    let peer = Peer { device: "a".into(), uri: format!("http://{}", worker.addr()) };
    assert_eq!(status(&Transport::Plaintext, &peer).await.unwrap().phase, "idle");
    worker.stop().await.unwrap();
}
