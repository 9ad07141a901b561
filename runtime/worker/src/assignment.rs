//! A configuration request, checked: which device of which plan the worker is to be.

use bytes::Bytes;
use lime_plan::{DeviceIndex, Plan, PlanDraft};
use lime_ring::{
    LAST_EPOCH,
    proto::{ConfigureRequest, Peer},
};
use thiserror::Error;

/// A configuration that cannot be followed.
#[derive(Debug, Error)]
pub(crate) enum AssignmentError {
    /// The plan is not one.
    #[error("the plan cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// The plan breaks a rule.
    #[error("the plan breaks a rule: {0}")]
    Rule(#[from] lime_plan::PlanError),
    /// The worker is not in the plan.
    #[error("the plan has no device {name:?}; it has {known}")]
    NoSuchDevice {
        /// The name asked for.
        name: String,
        /// The names that it has.
        known: String,
    },
    /// Peers and devices differ.
    #[error("the peers must be the plan's devices in ring order: expected {expected}, found {found}")]
    Peers {
        /// The plan's devices.
        expected: String,
        /// The peers given.
        found: String,
    },
    /// Epochs start from 1 and do not end.
    #[error("epoch {0}: epochs are numbered from 1 to {LAST_EPOCH}")]
    Epoch(u64),
}

/// What a worker is to be.
#[derive(Clone, Debug)]
pub(crate) struct Assignment {
    pub(crate) epoch: u64,
    pub(crate) plan_json: Bytes,
    pub(crate) plan: Plan,
    pub(crate) device: DeviceIndex,
    pub(crate) peers: Vec<Peer>,
    /// The epoch that whoever asks knows of and gives up for this one; 0 for none.
    pub(crate) replaces: u64,
    /// Every block that is used is to be compared before anything is computed.
    pub(crate) verify: bool,
    /// The name of the gateway that asks, where it has one.
    pub(crate) gateway: Option<String>,
}

impl Assignment {
    pub(crate) fn check(request: ConfigureRequest) -> Result<Self, AssignmentError> {
        let ConfigureRequest { epoch, plan_json, device: name, peers, replaces, verify, checksum: _ } = request;
        if !(1..=LAST_EPOCH).contains(&epoch) {
            return Err(AssignmentError::Epoch(epoch));
        }
        let plan = Plan::try_from(serde_json::from_slice::<PlanDraft>(&plan_json)?)?;
        let names = || plan.devices.iter().map(|device| device.name.as_str());
        let Some((device, _)) = plan.device(&name) else {
            return Err(AssignmentError::NoSuchDevice { name, known: listed(names()) });
        };
        if !names().eq(peers.iter().map(|peer| peer.device.as_str())) {
            let found = listed(peers.iter().map(|peer| peer.device.as_str()));
            return Err(AssignmentError::Peers { expected: listed(names()), found });
        }
        Ok(Self { epoch, plan_json, plan, device, peers, replaces, verify, gateway: None })
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}
