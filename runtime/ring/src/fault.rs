//! Why an epoch of a ring ended, and how that travels: as a gRPC status against the direction of the ring, as a last frame
//! along it, so that the gateway learns the first cause wherever it listens.

use std::{error::Error, fmt, sync::Arc};

use tonic::{
    Code, Status,
    metadata::{BinaryMetadataValue, MetadataMap, MetadataValue},
};

use crate::{
    innermost::innermost,
    proto::{FailureKind, Frame},
};

/// The metadata key that names a stream's epoch.
pub const EPOCH_KEY: &str = "lime-epoch";
/// The metadata key that names the device that asks another about KV pages.
pub const ASKER_KEY: &str = "lime-asker-bin";
/// The metadata key that names the gateway that configures.
pub const GATEWAY_KEY: &str = "lime-gateway-bin";
/// Most bytes of a gateway's name that are kept.
const LONGEST_NAME: usize = 253;
const DEVICE_KEY: &str = "lime-device-bin";
const KIND_KEY: &str = "lime-fault";
const SEEN_BY_KEY: &str = "lime-seen-by-bin";
const FAILURE_KEY: &str = "lime-failure";

/// The sort of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// A device no longer answers, or has stopped.
    Lost,
    /// A device answers but cannot go on.
    Failed,
    /// A newer epoch began.
    Superseded,
    /// Two builds that do not speak the same wire.
    Version,
}

impl FaultKind {
    const ALL: [Self; 4] = [Self::Lost, Self::Failed, Self::Superseded, Self::Version];

    const fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
            Self::Version => "version",
        }
    }

    const fn code(self) -> Code {
        match self {
            Self::Lost => Code::Unavailable,
            Self::Failed => Code::Internal,
            Self::Superseded | Self::Version => Code::FailedPrecondition,
        }
    }
}

/// Why an epoch ended, and which device is to blame.
#[derive(Clone, Debug)]
pub struct RingFault {
    /// The sort.
    pub kind: FaultKind,
    /// The device.
    pub device: String,
    /// The device that misses it, where it is one that says so: the two may be well, and the way between them be cut.
    pub seen_by: Option<String>,
    /// What may be done about it, where that is known.
    pub failure: FailureKind,
    /// A sentence for people, the device named in it.
    pub reason: String,
    /// What it came from, where that happened here.
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl fmt::Display for RingFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

// By hand: a derived source would be the shared pointer, of which nobody can ask what fault it holds.
impl Error for RingFault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Two faults are the same if they say the same; what they came from does not travel.
impl PartialEq for RingFault {
    fn eq(&self, other: &Self) -> bool {
        let said = |fault: &Self| (fault.kind, fault.failure);
        said(self) == said(other)
            && (&self.device, &self.seen_by, &self.reason) == (&other.device, &other.seen_by, &other.reason)
    }
}

impl Eq for RingFault {}

impl RingFault {
    fn of(device: &str, reason: String) -> Self {
        let failure = FailureKind::Unspecified;
        Self { kind: FaultKind::Lost, device: device.to_owned(), seen_by: None, failure, reason, source: None }
    }

    /// The same fault, which came from `source`.
    #[must_use]
    pub fn caused_by(self, source: impl Error + Send + Sync + 'static) -> Self {
        Self { source: Some(Arc::new(source)), ..self }
    }

    /// The same fault, of which is known what may be done about it.
    #[must_use]
    pub fn because(self, failure: FailureKind) -> Self {
        Self { failure, ..self }
    }

    /// A build that does not speak our wire. Who refuses it does not know its name.
    pub(crate) fn version(reason: String) -> Self {
        Self { kind: FaultKind::Version, ..Self::of("", reason) }
    }

    /// `device` is gone.
    pub fn lost(device: &str, why: &str) -> Self {
        let reason = format!("device {device:?} is lost: {why}");
        Self { kind: FaultKind::Lost, ..Self::of(device, reason) }
    }

    /// `device` does not answer the device `by`.
    pub fn missed(by: &str, device: &str, why: &str) -> Self {
        let reason = format!("device {by:?} has lost device {device:?}: {why}");
        Self { kind: FaultKind::Lost, seen_by: Some(by.to_owned()), ..Self::of(device, reason) }
    }

    /// `device` cannot go on.
    pub fn failed(device: &str, why: &str) -> Self {
        let reason = format!("device {device:?} cannot go on: {why}");
        Self { kind: FaultKind::Failed, ..Self::of(device, reason) }
    }

    /// `device` went from epoch `old` to epoch `new`.
    pub fn superseded(device: &str, old: u64, new: u64) -> Self {
        let reason = format!("epoch {old} is over: device {device:?} is at epoch {new}");
        Self { kind: FaultKind::Superseded, ..Self::of(device, reason) }
    }

    /// As the status that ends a stream.
    pub fn status(&self) -> Status {
        let mut metadata = MetadataMap::new();
        metadata.insert_bin(DEVICE_KEY, BinaryMetadataValue::from_bytes(self.device.as_bytes()));
        metadata.insert(KIND_KEY, MetadataValue::from_static(self.kind.name()));
        if self.failure != FailureKind::Unspecified {
            metadata.insert(FAILURE_KEY, MetadataValue::from(self.failure as i32));
        }
        if let Some(by) = &self.seen_by {
            metadata.insert_bin(SEEN_BY_KEY, BinaryMetadataValue::from_bytes(by.as_bytes()));
        }
        Status::with_metadata(self.kind.code(), self.reason.clone(), metadata)
    }

