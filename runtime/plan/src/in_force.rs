//! A plan in force, as the operator hands it to the gateway: the plan, its place in the succession of plans, and where its
//! workers are. It is one file, so that nobody ever meets a plan with the addresses of another.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::{
    arithmetic::Arithmetic,
    card::{BlockBytes, ModelCard},
    dtype::Dtype,
    encoding::Encoding,
    plan::Plan,
    plan_draft::PlanDraft,
    plan_error::PlanError,
    units::Bytes,
};

/// Longest name of a plan: what Kubernetes allows.
const LONGEST_NAME: usize = 253;

/// A plan in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanInForce {
    /// The plan's name: that of its LimePlan.
    pub name: String,
    /// Rises with each plan that comes into force: a reader follows no plan of a lower one than it has seen.
    pub generation: u64,
    /// Where each device's worker is reached, as `http://HOST:PORT`, or `https://` with mutual TLS. Devices whose workers have no
    /// address yet are left out.
    pub workers: BTreeMap<String, String>,
    /// The plan.
    pub plan: Plan,
}

/// The file, its plan not yet looked at.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    name: String,
    generation: u64,
    workers: BTreeMap<String, String>,
    plan: PlanDraft,
}

/// What tokens depend on besides weights, prompt and seed: answers can go on by another plan if both are equal in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenBasis {
    model: ModelCard,
    arithmetic: Arithmetic,
    residual: Dtype,
    kv: Dtype,
}

impl TokenBasis {
    /// That of `plan`. How the blocks' bytes are kept is no part of it: compact weights give the same bits.
    pub fn of(plan: &PlanDraft) -> Self {
        let none = BlockBytes {
            embedding: Bytes(0),
            attention: Vec::new(),
            mlp: Vec::new(),
            head: Bytes(0),
            head_beside_embedding: Bytes(0),
        };
        let model = ModelCard { blocks: none, encoding: Encoding::Raw, compact: None, ..plan.model.clone() };
        Self { model, arithmetic: plan.arithmetic, residual: plan.residual, kv: plan.kv }
    }
}

/// A file that holds no plan in force.
#[derive(Debug, Error)]
pub enum PlanInForceError {
    /// Not the JSON that is written, or not all of it.
    #[error("it cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The plan breaks a rule.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The name is not that of an object.
    #[error("{0:?} is no name of a plan")]
    Name(String),
    /// An address for nobody.
    #[error("it names a worker for {0:?}, which is no device of its plan")]
    Device(String),
}

impl PlanInForce {
    /// Reads and checks what [`Self::to_json`] wrote.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn from_json(text: &str) -> Result<Self, PlanInForceError> {
        let Written { name, generation, workers, plan } = serde_json::from_str(text)?;
        let found = Self { name, generation, workers, plan: Plan::try_from(plan)? };
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if !(1..=LONGEST_NAME).contains(&found.name.len()) || !found.name.bytes().all(allowed) {
            return Err(PlanInForceError::Name(found.name.chars().take(LONGEST_NAME).collect()));
        }
        match found.workers.keys().find(|device| found.plan.device(device).is_none()) {
            Some(unknown) => Err(PlanInForceError::Device(unknown.clone())),
            None => Ok(found),
        }
    }

    /// The file's text.
    ///
    /// # Errors
    /// When the plan has no JSON form.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// Names a file's text: the first 16 hexadecimal digits of its SHA-256. A gateway reports it, and the operator compares.
    pub fn digest(text: &str) -> String {
        Sha256::digest(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, DeviceBudget, PlanRequest, proportional};
    use crate::{arithmetic::Arithmetic, dtype::Dtype, serving_limits::ServingLimits, units::Bytes};

    fn in_force() -> PlanInForce {
        let device = |name: &str| DeviceBudget { name: name.into(), memory: Bytes::gib(64) };
        let devices = [device("a"), device("b")];
        let request = PlanRequest {
            model: &testing::small_card(&mut testing::Random::new(1), 4),
            devices: &devices,
            serving: ServingLimits { max_context_tokens: 64, max_concurrent_requests: 2, prefill_chunk_tokens: 16 },
            segments: 2,
            arithmetic: Arithmetic::Exact,
            residual: Dtype::F32,
            kv: Dtype::F32,
        };
        PlanInForce {
            name: "bard-12345678".into(),
            generation: 7,
            workers: BTreeMap::from([("b".into(), "http://10.0.0.2:7000".into())]),
            plan: proportional(&request).unwrap(),
        }
    }

    #[test]
    fn what_is_written_is_read_and_every_beginning_of_it_is_refused() {
        let written = in_force();
        let text = written.to_json().unwrap();
        assert_eq!(PlanInForce::from_json(&text).unwrap(), written);
        assert_eq!(PlanInForce::digest(&text).len(), 16);
        for end in 0..text.len() {
            assert!(PlanInForce::from_json(&text[..end]).is_err(), "{end} of {}", text.len());
        }
    }

    #[test]
    fn encodings_and_devices_are_no_part_of_what_tokens_depend_on() {
        let plan = in_force().plan.into_draft();
        let mut changed = plan.clone();
        changed.model.compact = Some(BlockBytes { head: Bytes(1), ..plan.model.blocks.clone() });
        changed.model = changed.model.compacted().unwrap();
        changed.devices.pop();
        changed.serving.max_context_tokens = 32;
        assert_eq!(TokenBasis::of(&changed), TokenBasis::of(&plan));
        for change in [(|plan| plan.kv = Dtype::F16) as fn(&mut PlanDraft), |plan| plan.model.parameters += 1] {
            let mut other = plan.clone();
            change(&mut other);
            assert_ne!(TokenBasis::of(&other), TokenBasis::of(&plan));
        }
    }

    #[test]
    fn what_breaks_a_rule_is_refused() {
        let refused = |change: fn(&mut serde_json::Value)| {
            let mut changed = serde_json::to_value(in_force()).unwrap();
            change(&mut changed);
            PlanInForce::from_json(&changed.to_string()).unwrap_err()
        };
        let rule = refused(|it| it["plan"]["segments"] = 0.into());
        assert!(matches!(rule, PlanInForceError::Plan(PlanError::Empty("segments"))), "{rule}");
        let version = refused(|it| it["plan"]["version"] = 99.into());
        assert!(matches!(version, PlanInForceError::Plan(PlanError::Version { found: 99 })), "{version}");
        assert!(refused(|it| it["name"] = "".into()).to_string().contains("no name"));
        assert!(refused(|it| it["name"] = "a\"} 1".into()).to_string().contains("no name"));
        assert!(refused(|it| it["workers"]["c"] = "http://c:7000".into()).to_string().contains("\"c\""));
    }
}
