//! Orders: the plan to serve by and where its workers are, as they change while the gateway runs.

use std::sync::Arc;

use lime_plan::{Plan, PlanInForce, TokenBasis};
use lime_ring::Peer;
use thiserror::Error;
use tokio::sync::watch;

/// The plan to serve by, and where its workers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orders {
    /// The plan's name, for people and for whoever gave the orders.
    pub name: String,
    /// Rises with each plan: no other plan of a lower one is followed.
    pub generation: u64,
    /// Names the very text of the orders; empty where there is none.
    pub digest: String,
    /// The plan.
    pub plan: Arc<Plan>,
    /// The workers' addresses as they are known. The gateway waits until every device of the plan is there.
    pub workers: Vec<Peer>,
}

impl Orders {
    /// Orders of one who has a single plan: it is named after its inputs.
    pub fn new(plan: Plan, workers: Vec<Peer>) -> Self {
        let name = plan.input_hash.chars().take(8).collect();
        Self { name, generation: 0, digest: String::new(), plan: Arc::new(plan), workers }
    }

    /// The orders of a plan in force whose text has this `digest`.
    pub fn of(in_force: PlanInForce, digest: String) -> Self {
        let PlanInForce { name, generation, workers, plan } = in_force;
        let workers = workers.into_iter().map(|(device, uri)| Peer { device, uri }).collect();
        Self { name, generation, digest, plan: Arc::new(plan), workers }
    }

    /// One peer for each device of the plan, in its order; `None` while one is missing.
    pub(crate) fn peers(&self) -> Option<Vec<Peer>> {
        let find = |name: &String| self.workers.iter().find(|peer| peer.device == *name).cloned();
        self.plan.devices.iter().map(|device| find(&device.name)).collect()
    }
}

/// Orders that are not followed.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum Refused {
    #[error("it is older: generation {found}, this gateway serves by generation {served}")]
    Older { found: u64, served: u64 },
    #[error(
        "it is for another model, or another arithmetic: answers under way could not go on as they began. \
         Start the gateway anew"
    )]
    OtherTokens,
}

/// What new orders mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Another plan.
    Plan,
    /// The same plan, whose workers have come, gone or moved.
    Workers,
    /// The same plan and workers under another name or generation.
    Name,
}

/// Compares new orders with those that are followed.
pub(crate) fn compare(served: &Orders, news: &Orders) -> Result<Change, Refused> {
    if served.plan == news.plan {
        // Put in force once more, it goes on as it is.
        return Ok(if served.workers == news.workers { Change::Name } else { Change::Workers });
    }
    if news.generation < served.generation {
        return Err(Refused::Older { found: news.generation, served: served.generation });
    }
    if TokenBasis::of(&served.plan) != TokenBasis::of(&news.plan) {
        return Err(Refused::OtherTokens);
    }
    Ok(Change::Plan)
}

/// The orders that are followed, and those that come.
#[derive(Debug)]
pub(crate) struct Following {
    coming: watch::Receiver<Orders>,
    pub(crate) served: Orders,
    /// Another plan, to be taken up next.
    next: Option<Orders>,
}

impl Following {
    pub(crate) fn new(mut coming: watch::Receiver<Orders>) -> Self {
        let served = coming.borrow_and_update().clone();
        Self { coming, served, next: None }
    }

    /// Waits for orders that change something; `None` when there will be no more. Dropping the future loses nothing.
    pub(crate) async fn changed(&mut self) -> Option<Change> {
        loop {
            if self.next.is_some() {
                return Some(Change::Plan);
            }
            self.coming.changed().await.ok()?;
            let news = self.coming.borrow_and_update().clone();
            match compare(&self.served, &news) {
                Ok(Change::Plan) => self.next = Some(news),
                Ok(change) => {
                    let generation = news.generation.max(self.served.generation);
                    self.served = Orders { generation, ..news };
                    return Some(change);
                }
                Err(refused) => {
                    let (plan, served) = (&news.name, &self.served.name);
                    tracing::warn!(plan, served, "a plan is refused, and the one before stays: {refused}");
                }
            }
        }
    }

