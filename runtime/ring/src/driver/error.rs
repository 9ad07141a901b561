//! What can go wrong between a driver and its ring.

use thiserror::Error;
use tonic::Status;

use crate::{
    check::FrameError,
    connect_error::ConnectError,
    fault::{RingFault, epoch_of},
};

/// A ring that cannot be driven, or no longer.
#[derive(Debug, Error)]
pub enum DriverError {
    /// The topology contradicts itself.
    #[error("the ring cannot be driven: {0}")]
    Topology(&'static str),
    /// A worker does not answer.
    #[error("device {device:?}: {source}")]
    Unreachable {
        /// The device.
        device: String,
        /// The address, and what happened.
        source: ConnectError,
    },
    /// A worker is at another epoch; the next configuration must be above `current`.
    #[error("device {device:?} is at epoch {current}: {reason}")]
    Epoch {
        /// The device.
        device: String,
        /// Its epoch.
        current: u64,
        /// What it said.
        reason: String,
    },
    /// A worker refuses what it was sent.
    #[error("device {device:?} refuses: {reason}")]
    Refused {
        /// The device.
        device: String,
        /// What it said.
        reason: String,
    },
    /// The ring broke: a device is lost or cannot go on.
    #[error(transparent)]
    Fault(RingFault),
    /// A pass that the ring would refuse.
    #[error("the pass breaks a rule: {0}")]
    Pass(#[from] FrameError),
    /// A slot is released or begun anew while a pass with it is on its way.
    #[error("KV slot {0} is still in a pass on its way; wait for its result first")]
    SlotBusy(u32),
    /// The ring is over; the result stream has the cause.
    #[error("epoch {epoch} of the ring is over; the result stream says why")]
    Closed {
        /// The epoch that ended.
        epoch: u64,
    },
}

impl DriverError {
    /// The device to blame, where one is.
    pub fn device(&self) -> Option<&str> {
        match self {
            Self::Unreachable { device, .. } | Self::Epoch { device, .. } | Self::Refused { device, .. } => {
                Some(device)
            }
            Self::Fault(fault) => Some(&fault.device),
            Self::Topology(_) | Self::Pass(_) | Self::SlotBusy(_) | Self::Closed { .. } => None,
        }
    }

    /// What a status from `device` means.
    pub(super) fn from_status(device: &str, status: &Status) -> Self {
        use tonic::Code;
        if let Some(fault) = RingFault::told(device, status) {
            return Self::Fault(fault);
        }
        let device = device.to_owned();
        let reason = status.message().to_owned();
        if let Some(current) = epoch_of(status.metadata()) {
            return Self::Epoch { device, current, reason };
        }
        match status.code() {
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::ResourceExhausted
            | Code::OutOfRange
            | Code::Unimplemented => Self::Refused { device, reason },
            _ => Self::Fault(RingFault::from_status(&device, status)),
        }
    }
}
