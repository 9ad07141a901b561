//! Another plan when a device's worker fails too often: by the same wish, without that device.

use anyhow::{Context as _, anyhow, ensure};
use lime_plan::{Plan, TokenBasis};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::{fleet::LocalDevice, wish::Wish};

/// What it takes to plan again, and the plan that is being made.
#[derive(Debug)]
pub(super) struct Replanning {
    segments: Option<u32>,
    tokens: TokenBasis,
    /// Absent while it is planned with.
    wish: Option<Wish>,
    /// Devices to be done without, and why.
    lost: Vec<(String, String)>,
    making: Option<JoinHandle<(Wish, anyhow::Result<Plan>)>>,
}

/// The devices of `plan` as the wish's fleet has them.
pub(super) fn devices_of(wish: &Wish, plan: &Plan) -> Vec<LocalDevice> {
    wish.fleet.devices.iter().filter(|device| plan.device(&device.name).is_some()).cloned().collect()
}

impl Replanning {
    pub(super) fn new(wish: Wish, segments: Option<u32>, plan: &Plan) -> Self {
        Self { segments, tokens: TokenBasis::of(plan), wish: Some(wish), lost: Vec::new(), making: None }
    }

    /// Begins to plan without `device`, whose worker failed for `reason`; after the plan that is being made, if one is.
    pub(super) fn without(&mut self, device: String, reason: String) {
        self.lost.push((device, reason));
        self.begin();
    }

    fn begin(&mut self) {
        let Some(mut wish) = self.wish.take() else { return };
        let (lost, segments) = (self.lost.clone(), self.segments);
        self.making = Some(spawn_blocking(move || {
            wish.fleet.devices.retain(|device| lost.iter().all(|(name, _)| *name != device.name));
            let plan = match wish.fleet.devices.as_slice() {
                [] => Err(anyhow!("no device is left")),
                _ => wish.plan_to_run(segments, &mut Vec::new()),
            };
            (wish, plan)
        }));
    }

    /// The plan, once it is made; pending where none is wanted. Dropping the future loses nothing.
    ///
    /// # Errors
    /// Where there is no plan without the devices: why each was lost, and what it would take.
    pub(super) async fn made(&mut self) -> anyhow::Result<Plan> {
        loop {
            let Some(making) = &mut self.making else { std::future::pending().await };
            let (wish, plan) = making.await.context("planning again was cut short")?;
            self.making = None;
            let behind = self.lost.iter().any(|(name, _)| wish.fleet.devices.iter().any(|device| device.name == *name));
            self.wish = Some(wish);
            if behind {
                self.begin();
                continue;
            }
            let reasons: Vec<&str> = self.lost.iter().map(|(_, reason)| reason.as_str()).collect();
            let reasons = reasons.join("; ");
            let plan = plan.map_err(|error| anyhow!("{reasons}; there is no plan without: {error:#}"))?;
            ensure!(TokenBasis::of(&plan) == self.tokens, "{reasons}; the plan without would draw other tokens");
            return Ok(plan);
        }
    }

    /// The devices of `plan` as the fleet has them.
    pub(super) fn devices_of(&self, plan: &Plan) -> Vec<LocalDevice> {
        self.wish.as_ref().map_or_else(Vec::new, |wish| devices_of(wish, plan))
    }
}