    /// Whether another plan is to be taken up.
    pub(crate) fn has_next(&self) -> bool {
        self.next.is_some()
    }

    /// Takes up the plan that came, if one did.
    pub(crate) fn take_up(&mut self) -> bool {
        match self.next.take() {
            Some(next) => {
                self.served = next;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use lime_plan::testing::{DeviceBudget, PlanRequest, proportional};
    use lime_plan::{Arithmetic, Bytes, Dtype, PlanDraft, ServingLimits};

    use super::*;

    fn orders(generation: u64, devices: &[&str], port: u16) -> Orders {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/models/bard-2m");
        let card = lime_model::ModelFolder::open(folder).unwrap().card("bard");
        let budget = |name: &&str| DeviceBudget { name: (*name).into(), memory: Bytes::gib(1) };
        let budgets: Vec<DeviceBudget> = devices.iter().map(budget).collect();
        let request = PlanRequest {
            model: &card,
            devices: &budgets,
            serving: ServingLimits { max_context_tokens: 64, max_concurrent_requests: 2, prefill_chunk_tokens: 16 },
            segments: 1,
            arithmetic: Arithmetic::Exact,
            residual: Dtype::F32,
            kv: Dtype::F32,
        };
        let peer = |name: &&str| Peer { device: (*name).into(), uri: format!("http://{name}:{port}") };
        let plan = proportional(&request).unwrap();
        Orders { generation, ..Orders::new(plan, devices.iter().map(peer).collect()) }
    }

    #[test]
    fn a_plan_is_followed_if_it_is_whole_no_older_and_draws_the_same_tokens() {
        let served = orders(5, &["a", "b"], 1);
        let changed = |generation, change: &dyn Fn(&mut PlanDraft)| {
            let mut news = orders(generation, &["a", "b", "c"], 1);
            news.plan = Arc::new(news.plan.changed(change).unwrap());
            compare(&served, &news)
        };
        assert_eq!(changed(6, &|_| {}), Ok(Change::Plan));
        assert_eq!(changed(5, &|_| {}), Ok(Change::Plan));
        assert_eq!(changed(4, &|_| {}), Err(Refused::Older { found: 4, served: 5 }));
        assert_eq!(changed(6, &|plan| plan.residual = Dtype::Bf16), Err(Refused::OtherTokens));
        assert_eq!(changed(6, &|plan| plan.model.parameters += 1), Err(Refused::OtherTokens));
        assert_eq!(changed(6, &|plan| plan.serving.max_context_tokens = 32), Ok(Change::Plan));
        assert_eq!(compare(&served, &orders(6, &["a", "b"], 2)), Ok(Change::Workers));
        assert_eq!(compare(&served, &orders(4, &["a", "b"], 1)), Ok(Change::Name));
    }

    #[tokio::test]
    async fn the_last_plan_that_can_be_followed_is_taken_up() {
        let (publish, coming) = watch::channel(orders(5, &["a"], 1));
        let mut following = Following::new(coming);
        assert!(!following.take_up());
        publish.send_replace(orders(4, &["a", "b"], 1));
        tokio::task::yield_now().await;
        publish.send_replace(orders(7, &["a", "b"], 1));
        assert_eq!(following.changed().await, Some(Change::Plan));
        assert_eq!(following.changed().await, Some(Change::Plan), "it is not forgotten before it is taken up");
        assert_eq!(following.served.generation, 5);
        assert!(following.take_up() && !following.take_up());
        assert_eq!((following.served.generation, following.served.plan.devices.len()), (7, 2));
        publish.send_replace(Orders { workers: Vec::new(), ..orders(7, &["a", "b"], 1) });
        assert_eq!(following.changed().await, Some(Change::Workers));
        assert_eq!(following.served.peers(), None);
        drop(publish);
        assert_eq!(following.changed().await, None);
    }
}
