//! Accepted: what is known of the model.

use lime_api::{ConditionType, ModelStatus};
use lime_plan::ModelCard;

use super::Deciding;
use crate::{
    build,
    card::{self, Known},
    conditions::{Cause, Truth},
};

impl Deciding<'_> {
    /// Accepted: what is known of the model.
    pub(super) fn model(&mut self) -> Option<ModelCard> {
        let source = self.wish.source.to_string();
        match card::known(self.snapshot, self.wish) {
            Known::Card { card, revision, stored } => {
                let message = format!("{source} is a {:?} model of {} layers", card.architecture, card.layers);
                self.findings.holds(ConditionType::Accepted, "Accepted", message);
                self.decision.status.model = Some(model_status(&card, revision));
                self.decision.objects.push(build::card(self.wish, &stored));
                Some(*card)
            }
            Known::Wait(cause) => {
                self.decision.objects.push(build::inspection(self.wish, self.settings));
                // While a refused model is inspected again, the last answer stands.
                let told = self.before.conditions.iter().find(|condition| {
                    condition.type_ == "Accepted"
                        && condition.status == "False"
                        && condition.observed_generation == Some(self.wish.generation)
                });
                let cause =
                    match told.filter(|_| self.before.model.is_none()).map(|told| (told, known_reason(&told.reason))) {
                        Some((told, Some(reason))) => Cause::new(reason, told.message.clone()),
                        _ => cause,
                    };
                let truth = if cause.reason == "Inspecting" { Truth::Unknown } else { Truth::False };
                self.findings.set(ConditionType::Accepted, truth, cause);
                None
            }
            Known::Refused(cause) => {
                // The Job stays until Kubernetes removes it; then the model is looked at again.
                self.decision
                    .objects
                    .extend((cause.reason != "TokenMissing").then(|| build::inspection(self.wish, self.settings)));
                self.findings.fails(ConditionType::Accepted, cause);
                None
            }
        }
    }
}

fn model_status(card: &ModelCard, revision: Option<String>) -> ModelStatus {
    let whole = |value: u64| i64::try_from(value).ok();
    ModelStatus {
        revision,
        architecture: Some(format!("{:?}", card.architecture).to_lowercase()),
        layers: i32::try_from(card.layers).ok(),
        parameters: whole(card.parameters),
        weight_bytes: whole(card.weight_bytes().0),
        dtype: Some(card.format.to_string()),
    }
}

/// Reasons of Accepted that are repeated as they were told.
fn known_reason(reason: &str) -> Option<&'static str> {
    const REASONS: [&str; 6] = [
        "ModelNotFound",
        "ModelGated",
        "UnsupportedArchitecture",
        "SourceUnreachable",
        "ModelDamaged",
        "InspectionFailed",
    ];
    REASONS.into_iter().find(|known| *known == reason)
}
