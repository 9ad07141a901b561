//! The runtime's plan inside of a LimePlan, and the command that approves one.

use lime_plan::{Plan, PlanDraft, PlanError};
use thiserror::Error;

use crate::plan::LimePlanSpec;

/// A LimePlan without a plan that could run.
#[derive(Debug, Error)]
pub enum DocumentError {
    /// Nothing fits, or it is older than documents are.
    #[error("it holds no document")]
    Missing,
    /// Not what the planner writes.
    #[error("its document is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
    /// The plan breaks a rule.
    #[error("its document breaks a rule: {0}")]
    Broken(#[from] PlanError),
}

impl LimePlanSpec {
    /// The runtime's plan, checked as every plan from elsewhere is.
    ///
    /// # Errors
    /// When there is none that could run.
    pub fn plan(&self) -> Result<Plan, DocumentError> {
        let text = self.document.as_deref().ok_or(DocumentError::Missing)?;
        Ok(Plan::try_from(serde_json::from_str::<PlanDraft>(text)?)?)
    }
}

/// The command by which a person approves `plan`.
pub fn approval_command(namespace: &str, deployment: &str, plan: &str) -> String {
    format!(
        "kubectl -n {namespace} patch limedeployment {deployment} --type merge \
         -p '{{\"spec\":{{\"placement\":{{\"approvedPlan\":\"{plan}\"}}}}}}'"
    )
}
