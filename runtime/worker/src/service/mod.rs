//! The gRPC services of a worker. They carry and check; the compute thread computes.

mod control;
mod driver;
mod enqueue;
mod keeper;
mod limited;
mod ring;

use std::sync::Arc;

use lime_ring::{
    CONTROL_MESSAGE_BYTES, KeepLimits,
    proto::{
        control_server::ControlServer, driver_server::DriverServer, keeper_server::KeeperServer,
        ring_server::RingServer,
    },
};
use tonic::service::Routes;

use self::{
    control::ControlService, driver::DriverService, keeper::KeeperService, limited::Limited, ring::RingService,
};
use crate::{session::Session, state::Worker};

/// Every service of `worker`.
pub(crate) fn routes(worker: &Arc<Worker>) -> Routes {
    let ring = Limited::new(worker.clone(), |worker| {
        let limit = message_limit(&worker, |session| session.limits.frame_message_bytes());
        RingServer::new(RingService::new(worker)).max_decoding_message_size(limit)
    });
    let driver = Limited::new(worker.clone(), |worker| {
        let decode = message_limit(&worker, |session| session.limits.pass_message_bytes());
        let encode = message_limit(&worker, |session| session.limits.result_message_bytes());
        DriverServer::new(DriverService::new(worker))
            .max_decoding_message_size(decode)
            .max_encoding_message_size(encode)
    });
    let keeper = Limited::new(worker.clone(), |worker| {
        let limit = message_limit(&worker, |session| KeepLimits::of(&session.plan).message_bytes());
        KeeperServer::new(KeeperService::new(worker)).max_decoding_message_size(limit).max_encoding_message_size(limit)
    });
    let control = ControlServer::new(ControlService::new(worker.clone()))
        .max_decoding_message_size(CONTROL_MESSAGE_BYTES)
        .max_encoding_message_size(CONTROL_MESSAGE_BYTES);
    Routes::new(ring).add_service(driver).add_service(keeper).add_service(control)
}

/// Before a plan sets limits, no message may be long.
fn message_limit(worker: &Worker, of: impl FnOnce(&Session) -> usize) -> usize {
    const WITHOUT_PLAN: usize = 64 << 10;
    worker.session().map_or(WITHOUT_PLAN, |session| of(&session))
}
