//! Why an epoch of a ring ended, and how that travels: as a gRPC status against the direction of the ring, as a last frame
//! along it, so that the gateway learns the first cause wherever it listens.

use tonic::{
    Code, Status,
    metadata::{BinaryMetadataValue, MetadataMap, MetadataValue},
};

use crate::proto::Frame;

/// The metadata key that names a stream's epoch.
pub const EPOCH_KEY: &str = "lime-epoch";
/// The metadata key that names the device that asks another about KV pages.
pub const ASKER_KEY: &str = "lime-asker-bin";
const DEVICE_KEY: &str = "lime-device-bin";
const KIND_KEY: &str = "lime-fault";

/// The sort of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// A device no longer answers, or has stopped.
    Lost,
    /// A device answers but cannot go on.
    Failed,
    /// A newer epoch began.
    Superseded,
}

impl FaultKind {
    const ALL: [Self; 3] = [Self::Lost, Self::Failed, Self::Superseded];

    const fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
        }
    }

    const fn code(self) -> Code {
        match self {
            Self::Lost => Code::Unavailable,
            Self::Failed => Code::Internal,
            Self::Superseded => Code::FailedPrecondition,
        }
    }
}

/// Why an epoch ended, and which device is to blame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingFault {
    /// The sort.
    pub kind: FaultKind,
    /// The device.
    pub device: String,
    /// A sentence for people, the device named in it.
    pub reason: String,
}

impl RingFault {
    /// `device` is gone.
    pub fn lost(device: &str, why: &str) -> Self {
        let reason = format!("device {device:?} is lost: {why}");
        Self { kind: FaultKind::Lost, device: device.to_owned(), reason }
    }

    /// `device` cannot go on.
    pub fn failed(device: &str, why: &str) -> Self {
        let reason = format!("device {device:?} cannot go on: {why}");
        Self { kind: FaultKind::Failed, device: device.to_owned(), reason }
    }

    /// `device` went from epoch `old` to epoch `new`.
    pub fn superseded(device: &str, old: u64, new: u64) -> Self {
        let reason = format!("epoch {old} is over: device {device:?} is at epoch {new}");
        Self { kind: FaultKind::Superseded, device: device.to_owned(), reason }
    }

    /// As the status that ends a stream.
    pub fn status(&self) -> Status {
        let mut metadata = MetadataMap::new();
        metadata.insert_bin(DEVICE_KEY, BinaryMetadataValue::from_bytes(self.device.as_bytes()));
        metadata.insert(KIND_KEY, MetadataValue::from_static(self.kind.name()));
        Status::with_metadata(self.kind.code(), self.reason.clone(), metadata)
    }

    /// What the status of a stream from `peer` says; a status without a named fault means that `peer` itself is lost.
    pub fn from_status(peer: &str, status: &Status) -> Self {
        Self::named_in(status).unwrap_or_else(|| Self::lost(peer, &explain(status)))
    }

    /// The fault that a status names, if it names one.
    pub fn named_in(status: &Status) -> Option<Self> {
        let metadata = status.metadata();
        let name = metadata.get(KIND_KEY)?.to_str().ok()?;
        let kind = FaultKind::ALL.into_iter().find(|kind| kind.name() == name)?;
        let device = metadata.get_bin(DEVICE_KEY)?.to_bytes().ok()?;
        let device = String::from_utf8_lossy(&device).into_owned();
        Some(Self { kind, device, reason: status.message().to_owned() })
    }

    /// As the last frame to the successor.
    pub fn frame(&self, epoch: u64) -> Frame {
        Frame { epoch, lost: self.device.clone(), failure: self.reason.clone(), ..Frame::default() }
    }

    /// The fault that a last frame carries, if it is one.
    pub fn from_frame(frame: &Frame) -> Option<Self> {
        (frame.pass == 0 && !frame.lost.is_empty()).then(|| Self {
            kind: FaultKind::Lost,
            device: frame.lost.clone(),
            reason: frame.failure.clone(),
        })
    }
}

/// The refusal of a message or stream of epoch `found` at a device that is at epoch `current`.
pub fn wrong_epoch(device: &str, found: u64, current: u64) -> Status {
    let message = format!("the message is of epoch {found}, device {device:?} is at epoch {current}");
    let mut status = Status::failed_precondition(message);
    status.metadata_mut().insert(EPOCH_KEY, MetadataValue::from(current));
    status
}

/// The epoch that a request's or a status's metadata names.
pub fn epoch_of(metadata: &MetadataMap) -> Option<u64> {
    metadata.get(EPOCH_KEY)?.to_str().ok()?.parse().ok()
}

/// The device that a request's metadata says is asking.
pub fn asker_of(metadata: &MetadataMap) -> Option<String> {
    let name = metadata.get_bin(ASKER_KEY)?.to_bytes().ok()?;
    String::from_utf8(name.to_vec()).ok()
}

/// A status for people: its message, and the innermost cause where the transport broke.
pub(crate) fn explain(status: &Status) -> String {
    let cause = crate::connect::innermost(status);
    if cause.contains(status.message()) { cause } else { format!("{} ({cause})", status.message()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_survives_both_ways() {
        let fault = RingFault::lost("küche", "connection reset");
        assert_eq!(RingFault::from_status("other", &fault.status()), fault);
        assert_eq!(RingFault::from_frame(&fault.frame(3)), Some(fault));
        assert_eq!(RingFault::from_frame(&Frame::default()), None);
        let superseded = RingFault::superseded("a", 1, 2);
        assert_eq!(RingFault::from_status("b", &superseded.status()), superseded);
    }

    #[test]
    fn a_bare_status_blames_the_peer() {
        let fault = RingFault::from_status("b", &Status::unavailable("connection reset"));
        assert_eq!((fault.kind, fault.device.as_str()), (FaultKind::Lost, "b"));
        assert!(fault.reason.contains("connection reset"), "{}", fault.reason);
    }

    #[test]
    fn a_refused_epoch_names_both_numbers() {
        let status = wrong_epoch("a", 4, 7);
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(status.message().contains('4') && status.message().contains('7'));
        assert_eq!(epoch_of(status.metadata()), Some(7));
    }
}