    /// What the status of a stream from `peer` says; a status without a named fault means that `peer` itself is lost.
    pub fn from_status(peer: &str, status: &Status) -> Self {
        Self::told(peer, status).unwrap_or_else(|| Self::lost(peer, &explain(status)).caused_by(status.clone()))
    }

    /// The same where the device `by` has the stream.
    pub fn seen(by: &str, peer: &str, status: &Status) -> Self {
        Self::told(peer, status).unwrap_or_else(|| Self::missed(by, peer, &explain(status)).caused_by(status.clone()))
    }

    /// The fault that a status from `peer` names, if it names one. Who refuses the version of another does not know its name.
    pub fn told(peer: &str, status: &Status) -> Option<Self> {
        let fault = Self::named_in(status)?;
        if !fault.device.is_empty() {
            return Some(fault);
        }
        let reason = format!("device {peer:?} and who asks it do not understand each other: {}", fault.reason);
        Some(Self { device: peer.to_owned(), reason, ..fault })
    }

    /// The fault that a status names, if it names one.
    fn named_in(status: &Status) -> Option<Self> {
        let metadata = status.metadata();
        let name = metadata.get(KIND_KEY)?.to_str().ok()?;
        let kind = FaultKind::ALL.into_iter().find(|kind| kind.name() == name)?;
        let device = metadata.get_bin(DEVICE_KEY)?.to_bytes().ok()?;
        let text = |bytes: bytes::Bytes| String::from_utf8_lossy(&bytes).into_owned();
        let seen_by = metadata.get_bin(SEEN_BY_KEY).and_then(|by| by.to_bytes().ok()).map(text);
        let failure = metadata.get(FAILURE_KEY).and_then(|kind| kind.to_str().ok()?.parse::<i32>().ok());
        let failure = failure.and_then(|kind| FailureKind::try_from(kind).ok()).unwrap_or_default();
        Some(Self { kind, seen_by, failure, ..Self::of(&text(device), status.message().to_owned()) })
    }

    /// As the last frame to the successor.
    pub fn frame(&self, epoch: u64) -> Frame {
        Frame {
            epoch,
            lost: self.device.clone(),
            lost_by: self.seen_by.clone().unwrap_or_default(),
            failure: self.reason.clone(),
            failure_kind: self.failure.into(),
            ..Frame::default()
        }
    }

    /// The fault that a last frame carries, if it is one.
    pub fn from_frame(frame: &Frame) -> Option<Self> {
        (frame.pass == 0 && !frame.lost.is_empty()).then(|| Self {
            kind: FaultKind::Lost,
            seen_by: Some(frame.lost_by.clone()).filter(|by| !by.is_empty()),
            failure: frame.failure_kind(),
            ..Self::of(&frame.lost, frame.failure.clone())
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

/// The gateway that a request's metadata says is asking.
pub fn gateway_of(metadata: &MetadataMap) -> Option<String> {
    let name = metadata.get_bin(GATEWAY_KEY)?.to_bytes().ok()?;
    let name = String::from_utf8(name.to_vec()).ok()?;
    (!name.is_empty() && name.len() <= LONGEST_NAME).then_some(name)
}

/// A status for people: its message, and the innermost cause where the transport broke.
pub(crate) fn explain(status: &Status) -> String {
    let cause = innermost(status);
    if cause.contains(status.message()) { cause } else { format!("{} ({cause})", status.message()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_survives_both_ways() {
        for fault in [RingFault::lost("küche", "connection reset"), RingFault::missed("flur", "küche", "no answer")] {
            let fault = fault.because(FailureKind::DiskFull);
            assert_eq!(RingFault::from_status("other", &fault.status()), fault);
            assert_eq!(RingFault::seen("me", "other", &fault.status()), fault, "who saw it first is named");
            assert_eq!(RingFault::from_frame(&fault.frame(3)), Some(fault));
        }
        assert_eq!(RingFault::from_frame(&Frame::default()), None);
        let superseded = RingFault::superseded("a", 1, 2);
        assert_eq!(RingFault::from_status("b", &superseded.status()), superseded);
    }

    #[test]
    fn a_bare_status_blames_the_peer() {
        let fault = RingFault::from_status("b", &Status::unavailable("connection reset"));
        assert_eq!((fault.kind, fault.device.as_str(), &fault.seen_by), (FaultKind::Lost, "b", &None));
        let seen = RingFault::seen("a", "b", &Status::unavailable("connection reset"));
        assert_eq!((seen.device.as_str(), seen.seen_by.as_deref()), ("b", Some("a")));
        assert!(seen.reason.contains("\"a\" has lost device \"b\""), "{}", seen.reason);
        assert!(fault.reason.contains("connection reset"), "{}", fault.reason);
        let source = fault.source().and_then(|source| source.downcast_ref::<Status>());
        assert!(source.is_some_and(|status| status.code() == Code::Unavailable), "the cause is kept: {fault:?}");
    }

    #[test]
    fn a_refused_epoch_names_both_numbers() {
        let status = wrong_epoch("a", 4, 7);
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(status.message().contains('4') && status.message().contains('7'));
        assert_eq!(epoch_of(status.metadata()), Some(7));
    }
}
