//! Taking every worker to an epoch, all at once.

use std::time::Duration;

use tokio::{sync::mpsc, task::JoinSet, time::Instant};
use tonic::{Request, metadata::BinaryMetadataValue};

use super::{Demands, DriverError, RingTopology};
use crate::{
    checksum::Checksummed,
    connect::connect_until,
    fault::{GATEWAY_KEY, RingFault},
    proto::{ConfigureProgress, ConfigureRequest, Peer, control_client::ControlClient},
    settings::CONTROL_MESSAGE_BYTES,
    transport::Transport,
    version::Line,
};

type Reports = mpsc::UnboundedSender<(usize, ConfigureProgress)>;

/// Configures all; gives a connection to each, in ring order.
pub(super) async fn configure_all(
    topology: &RingTopology,
    epoch: u64,
    demands: &Demands,
    patience: Duration,
    mut progress: impl FnMut(&Peer, &ConfigureProgress),
) -> Result<Vec<Line>, DriverError> {
    if topology.peers.is_empty() {
        return Err(DriverError::Topology("it has no devices"));
    }
    if topology.head >= topology.peers.len() {
        return Err(DriverError::Topology("the head is on no device"));
    }
    let deadline = Instant::now() + patience;
    let (heard, mut hearing) = mpsc::unbounded_channel();
    // Dropped on the first error, the set ends the other configurations.
    let mut tasks = JoinSet::new();
    for (index, peer) in topology.peers.iter().enumerate() {
        let request = ConfigureRequest {
            epoch,
            plan_json: topology.plan_json.clone(),
            device: peer.device.clone(),
            peers: topology.peers.clone(),
            replaces: demands.replaces.get(&peer.device).copied().unwrap_or_default(),
            verify: demands.verify,
            checksum: 0,
        }
        .sealed();
        let mut request = Request::new(request);
        if let Some(name) = &demands.gateway {
            request.metadata_mut().insert_bin(GATEWAY_KEY, BinaryMetadataValue::from_bytes(name.as_bytes()));
        }
        tasks.spawn(configure_one(index, peer.clone(), topology.transport.clone(), request, deadline, heard.clone()));
    }
    let mut channels: Vec<Option<Line>> = vec![None; topology.peers.len()];
    loop {
        tokio::select! {
            biased;
            Some((index, message)) = hearing.recv() => progress(&topology.peers[index], &message),
            ended = tasks.join_next() => match ended {
                Some(Ok(result)) => {
                    let (index, channel) = result?;
                    channels[index] = Some(channel);
                }
                Some(Err(_)) => return Err(DriverError::Topology("configuring was cut short")),
                None => break,
            },
        }
    }
    Ok(channels.into_iter().flatten().collect())
}

async fn configure_one(
    index: usize,
    peer: Peer,
    transport: Transport,
    request: Request<ConfigureRequest>,
    deadline: Instant,
    heard: Reports,
) -> Result<(usize, Line), DriverError> {
    let refused = |status: &tonic::Status| DriverError::from_status(&peer.device, status);
    let channel = connect_until(&transport, &peer.uri, deadline)
        .await
        .map_err(|source| DriverError::Unreachable { device: peer.device.clone(), source })?;
    let mut client = ControlClient::new(channel.clone()).max_encoding_message_size(CONTROL_MESSAGE_BYTES);
    let mut stream = client.configure(request).await.map_err(|status| refused(&status))?.into_inner();
    let mut ready = false;
    while let Some(message) = stream.message().await.map_err(|status| refused(&status))? {
        ready = message.phase == "ready";
        // The receiver is gone only when the whole configuration is given up.
        let _ = heard.send((index, message));
    }
    if !ready {
        let why = "it ended its configuration without being ready";
        return Err(DriverError::Fault(RingFault::lost(&peer.device, why)));
    }
    Ok((index, channel))
}
