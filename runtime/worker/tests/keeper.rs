//! A device that keeps KV pages for another: whom it lets in, and what it refuses.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::time::Duration;

use common::{Ring, anywhere, card, config, generate, plan};
use lime_plan::{MemoryModel, Nanos, Plan, Relief, Step};
use lime_ring::{
    ASKER_KEY, Checksummed as _, EPOCH_KEY, Transport,
    proto::{
        ConfigureRequest, KeepAnswer, KeepOrder, KeepPage, KeepQuestion, KeptPage, KeptRows, Peer, ProbeRequest,
        control_client::ControlClient, keep_order::Order, keeper_client::KeeperClient,
    },
};
use lime_worker::{WorkerHandle, fake::FakeLoader, start_with};
use tokio::time::timeout;
use tonic::{Code, Request, Status, metadata::BinaryMetadataValue};

/// Device "a" may have eight pages kept by device "b".
fn lending() -> (Plan, usize) {
    let mut plan = plan(card(4, 64, 100), 2, 1, 1).into_draft();
    let memory = MemoryModel::of(&plan);
    let (page, exchange) = (memory.page_bytes(2), memory.exchange(2));
    let room = page * 8;
    let asker = &mut plan.devices[0];
    let above = asker.memory.kv + (asker.memory.budget - asker.memory.used());
    let relief = Relief::HandOver { to: "b".into(), room, costs: Nanos(1) };
    asker.steps = vec![Step { above, relief, frees: room - exchange, time_per_token: Nanos(1) }];
    plan.devices[1].memory.lent = room + exchange;
    (plan.try_into().unwrap(), page.0 as usize)
}

/// Device "b" alone: at its epoch, and never ready.
struct Keeper {
    worker: WorkerHandle,
    plan: Plan,
    epoch: u64,
}

impl Keeper {
    async fn channel(&self) -> lime_ring::Line {
        lime_ring::connect(&Transport::Plaintext, &format!("http://{}", self.worker.addr())).await.unwrap()
    }

    async fn next_epoch(&mut self) {
        self.epoch += 1;
        let peer = |device: &str| Peer { device: device.into(), uri: "http://127.0.0.1:1".into() };
        let request = ConfigureRequest {
            epoch: self.epoch,
            plan_json: serde_json::to_vec(&self.plan).unwrap().into(),
            device: "b".into(),
            peers: vec![peer("a"), peer("b")],
            ..ConfigureRequest::default()
        }
        .sealed();
        let mut progress = ControlClient::new(self.channel().await).configure(request).await.unwrap().into_inner();
        progress.message().await.unwrap();
    }

    /// What it answers to `orders`, the joining included.
    async fn ask(&self, epoch: Option<u64>, asker: &str, orders: Vec<Order>) -> Result<Vec<KeepAnswer>, Status> {
        let epoch_of_orders = epoch.unwrap_or(self.epoch);
        let orders = orders.into_iter().map(move |order| {
            KeepOrder { epoch: epoch_of_orders, order: Some(order), ..KeepOrder::default() }.sealed()
        });
        let mut request = Request::new(tokio_stream::iter(orders.collect::<Vec<_>>()));
        if let Some(epoch) = epoch {
            request.metadata_mut().insert(EPOCH_KEY, epoch.into());
        }
        request.metadata_mut().insert_bin(ASKER_KEY, BinaryMetadataValue::from_bytes(asker.as_bytes()));
        let mut client = KeeperClient::new(self.channel().await);
        let answered = async {
            let mut stream = client.keep(request).await?.into_inner();
            let mut answers = Vec::new();
            while let Some(answer) = stream.message().await? {
                answers.push(answer);
            }
            Ok(answers)
        };
        timeout(Duration::from_secs(20), answered).await.expect("an answer in time")
    }

    /// The same as device "a", in an epoch of its own: a device asks once in each.
    async fn order(&mut self, orders: Vec<Order>) -> Result<Vec<KeepAnswer>, Status> {
        self.next_epoch().await;
        self.ask(Some(self.epoch), "a", orders).await
    }

    async fn kept(&self) -> (u64, u64) {
        let peer = Peer { device: "b".into(), uri: format!("http://{}", self.worker.addr()) };
        let said = lime_ring::status(&Transport::Plaintext, &peer).await.unwrap();
        assert_eq!(said.kept().lent_bytes, self.plan.devices[1].memory.lent.0);
        (said.kept().pages, said.kept().bytes)
    }
}

async fn keeper() -> (Keeper, usize) {
    let (plan, page) = lending();
    let worker = start_with(config("b"), Box::new(FakeLoader::default()), anywhere()).await.unwrap();
    (Keeper { worker, plan, epoch: 0 }, page)
}

