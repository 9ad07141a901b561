//! The conditions of a LimeDeployment, and how one cause travels to those that follow from it.

use std::collections::BTreeMap;

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use lime_api::ConditionType;

/// Most characters of a message: Kubernetes allows 32768, people read less.
const LONGEST_MESSAGE: usize = 1500;

/// Why something is as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// One word.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

impl Cause {
    /// A cause.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        // What others say goes in here too, and some of them say nothing.
        let said = !message.trim().is_empty();
        Self { reason, message: if said { message } else { format!("{reason}: no more is known") } }
    }
}

/// A refusal of the API server, with what to do about the one that is met most: that of a pod which mounts `folders` of its node.
pub fn advised(refusal: &str, folders: bool) -> String {
    if folders {
        return format!(
            "{refusal}; the pod mounts a folder of its node (a file:// source, or weightStore: host-path), which pod security \
             forbids in most namespaces: use a pvc:// or hf:// source, or label the namespace \
             pod-security.kubernetes.io/enforce=privileged"
        );
    }
    refusal.to_owned()
}

/// True, False or Unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Not known yet.
    Unknown,
}

impl Truth {
    const fn text(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// What was found of each condition.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    found: BTreeMap<ConditionType, (Truth, Cause)>,
    /// Conditions that hold for an earlier generation of the spec.
    earlier: BTreeMap<ConditionType, i64>,
}

impl Findings {
    /// Notes a finding.
    pub fn set(&mut self, condition: ConditionType, truth: Truth, cause: Cause) {
        self.found.insert(condition, (truth, cause));
    }

    /// Notes that a condition holds.
    pub fn holds(&mut self, condition: ConditionType, reason: &'static str, message: impl Into<String>) {
        self.set(condition, Truth::True, Cause::new(reason, message));
    }

    /// Notes that what was found of a condition is true of an earlier generation of the spec, and says nothing of this one.
    pub fn of_generation(&mut self, condition: ConditionType, generation: i64) {
        self.earlier.insert(condition, generation);
    }

    /// Notes that a condition does not hold.
    pub fn fails(&mut self, condition: ConditionType, cause: Cause) {
        self.set(condition, Truth::False, cause);
    }

    /// What was found of `condition`.
    pub fn get(&self, condition: ConditionType) -> Option<(Truth, &Cause)> {
        self.found.get(&condition).map(|(truth, cause)| (*truth, cause))
    }

    /// The first condition of the chain Accepted..ShardsReady that does not hold: the deepest cause.
    pub fn deepest(&self) -> Option<(ConditionType, &Cause)> {
        ConditionType::ALL.into_iter().take_while(|condition| *condition != ConditionType::Ready).find_map(
            |condition| match self.found.get(&condition) {
                Some((Truth::True, _)) => None,
                Some((_, cause)) => Some((condition, cause)),
                None => None,
            },
        )
    }

    /// Every condition, those that nobody looked at included. `lastTransitionTime` moves only with the status.
    pub fn into_conditions(mut self, before: &[Condition], generation: i64, now: Timestamp) -> Vec<Condition> {
        let deepest = self.deepest().map(|(condition, cause)| (condition, cause.clone()));
        if !self.found.contains_key(&ConditionType::Ready) {
            let cause = deepest.as_ref().map_or_else(
                || Cause::new("RingNotReady", "the ring has not answered a probe yet"),
                |(_, cause)| cause.clone(),
            );
            self.fails(ConditionType::Ready, cause);
        }
        for condition in ConditionType::ALL {
            if self.found.contains_key(&condition) {
                continue;
            }
            let finding = match (condition, &deepest) {
                (ConditionType::Degraded, _) => (Truth::False, Cause::new("AsPlanned", "nothing is amiss")),
                (ConditionType::Replanning, _) => (Truth::False, Cause::new("NoChange", "the plan stands")),
                (_, Some((first, _))) => {
                    (Truth::Unknown, Cause::new("Waiting", format!("waits until {first} is True")))
                }
                (_, None) => (Truth::Unknown, Cause::new("Waiting", "not known yet")),
            };
            self.found.insert(condition, finding);
        }
        let make = |condition: ConditionType| {
            let type_ = condition.to_string();
            let (truth, cause) = self.found.get(&condition).cloned()?;
            let status = truth.text().to_owned();
            let earlier = before.iter().find(|earlier| earlier.type_ == type_ && earlier.status == status);
            Some(Condition {
                last_transition_time: earlier.map_or(Time(now), |earlier| earlier.last_transition_time.clone()),
                message: cause.message.chars().take(LONGEST_MESSAGE).collect(),
                observed_generation: Some(self.earlier.get(&condition).copied().unwrap_or(generation)),
                reason: cause.reason.to_owned(),
                status,
                type_,
            })
        };
        ConditionType::ALL.into_iter().filter_map(make).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn all_are_set_at_the_first_visit_and_ready_names_the_deepest_cause() {
        let mut findings = Findings::default();
        findings.holds(ConditionType::Accepted, "Accepted", "fine");
        findings.fails(ConditionType::Profiled, Cause::new("NoAgent", "no agent runs"));
        let conditions = findings.into_conditions(&[], 3, at(5));
        assert_eq!(conditions.len(), ConditionType::ALL.len());
        let of = |type_: &str| conditions.iter().find(|condition| condition.type_ == type_).unwrap();
        assert_eq!((of("Ready").status.as_str(), of("Ready").reason.as_str()), ("False", "NoAgent"));
        assert_eq!(of("Planned").status, "Unknown");
        assert!(of("Planned").message.contains("Profiled"));
        assert_eq!(of("Degraded").status, "False");
        assert!(conditions.iter().all(|condition| condition.observed_generation == Some(3)));
    }

    #[test]
    fn the_time_moves_with_the_status_only() {
        let make = |truth, message: &str, before: &[Condition], now| {
            let mut findings = Findings::default();
            findings.set(ConditionType::Accepted, truth, Cause::new("R", message));
            findings.into_conditions(before, 1, at(now))
        };
        let first = make(Truth::True, "a", &[], 1);
        let second = make(Truth::True, "b", &first, 2);
        assert_eq!(second[0].last_transition_time, Time(at(1)));
        assert_eq!(second[0].message, "b");
        let third = make(Truth::False, "b", &second, 3);
        assert_eq!(third[0].last_transition_time, Time(at(3)));
    }
}
