//! Kinds that the API server does not serve are told of by events of this replica's own pod.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};

use crate::{context::Context, names};

/// How often it is looked whether there is something to tell.
const PERIOD: Duration = Duration::from_secs(2);
/// A kind that is missing is told again after so long.
const AGAIN: u32 = 300;

/// Tells of missing kinds by events of this replica's own pod, for as long as it is polled. An event about oneself needs no Lease:
/// `plain` is a client without.
pub async fn tell(context: Arc<Context>, plain: Client) {
    let settings = &context.settings;
    let reporter = Reporter { controller: names::MANAGER.into(), instance: Some(settings.identity.clone()) };
    let recorder = Recorder::new(plain, reporter);
    let about = ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: Some(settings.identity.clone()),
        namespace: Some(settings.namespace.clone()),
        ..ObjectReference::default()
    };
    let (mut last, mut rounds) = (None, 0);
    loop {
        tokio::time::sleep(PERIOD).await;
        let told = context.world.missing.message();
        rounds = if told == last && rounds * PERIOD.as_secs() as u32 <= AGAIN { rounds + 1 } else { 0 };
        let news = match (&told, &last) {
            (Some(missing), _) if rounds == 0 => Some((EventType::Warning, "KindsMissing", missing.clone())),
            (None, Some(_)) => Some((EventType::Normal, "KindsFound", "every kind of LIME is served again".to_owned())),
            _ => None,
        };
        last = told;
        let Some((type_, reason, note)) = news else { continue };
        tracing::warn!(reason, note, "kinds");
        let event = Event { type_, reason: reason.into(), note: Some(note), action: "Watch".into(), secondary: None };
        if let Err(error) = recorder.publish(&event, &about).await {
            tracing::warn!(reason, %error, "an event could not be written");
        }
    }
}
