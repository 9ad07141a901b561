//! The Plan: who holds what, typed and versioned. Workers and gateway follow it to the letter.

use std::ops::Deref;

use serde::{Deserialize, Serialize};

use crate::{
    plan_draft::{PLAN_VERSION, PlanDraft},
    plan_error::{PlanError, PlanReadError},
    plan_rules,
};

/// Who holds what, and how the ring runs: a draft that keeps every rule that workers rely on. There is no other way to one, so
/// nobody who has one checks it. The same inputs give the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PlanDraft")]
pub struct Plan(PlanDraft);

impl Plan {
    /// Reads a plan's JSON.
    ///
    /// # Errors
    /// On what is no plan's JSON, and on a plan that breaks a rule.
    pub fn from_json(bytes: &[u8]) -> Result<Self, PlanReadError> {
        Ok(Self::try_from(serde_json::from_slice::<PlanDraft>(bytes)?)?)
    }

    /// The same with something else about it.
    ///
    /// # Errors
    /// The first rule that this would break.
    pub fn changed(&self, change: impl FnOnce(&mut PlanDraft)) -> Result<Self, PlanError> {
        let mut draft = self.0.clone();
        change(&mut draft);
        Self::try_from(draft)
    }

    /// What it says, to be changed.
    pub fn into_draft(self) -> PlanDraft {
        self.0
    }
}

impl TryFrom<PlanDraft> for Plan {
    type Error = PlanError;

    fn try_from(mut draft: PlanDraft) -> Result<Self, PlanError> {
        if draft.version == 1 {
            draft.version = PLAN_VERSION;
        }
        plan_rules::check(&draft)?;
        Ok(Self(draft))
    }
}

impl Deref for Plan {
    type Target = PlanDraft;

    fn deref(&self) -> &PlanDraft {
        &self.0
    }
}
