//! Who may write: the holder of a Lease.
//!
//! A small one of our own. The crates for this (`kube-lease-manager` and others) run callbacks or channels around the work;
//! here the work runs always, with warm stores, and each visit asks at its beginning whether it may write. A replica that could not
//! renew stops writing before another may take over, measured by its own monotonic clock.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};

/// Name of the Lease.
pub const LEASE: &str = "lime-operator";
/// How long a Lease holds without renewal.
const HOLDS: Duration = Duration::from_secs(15);
/// How long the holder trusts it: less, so that two never write at once.
const TRUSTED: Duration = Duration::from_secs(10);
/// How often it is renewed or looked at.
const PERIOD: Duration = Duration::from_secs(3);
/// How soon after a try that failed, and how long a try may take: several fit into the time that the Lease is trusted.
const RETRY: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(3);

/// Whether this replica may write.
#[derive(Clone, Debug, Default)]
pub struct Leadership(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
enum Held {
    #[default]
    Not,
    Until(Instant),
    Always,
}

impl Leadership {
    /// For a single operator.
    pub fn always() -> Self {
        Self(Arc::new(Mutex::new(Held::Always)))
    }

    /// Whether this replica may write now.
    pub fn holds(&self) -> bool {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Held::Not => false,
            Held::Until(until) => Instant::now() < until,
            Held::Always => true,
        }
    }

    fn set(&self, held: Held) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = held;
    }
}

/// What a look at the Lease says.
#[derive(Debug, PartialEq, Eq)]
enum Move {
    Create,
    Take,
    Renew,
    Leave,
}

/// Others' Leases are judged by when *we* saw them change, so that clocks need not agree.
fn next(lease: Option<&LeaseSpec>, identity: &str, unchanged_for: Duration) -> Move {
    let Some(lease) = lease else { return Move::Create };
    match lease.holder_identity.as_deref() {
        Some(holder) if holder == identity => Move::Renew,
        None | Some("") => Move::Take,
        Some(_) => {
            let seconds = u64::try_from(lease.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
            if unchanged_for >= Duration::from_secs(seconds.max(1)) { Move::Take } else { Move::Leave }
        }
    }
}

/// Tries for the Lease until the process ends; `became` is called each time it is won.
pub async fn compete(client: Client, namespace: String, identity: String, leadership: Leadership, became: impl Fn()) {
    let leases: Api<Lease> = Api::namespaced(client, &namespace);
    let mut seen: Option<(String, Instant)> = None;
    loop {
        let started = Instant::now();
        let pause = match tokio::time::timeout(PATIENCE, attempt(&leases, &identity, &mut seen)).await {
            Ok(Ok(true)) => {
                let was = leadership.holds();
                leadership.set(Held::Until(started + TRUSTED));
                if !was {
                    tracing::info!(identity, "this replica leads");
                    became();
                }
                PERIOD
            }
            Ok(Ok(false)) => {
                if leadership.holds() {
                    tracing::warn!(identity, "another replica leads now");
                }
                leadership.set(Held::Not);
                PERIOD
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "the Lease cannot be renewed");
                RETRY
            }
            Err(_) => {
                tracing::warn!("the Lease cannot be renewed: the API server does not answer");
                RETRY
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Gives the Lease up, so that another replica need not wait.
pub async fn release(client: Client, namespace: &str, identity: &str) {
    let leases: Api<Lease> = Api::namespaced(client, namespace);
    let Ok(Some(mut lease)) = leases.get_opt(LEASE).await else { return };
    let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_deref() == Some(identity)) else {
        return;
    };
    spec.holder_identity = None;
    // If this fails, another replica takes over when the Lease runs out.
    let _ = leases.replace(LEASE, &PostParams::default(), &lease).await;
}

async fn attempt(
    leases: &Api<Lease>,
    identity: &str,
    seen: &mut Option<(String, Instant)>,
) -> Result<bool, kube::Error> {
    let found = leases.get_opt(LEASE).await?;
    let version = found.as_ref().and_then(|lease| lease.metadata.resource_version.clone()).unwrap_or_default();
    let unchanged = match seen {
        Some((known, since)) if *known == version => since.elapsed(),
        _ => {
            *seen = Some((version, Instant::now()));
            Duration::ZERO
        }
    };
    let choice = next(found.as_ref().and_then(|lease| lease.spec.as_ref()), identity, unchanged);
    let now = MicroTime(Timestamp::now());
    let before = found.clone().unwrap_or_default().spec.unwrap_or_default();
    let taken = choice != Move::Renew;
    let spec = LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(HOLDS.as_secs()).ok(),
        acquire_time: if taken { Some(now.clone()) } else { before.acquire_time.clone() },
        renew_time: Some(now),
        lease_transitions: Some(before.lease_transitions.unwrap_or(0).saturating_add(i32::from(taken))),
        ..before
    };
    let renewed = choice == Move::Renew;
    let written = match (choice, found) {
        (Move::Leave, _) => return Ok(false),
        (Move::Create, _) | (_, None) => {
            let metadata = ObjectMeta { name: Some(LEASE.into()), ..ObjectMeta::default() };
            leases.create(&PostParams::default(), &Lease { metadata, spec: Some(spec) }).await
        }
        // The resource version goes along: of two that take the same Lease, one gets a conflict.
        (_, Some(lease)) => leases.replace(LEASE, &PostParams::default(), &Lease { spec: Some(spec), ..lease }).await,
    };
    match written {
        Ok(_) => Ok(true),
        // Who held it a moment ago looks again: until then it is trusted as long as before, and no longer.
        Err(kube::Error::Api(status)) if status.code == 409 && !renewed => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(by: Option<&str>) -> LeaseSpec {
        LeaseSpec { holder_identity: by.map(str::to_owned), lease_duration_seconds: Some(15), ..LeaseSpec::default() }
    }

    #[test]
    fn a_lease_is_taken_only_when_nobody_renews_it() {
        let second = Duration::from_secs;
        let table = [
            (None, 0, Move::Create),
            (Some(held(None)), 0, Move::Take),
            (Some(held(Some(""))), 0, Move::Take),
            (Some(held(Some("me"))), 99, Move::Renew),
            (Some(held(Some("other"))), 14, Move::Leave),
            (Some(held(Some("other"))), 15, Move::Take),
            (Some(LeaseSpec { lease_duration_seconds: Some(-5), ..held(Some("other")) }), 0, Move::Leave),
        ];
        for (lease, unchanged, expected) in table {
            assert_eq!(next(lease.as_ref(), "me", second(unchanged)), expected, "{lease:?} {unchanged}");
        }
    }

    #[test]
    fn nobody_writes_without_a_lease() {
        assert!(!Leadership::default().holds());
        assert!(Leadership::always().holds());
        let leadership = Leadership::default();
        leadership.set(Held::Until(Instant::now()));
        assert!(!leadership.holds());
    }
}
