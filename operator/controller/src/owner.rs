//! Two releases in one cluster: a deployment belongs to the operator that took it up, for as long as that one lives. Its status names it.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use lime_api::LimeDeployment;

use crate::{context::Context, decide::Note, leader};

/// An operator whose Lease we have not seen change for so long is gone: it is renewed every three seconds.
const GONE: Duration = Duration::from_secs(60);

/// The other operator, by its namespace, that a deployment's status names.
pub fn another<'a>(deployment: &'a LimeDeployment, own: &str) -> Option<&'a str> {
    let named = deployment.status.as_ref().and_then(|status| status.operator.as_deref());
    named.filter(|named| !named.is_empty() && *named != own)
}

/// Whether the operator of a namespace lives: it holds its Lease, and renews it.
///
/// # Errors
/// If the API server does not say.
pub async fn lives(context: &Context, namespace: &str) -> Result<bool, kube::Error> {
    let leases: Api<Lease> = Api::namespaced(context.client.clone(), namespace);
    let held = leases.get_opt(leader::LEASE).await?.and_then(|lease| lease.spec).filter(|spec| {
        let holder = spec.holder_identity.as_deref();
        holder.is_some_and(|holder| !holder.is_empty())
    });
    let Some(spec) = held else { return Ok(false) };
    let now = Instant::now();
    context.others.note(namespace, spec.renew_time.map(|time| time.0), now);
    let silence = context.others.silences(now, |_| false).get(namespace).copied();
    Ok(silence.is_some_and(|silence| silence < GONE))
}

/// What people are told who look at the deployment.
pub fn note(other: &str, own: &str) -> Note {
    let message = format!(
        "the operator in the namespace {other} looks after this deployment, and the one in {own} leaves it alone: uninstall one of them"
    );
    Note { reason: "OwnedByAnother", message, warning: true }
}
