//! Passes in, results out.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming, metadata::MetadataValue};

use super::{DriverError, RingTopology};
use crate::{
    checksum::{Checksummed, NOT_AS_SENT},
    fault::{EPOCH_KEY, RingFault},
    limits::FrameLimits,
    proto::{Ack, Pass, PassResult, ResultsRequest, Rows, driver_client::DriverClient},
    settings::MAX_IN_FLIGHT,
    version::Line,
};

/// Opens both streams over the connections that configured the workers.
pub(super) async fn open(
    topology: &RingTopology,
    epoch: u64,
    channels: &[Line],
) -> Result<(PassSubmitter, ResultStream), DriverError> {
    let limits = topology.limits;
    let (Some(first), Some(head)) = (channels.first(), channels.get(topology.head)) else {
        return Err(DriverError::Topology("a device has no connection"));
    };
    let first_device = topology.peers[0].device.clone();
    let head_device = topology.peers[topology.head].device.clone();

    let mut client = DriverClient::new(head.clone()).max_decoding_message_size(limits.result_message_bytes());
    let results = client.results(ResultsRequest { epoch }).await;
    let results = results.map_err(|status| DriverError::from_status(&head_device, &status))?;

    let (passes, queue) = mpsc::channel(MAX_IN_FLIGHT);
    let mut request = Request::new(ReceiverStream::new(queue));
    request.metadata_mut().insert(EPOCH_KEY, MetadataValue::from(epoch));
    let mut client = DriverClient::new(first.clone()).max_encoding_message_size(limits.pass_message_bytes());
    let acks = client.submit(request).await;
    let acks = acks.map_err(|status| DriverError::from_status(&first_device, &status))?;

    let flight = Arc::new(Flight { room: Semaphore::new(MAX_IN_FLIGHT), slots: Mutex::default() });
    let submitter = PassSubmitter { epoch, limits, last: 0, passes, flight: flight.clone() };
    let results = ResultStream {
        epoch,
        results: results.into_inner(),
        acks: acks.into_inner(),
        first_device,
        head_device,
        flight,
        over: false,
    };
    Ok((submitter, results))
}

/// The passes on their way.
#[derive(Debug)]
struct Flight {
    room: Semaphore,
    slots: Mutex<InFlight>,
}

#[derive(Debug, Default)]
struct InFlight {
    passes: VecDeque<Vec<u32>>,
    of_slot: HashMap<u32, u32>,
}

impl Flight {
    fn lock(&self) -> MutexGuard<'_, InFlight> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InFlight {
    fn begin(&mut self, rows: &[Rows]) {
        let slots: Vec<u32> = rows.iter().map(|rows| rows.slot).collect();
        for slot in &slots {
            *self.of_slot.entry(*slot).or_default() += 1;
        }
        self.passes.push_back(slots);
    }

    fn finish(&mut self) {
        for slot in self.passes.pop_front().unwrap_or_default() {
            if let Some(count) = self.of_slot.get_mut(&slot) {
                *count -= 1;
                if *count == 0 {
                    self.of_slot.remove(&slot);
                }
            }
        }
    }

    fn busy(&self, slot: u32) -> bool {
        self.of_slot.contains_key(&slot)
    }
}

/// Sends passes to the first device.
#[derive(Debug)]
pub struct PassSubmitter {
    epoch: u64,
    limits: FrameLimits,
    last: u64,
    passes: mpsc::Sender<Pass>,
    flight: Arc<Flight>,
}

impl PassSubmitter {
    /// Sends a pass and gives its number: 1, 2, 3, ... Several may be on their way; their results come in the same order.
    /// Waits while [`MAX_IN_FLIGHT`] are. `release` frees KV slots before the pass; a slot that is released or begun anew
    /// (`start` 0, or a `prefix`) must not be in a pass whose result is still to come.
    ///
    /// # Errors
    /// When the pass breaks a rule of the wire (it is not sent, the ring goes on), or the ring is over.
    pub async fn submit(&mut self, rows: Vec<Rows>, tokens: Vec<u32>, release: Vec<u32>) -> Result<u64, DriverError> {
        self.send(Pass { rows, tokens, release, ..Pass::default() }).await
    }

    /// The same for a pass that keeps pages, or has some forgotten; its epoch, number and checksum are set here. Pages that are kept are
    /// of passes whose results have come.
    ///
    /// # Errors
    /// As [`PassSubmitter::submit`].
    pub async fn send(&mut self, pass: Pass) -> Result<u64, DriverError> {
        let pass = Pass { epoch: self.epoch, pass: self.last + 1, checksum: 0, ..pass };
        self.limits.check_pass(&pass)?;
        self.check_slots(&pass)?;
        let closed = DriverError::Closed { epoch: self.epoch };
        let Ok(room) = self.flight.room.acquire().await else { return Err(closed) };
        let Ok(place) = self.passes.reserve().await else { return Err(closed) };
        room.forget();
        self.flight.lock().begin(&pass.rows);
        self.last = pass.pass;
        place.send(pass.sealed());
        Ok(self.last)
    }

    fn check_slots(&self, pass: &Pass) -> Result<(), DriverError> {
        let begins = |rows: &&Rows| rows.start == 0 || !rows.prefix.is_empty();
        let anew = pass.rows.iter().filter(begins).map(|rows| rows.slot);
        let flight = self.flight.lock();
        let mut touched = anew.chain(pass.release.iter().copied());
        touched.find(|slot| flight.busy(*slot)).map_or(Ok(()), |slot| Err(DriverError::SlotBusy(slot)))
    }
}

/// Takes results from the head's device.
#[derive(Debug)]
pub struct ResultStream {
    epoch: u64,
    results: Streaming<PassResult>,
    acks: Streaming<Ack>,
    first_device: String,
    head_device: String,
    flight: Arc<Flight>,
    over: bool,
}

impl ResultStream {
    /// The next result, in the order of the passes. A pass that failed is a result with `failure`, and the ring goes on.
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// When the ring is over: the first cause, with the device to blame. Every later call says that it is closed.
    pub async fn next(&mut self) -> Result<PassResult, DriverError> {
        if self.over {
            return Err(DriverError::Closed { epoch: self.epoch });
        }
        let error = loop {
            tokio::select! {
                biased;
                result = self.results.message() => match result {
                    Ok(Some(result)) => {
                        let Some(result) = result.unsealed() else {
                            break DriverError::Fault(RingFault::lost(&self.head_device, NOT_AS_SENT));
                        };
                        self.flight.lock().finish();
                        self.flight.room.add_permits(1);
                        return Ok(result);
                    }
                    Ok(None) => break ended(&self.head_device),
                    Err(status) => break DriverError::from_status(&self.head_device, &status),
                },
                ack = self.acks.message() => match ack {
                    Ok(Some(_)) => {}
                    Ok(None) => break ended(&self.first_device),
                    Err(status) => break DriverError::from_status(&self.first_device, &status),
                },
            }
        };
        self.over = true;
        self.flight.room.close();
        Err(error)
    }
}

fn ended(device: &str) -> DriverError {
    DriverError::Fault(RingFault::lost(device, "it ended its stream"))
}