fn probe(reply_bytes: u32) -> Order {
    Order::Probe(ProbeRequest { payload: vec![0; 10].into(), reply_bytes })
}

fn store(page: u32, bytes: usize) -> Order {
    Order::Store(KeepPage { slot: 0, page, entries: vec![1; bytes].into() })
}

fn ask(rows: Vec<KeptRows>, bytes: usize) -> Order {
    Order::Ask(KeepQuestion { layer: 0, rows, queries: vec![0; bytes].into() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_come_are_asked_about_and_go() {
    let (mut keeper, page) = keeper().await;
    let rows = vec![KeptRows { slot: 0, pages: 2, count: 1 }];
    let orders = vec![
        probe(100),
        store(0, page),
        store(1, page),
        ask(rows, 64 * 4),
        Order::TakeBack(KeptPage { slot: 0, page: 1 }),
        Order::Release(0),
        Order::Release(5),
    ];
    let answers = keeper.order(orders).await.unwrap();
    let lengths: Vec<usize> = answers.iter().map(|answer| answer.payload.len()).collect();
    assert_eq!(lengths, [0, 100, 0, 0, (64 + 2) * 4, page, 0, 0]);
    assert!(answers[5].payload.iter().all(|byte| *byte == 1), "the page as it was");
    // What is left when the asker is gone goes as well.
    keeper.order(vec![store(0, page), store(1, page)]).await.unwrap();
    let begin = std::time::Instant::now();
    while keeper.kept().await != (0, 0) {
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", keeper.kept().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    keeper.worker.stop().await.unwrap();
}

/// An engine that asks nobody, or is no longer there, breaks no ring.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ring_whose_engine_needs_no_keeper_goes_on() {
    let (lent, _) = lending();
    let plain = Ring::of_fakes(&plan(card(4, 64, 100), 2, 1, 1), &FakeLoader::default()).await;
    let expected = generate(&mut plain.configure(1).await, 0, &[1, 2, 3], 2, 9).await;
    plain.stop().await;
    let ring = Ring::of_fakes(&lent, &FakeLoader::default()).await;
    for epoch in 1..3 {
        let mut driver = ring.configure(epoch).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(generate(&mut driver, 0, &[1, 2, 3], 2, 9).await, expected);
    }
    ring.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_plan_does_not_say_is_refused() {
    let (mut keeper, page) = keeper().await;
    let row = |pages, count| vec![KeptRows { slot: 0, pages, count }];
    let nine: Vec<Order> = (0..9).map(|at| store(at, page)).collect();
    let refused = [
        (vec![probe(1 << 30)], "too long"),
        (vec![store(0, page - 1)], "they have"),
        (vec![store(0, page * 8)], "message length too large"),
        (vec![store(1, page)], "page 0 is next"),
        (nine, "all room that the plan lends is taken"),
        (vec![ask(vec![], 0)], "0 rows"),
        (vec![ask(row(1, u32::MAX), 64)], "rows in layer"),
        (vec![ask(row(9, 1), 3)], "bytes of queries"),
        (vec![ask(row(1, 1), 64 * 4)], "0 are kept"),
        (vec![Order::TakeBack(KeptPage { slot: 0, page: 0 })], "not the last"),
    ];
    for (orders, text) in refused {
        let refusal = keeper.order(orders).await.expect_err(text);
        assert!(refusal.message().contains(text), "{refusal:?} instead of {text}");
    }
    let taken = keeper.order(vec![probe(1)]).await.unwrap();
    assert_eq!(taken.len(), 2, "it goes on");
    keeper.worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_plans_asker_is_let_in_once_an_epoch() {
    let (mut keeper, _) = keeper().await;
    let none = keeper.ask(Some(1), "a", vec![]).await.unwrap_err();
    assert_eq!(none.code(), Code::FailedPrecondition, "{none:?}");
    keeper.next_epoch().await;
    let epoch = keeper.epoch;
    for (epoch, asker, text) in [
        (Some(epoch + 1), "a", "is at epoch"),
        (Some(epoch), "b", "keep no pages here"),
        (Some(epoch), "c", "could ask"),
        (Some(epoch), "", "could ask"),
    ] {
        let refusal = keeper.ask(epoch, asker, vec![probe(1)]).await.expect_err(text);
        assert!(refusal.message().contains(text), "{refusal:?} instead of {text}");
    }
    keeper.ask(Some(epoch), "a", vec![probe(1)]).await.unwrap();
    let again = keeper.ask(Some(epoch), "a", vec![probe(1)]).await.unwrap_err();
    assert_eq!(again.code(), Code::AlreadyExists, "{again:?}");
    assert_eq!(keeper.kept().await.0, 0);
    keeper.worker.stop().await.unwrap();
}
