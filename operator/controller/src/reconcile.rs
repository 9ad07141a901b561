//! One visit of one deployment: observe, decide, apply, tell.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kube::{
    ResourceExt as _,
    runtime::{
        controller::Action,
        events::{Event, EventType},
    },
};
use lime_api::LimeDeployment;
use lime_backoff::Backoff;
use thiserror::Error;

use crate::{
    apply,
    certificates::{self, CertificateError},
    context::Context,
    decide::{self, Note},
    observe, owner,
    wish::{self, Wish},
};

/// The pauses between visits that fail: after an API server's bad hour nobody waits longer than a minute.
const VISITING: Backoff = Backoff::doubling(Duration::from_secs(1), Duration::from_secs(60));
/// Seconds until a deployment of another operator is looked at again.
const ANOTHERS: u64 = 20;

/// Seconds until the next try while kinds of LIME are not served.
const MISSING: u64 = 5;

/// Why a visit failed.
#[derive(Debug, Error)]
pub enum ReconcileError {
    /// The API server refused something or did not answer.
    #[error("the API server: {0}")]
    Api(#[from] kube::Error),
    /// No certificate could be made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A step ended with a panic: a fault of ours, which must not end the operator.
    #[error("a step of the reconcile failed: {0}")]
    Step(String),
}

impl ReconcileError {
    const fn reason(&self) -> &'static str {
        match self {
            Self::Api(_) => "api",
            Self::Certificate(_) => "certificate",
            Self::Step(_) => "step",
        }
    }
}

/// Visits a deployment.
///
/// # Errors
/// Whatever kept it from being brought in order; [`retry`] says when to come back.
pub async fn reconcile(deployment: Arc<LimeDeployment>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    // What is being deleted is the garbage collector's business: everything is owned.
    if !context.leadership.holds() || deployment.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    // What is in the stores may have gone with its kind, and is no wish any more.
    if context.world.missing.message().is_some() {
        return Ok(Action::requeue(Duration::from_secs(MISSING)));
    }
    let uid = deployment.uid().unwrap_or_default();
    if behind(deployment.resource_version().as_deref(), context.recall(&uid).written.as_deref()) {
        return Ok(Action::requeue(Duration::from_secs(1)));
    }
    let started = Instant::now();
    let result = visit(&deployment, &context).await;
    context.metrics.reconciled(started.elapsed());
    // Who lost the Lease in the middle of a visit leaves the rest to the new leader.
    if result.is_err() && !context.leadership.holds() {
        return Ok(Action::await_change());
    }
    let action = result?;
    context.remember(&uid, |memory| memory.failures = 0);
    Ok(action)
}

async fn visit(deployment: &Arc<LimeDeployment>, context: &Arc<Context>) -> Result<Action, ReconcileError> {
    let uid = deployment.uid().unwrap_or_default();
    let own = &context.settings.namespace;
    if let Some(other) = owner::another(deployment, own)
        && owner::lives(context, other).await?
    {
        tell(context, deployment, &[owner::note(other, own)]).await;
        return Ok(Action::requeue(Duration::from_secs(ANOTHERS)));
    }
    let mut snapshot = observe::observe(context, deployment.clone()).await?;
    let known_plans = snapshot.plans.clone();
    let mut decision = {
        let _one_at_a_time = context.deciding.lock().await;
        snapshot.lent = observe::lent(context, &uid);
        let held = snapshot.held.clone();
        observe::add_held_by_others(context, &uid, &mut snapshot.held);
        let settings = context.settings.clone();
        let started = Instant::now();
        let decided = tokio::task::spawn_blocking(move || decide::decide(&snapshot, &settings)).await;
        let decision = decided.map_err(|error| ReconcileError::Step(error.to_string()))?;
        let replanned = decision.notes.iter().any(|note| note.reason == "ReplanStarted");
        context.metrics.decided(started.elapsed(), decision.new_plan.is_some(), replanned);
        context.remember(&uid, |memory| {
            memory.taken = Some(decision.taken.clone());
            memory.since = decision.since.clone();
            memory.tried = decision.tried.clone();
            memory.held = Some(held);
        });
        decision
    };
    if decision.certificates
        && let Ok(wish) = Wish::check(deployment)
    {
        let existing = observe::existing_certificates(context, &wish.namespace, &wish.name).await?;
        let now = k8s_openapi::jiff::Timestamp::now();
        // Before the pods that mount them.
        decision.objects.splice(0..0, certificates::ensure(&wish, &existing, now)?);
    }
    if apply::apply(context, deployment, &decision).await? {
        // Told at the next visit, which need not wait for anything.
        decision.revisit = 1;
    }
    apply::plans(context, &deployment.namespace().unwrap_or_default(), &decision, &known_plans).await?;
    apply::status(context, deployment, &decision).await?;
    tell(context, deployment, &decision.notes).await;
    Ok(Action::requeue(Duration::from_secs(u64::try_from(decision.revisit).unwrap_or(1).max(1))))
}

/// Whether the watch still shows a version of before our last write: a visit would decide by a status that is none any more.
fn behind(seen: Option<&str>, written: Option<&str>) -> bool {
    let number = |version: Option<&str>| version?.parse::<u64>().ok();
    number(seen).zip(number(written)).is_some_and(|(seen, written)| seen < written)
}

/// Publishes what was not said at the last visit already.
async fn tell(context: &Context, deployment: &LimeDeployment, notes: &[Note]) {
    let uid = deployment.uid().unwrap_or_default();
    let told = context.recall(&uid).told;
    let about = wish::reference(deployment);
    for Note { reason, message, warning } in notes {
        if told.contains(&(*reason, message.clone())) {
            continue;
        }
        let event = Event {
            type_: if *warning { EventType::Warning } else { EventType::Normal },
            reason: (*reason).to_owned(),
            note: Some(message.chars().take(1000).collect()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        context.metrics.wrote("Event");
        if let Err(error) = context.recorder.publish(&event, &about).await {
            tracing::warn!(reason, %error, "an event could not be written");
        }
    }
    let now_told = notes.iter().map(|note| (note.reason, note.message.clone())).collect();
    context.remember(&uid, |memory| memory.told = now_told);
}

/// When to come back after a failed visit: 1 s, 2 s, 4 s, ... for each deployment on its own.
pub fn retry(deployment: Arc<LimeDeployment>, error: &ReconcileError, context: Arc<Context>) -> Action {
    let uid = deployment.uid().unwrap_or_default();
    let mut failures = 0;
    context.remember(&uid, |memory| {
        memory.failures = memory.failures.saturating_add(1);
        failures = memory.failures;
    });
    context.metrics.failed(error.reason());
    let pause = VISITING.after(failures);
    tracing::warn!(deployment = deployment.name_any(), %error, ?pause, "a visit failed and is repeated");
    Action::requeue(pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_is_behind_what_was_written_until_it_shows_it() {
        let table = [
            (Some("9"), Some("10"), true),
            (Some("10"), Some("10"), false),
            (Some("11"), Some("10"), false),
            (Some("9"), None, false),
            (None, Some("10"), false),
            // Versions that are no numbers cannot be compared.
            (Some("a"), Some("b"), false),
        ];
        for (seen, written, expected) in table {
            assert_eq!(behind(seen, written), expected, "{seen:?} {written:?}");
        }
    }

    #[test]
    fn waits_double_up_to_a_limit() {
        let seconds = [0, 1, 2, 3, 6, 7, u32::MAX].map(|failures| VISITING.after(failures).as_secs());
        assert_eq!(seconds, [1, 1, 2, 4, 32, 60, 60]);
    }
}
