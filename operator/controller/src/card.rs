//! What is known of the model: a stored card, or what the inspection Job has to say.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStateWaiting, Pod};
use kube::ResourceExt as _;
use lime_plan::{BriefCard, Inspection, ModelCard};

use crate::{
    conditions::{Cause, advised},
    names, shards,
    snapshot::{SecretKey, Snapshot, StoredCard},
    wish::Wish,
};

/// What is known of the model.
#[derive(Clone, Debug)]
pub enum Known {
    /// The card, and the commit that was looked up.
    Card {
        /// The card.
        card: Box<ModelCard>,
        /// The commit.
        revision: Option<String>,
        /// The card as it is stored.
        stored: StoredCard,
    },
    /// Nothing yet: an inspection must run, or runs.
    Wait(Cause),
    /// The model cannot be served as the wish stands.
    Refused(Cause),
}

/// Reads the stored card, or the end of the inspection.
pub fn known(snapshot: &Snapshot, wish: &Wish) -> Known {
    let digest = wish.source_digest();
    if let Some(stored) = snapshot.card.as_ref().filter(|stored| stored.source_digest == digest) {
        match read(&stored.text) {
            Ok((card, revision)) => return Known::Card { card: Box::new(card), revision, stored: stored.clone() },
            Err(message) => tracing::warn!(message, "a stored card is damaged: the model is inspected again"),
        }
    }
    if snapshot.token == SecretKey::Missing {
        let token = wish.spec.model.token_secret_ref.as_ref();
        let (name, key) = token.map_or(("", ""), |token| (&token.name, &token.key));
        return Known::Refused(Cause::new(
            "TokenMissing",
            format!(
                "there is no key {key:?} in a Secret {name:?} of this namespace: create it, as spec.model.tokenSecretRef names it"
            ),
        ));
    }
    let job = names::inspection(&wish.name, &digest);
    let pods = snapshot.pods.iter().filter(|pod| {
        pod.labels().get("batch.kubernetes.io/job-name").or_else(|| pod.labels().get("job-name")) == Some(&job)
    });
    if let Some(refusal) = snapshot.refused.get(&job) {
        let refusal = advised(refusal, wish.is_on_nodes());
        let text = format!("the inspection's pod cannot be made: {refusal}");
        return Known::Wait(Cause::new("InspectionFailed", text));
    }
    let mut waiting = Cause::new("Inspecting", "the model's files are being read");
    for pod in pods {
        if let Some(ended) = ended(pod) {
            return answer(ended, digest);
        }
        let name = pod.name_any();
        if let Some(why) = shards::unschedulable(pod) {
            waiting = Cause::new("InspectionPending", format!("the inspection {name} cannot be scheduled: {why}"));
        } else if let Some(why) = snapshot.mishaps.get(&name) {
            waiting = Cause::new("InspectionPending", format!("the inspection {name} does not start: {why}"));
        } else if let Some(stuck) = stuck(pod) {
            let (reason, detail) = (stuck.reason.as_deref().unwrap_or("waiting"), stuck.message.as_deref());
            waiting.message = format!("the inspection {name} is not running: {reason} {}", detail.unwrap_or_default());
        }
    }
    Known::Wait(waiting)
}

fn answer(ended: &ContainerStateTerminated, source_digest: String) -> Known {
    let text = ended.message.clone().unwrap_or_default();
    match Inspection::from_line(&text) {
        Ok(Inspection::Refused { reason, message }) => Known::Refused(Cause::new(word(&reason), message)),
        Ok(Inspection::Card(_)) => match read(&text) {
            Ok((card, revision)) => {
                Known::Card { card: Box::new(card), revision, stored: StoredCard { source_digest, text } }
            }
            Err(message) => Known::Refused(Cause::new("ModelDamaged", message)),
        },
        Err(error) => {
            let ended = format!("the inspection ended with code {} and no answer", ended.exit_code);
            Known::Refused(Cause::new("InspectionFailed", format!("{ended}: {error}")))
        }
    }
}

fn read(text: &str) -> Result<(ModelCard, Option<String>), String> {
    let brief: Box<BriefCard> = match Inspection::from_line(text) {
        Ok(Inspection::Card(brief)) => brief,
        Ok(Inspection::Refused { message, .. }) => return Err(message),
        Err(error) => return Err(error.to_string()),
    };
    let card = brief.card().map_err(|error| error.to_string())?;
    Ok((card, brief.revision))
}

fn ended(pod: &Pod) -> Option<&ContainerStateTerminated> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find_map(|status| status.state.as_ref()?.terminated.as_ref())
}

fn stuck(pod: &Pod) -> Option<&ContainerStateWaiting> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let waiting = statuses.iter().find_map(|status| status.state.as_ref()?.waiting.as_ref())?;
    (waiting.reason.as_deref() != Some("ContainerCreating")).then_some(waiting)
}

/// A reason as Kubernetes allows it: foreign text is not repeated there.
fn word(reason: &str) -> &'static str {
    const KNOWN: [&str; 6] =
        ["ModelNotFound", "ModelGated", "TokenMissing", "UnsupportedArchitecture", "SourceUnreachable", "ModelDamaged"];
    KNOWN.into_iter().find(|known| *known == reason).unwrap_or("InspectionFailed")
}
