//! Rings of fakes: the way of an activation, order, pipelining, epochs, life and death.

mod common;

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use common::{PATIENCE, Ring, anywhere, card, config, generate, line, next, plan, rows};
use lime_ring::{
    Checksummed as _, DriverError, FaultKind, LinkShape, RingDriver, Transport, drain, probe,
    proto::{Peer, driver_client::DriverClient, ring_client::RingClient},
    status,
};
use lime_worker::{WorkerConfig, fake::FakeLoader, start_with};

const PROMPT: [u32; 9] = [3, 1, 4, 1, 5, 9, 2, 6, 5];

fn peer(ring: &Ring, index: usize) -> &Peer {
    &ring.topology.peers[index]
}

#[tokio::test]
async fn any_split_gives_the_same_tokens() {
    let mut reference = None;
    for (devices, segments, head) in
        [(1, 1, 0), (1, 3, 0), (2, 1, 1), (2, 2, 0), (3, 2, 2), (3, 4, 1), (5, 1, 0), (5, 3, 4), (5, 4, 2)]
    {
        let plan = plan(card(12, 8, 97), devices, segments, head);
        let ring = Ring::of_fakes(&plan, &FakeLoader::default()).await;
        let mut driver = ring.configure(1).await;
        for chunk in [1, 4, 9] {
            let slot = chunk as u32 % 9;
            let tokens = generate(&mut driver, slot, &PROMPT, chunk, 12).await;
            let expected = reference.get_or_insert_with(|| tokens.clone());
            assert_eq!(&tokens, expected, "{devices} devices, {segments} segments, head {head}");
        }
        drop(driver);
        ring.stop().await;
    }
}

#[tokio::test]
async fn many_passes_fly_at_once_and_keep_their_order() {
    let plan = plan(card(12, 8, 97), 3, 2, 2);
    let fake = FakeLoader { layer_time: Duration::from_millis(1), ..FakeLoader::default() };
    let ring = Ring::of_fakes(&plan, &fake).await;
    let mut alone = ring.configure(1).await;
    let mut expected = Vec::new();
    for slot in 0..8 {
        expected.push(generate(&mut alone, slot, &[slot + 1, 7], 2, 5).await);
    }
    drop(alone);

    let mut driver = ring.configure(2).await;
    let mut tokens: Vec<Vec<u32>> = vec![vec![]; 8];
    for slot in 0..8 {
        let prompt = vec![slot + 1, 7];
        driver.submit(vec![rows(slot, 0, 2, Some(0))], prompt, vec![]).await.unwrap();
    }
    for expected_pass in 1..=40 {
        let result = next(&mut driver).await;
        assert_eq!((result.pass, result.failure.as_str()), (expected_pass, ""));
        let token = &result.tokens[0];
        let of_slot = &mut tokens[token.slot as usize];
        of_slot.push(token.token);
        let drawn = of_slot.len() as u64;
        if drawn < 5 {
            let row = vec![rows(token.slot, 1 + drawn as u32, 1, Some(drawn))];
            driver.submit(row, vec![token.token], vec![]).await.unwrap();
        }
    }
    assert_eq!(tokens, expected);
    ring.stop().await;
}

#[tokio::test]
async fn a_full_ring_holds_submission_back_and_loses_nothing() {
    let plan = plan(card(12, 8, 97), 3, 4, 0);
    let ring = Ring::of_fakes(&plan, &FakeLoader::default()).await;
    let (mut submitter, mut results) = ring.configure(1).await.split();
    let sending = tokio::spawn(async move {
        for pass in 0..1000u32 {
            let row = vec![rows(pass % 9, 0, 1, Some(0))];
            // A slot begun anew must not be on its way: go on with its next position instead.
            let row = if pass < 9 { row } else { vec![rows(pass % 9, pass / 9, 1, Some(0))] };
            submitter.submit(row, vec![pass % 97], vec![]).await.unwrap();
        }
        submitter
    });
    for pass in 1..=1000 {
        let result = tokio::time::timeout(PATIENCE, results.next()).await.unwrap().unwrap();
        assert_eq!((result.pass, result.failure.as_str()), (pass, ""));
    }
    sending.await.unwrap();
    ring.stop().await;
}

#[tokio::test]
async fn a_failing_pass_is_reported_and_the_ring_goes_on() {
    let plan = plan(card(6, 8, 97), 3, 2, 1);
    let fake = FakeLoader { failing_token: Some(13), ..FakeLoader::default() };
    let ring = Ring::of_fakes(&plan, &fake).await;
    let mut driver = ring.configure(1).await;
    driver.submit(vec![rows(0, 0, 1, Some(0))], vec![13], vec![]).await.unwrap();
    driver.submit(vec![rows(1, 0, 1, Some(0))], vec![12], vec![]).await.unwrap();
    // The middle device has no position 4 to go on from.
    driver.submit(vec![rows(2, 4, 1, Some(0))], vec![12], vec![]).await.unwrap();
    let failures = [next(&mut driver).await, next(&mut driver).await, next(&mut driver).await];
    assert!(failures[0].failure.contains("device \"a\""), "{}", failures[0].failure);
    assert!(failures[0].failure.contains("this token fails"));
    assert_eq!((failures[1].failure.as_str(), failures[1].tokens.len()), ("", 1));
    assert!(failures[2].failure.contains("holds 0 positions"), "{}", failures[2].failure);
    ring.stop().await;
}

#[tokio::test]
async fn a_panicking_engine_fails_its_passes_until_it_is_configured_again() {
    let plan = plan(card(6, 8, 97), 2, 1, 1);
    let fake = FakeLoader { panicking_token: Some(13), ..FakeLoader::default() };
    let ring = Ring::of_fakes(&plan, &fake).await;
    let mut driver = ring.configure(1).await;
    for token in [13, 12] {
        driver.submit(vec![rows(token, 0, 1, Some(0))], vec![token], vec![]).await.unwrap_err();
        let slot = token - 10;
        driver.submit(vec![rows(slot, 0, 1, Some(0))], vec![token], vec![]).await.unwrap();
        assert!(next(&mut driver).await.failure.contains("panicked"));
    }
    drop(driver);
    let mut driver = ring.configure(2).await;
    driver.submit(vec![rows(0, 0, 1, Some(0))], vec![12], vec![]).await.unwrap();
    assert_eq!(next(&mut driver).await.failure, "");
    ring.stop().await;
}

#[tokio::test]
async fn a_new_epoch_keeps_weights_and_forgets_the_cache() {
    let plan = plan(card(6, 8, 97), 2, 1, 1);
    let fake = FakeLoader { load_time: Duration::from_millis(100), ..FakeLoader::default() };
    let ring = Ring::of_fakes(&plan, &fake).await;
    let mut phases = Vec::new();
    let mut driver = RingDriver::configure(&ring.topology, 1, PATIENCE, |peer, progress| {
        phases.push((peer.device.clone(), progress.phase.clone()));
    })
    .await
    .unwrap();
    for device in ["a", "b"] {
        let of_device = phases.iter().filter(|(name, _)| name == device).map(|(_, phase)| phase);
        let mut distinct: Vec<&String> = of_device.collect();
        assert!(distinct.len() > 3, "progress was streamed");
        distinct.dedup();
        assert_eq!(distinct, ["loading", "joining", "ready"]);
    }
    let first = generate(&mut driver, 0, &PROMPT, 9, 5).await;

    let mut next_driver = ring.configure(2).await;
    assert_eq!(fake.loads.load(Ordering::Relaxed), 2, "each device loads once");
    // The older epoch is over for its driver.
    let error = tokio::time::timeout(PATIENCE, driver.next()).await.unwrap().unwrap_err();
    assert!(matches!(&error, DriverError::Fault(fault) if fault.kind == FaultKind::Superseded), "{error}");
    // The cache is gone: nothing to go on from.
    next_driver.submit(vec![rows(0, 9, 1, Some(0))], vec![1], vec![]).await.unwrap();
    assert!(next(&mut next_driver).await.failure.contains("holds 0 positions"));
    assert_eq!(generate(&mut next_driver, 1, &PROMPT, 9, 5).await, first);

    // An epoch that is not newer is refused with both numbers.
    let error = RingDriver::configure(&ring.topology, 2, PATIENCE, |_, _| {}).await.unwrap_err();
    assert!(matches!(error, DriverError::Epoch { current: 2, .. }), "{error}");
    ring.stop().await;
}

#[tokio::test]
async fn messages_of_other_epochs_are_refused() {
    let plan = plan(card(6, 8, 97), 2, 1, 1);
    let ring = Ring::of_fakes(&plan, &FakeLoader::default()).await;
    let driver = ring.configure(7).await;
    let mut head = DriverClient::new(line(&peer(&ring, 1).uri).await);
    let refused = head.results(lime_ring::proto::ResultsRequest { epoch: 6 }).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert!(refused.message().contains('6') && refused.message().contains('7'));

    let refused = head.submit(tokio_stream::iter([])).await.unwrap_err();
    assert!(refused.message().contains("\"a\""), "{}", refused.message());

    // A stream without the epoch's metadata is joined to the epoch in force; its messages are checked one by one.
    let mut first = DriverClient::new(line(&peer(&ring, 0).uri).await);
    let stale = lime_ring::proto::Pass { epoch: 6, pass: 1, ..Default::default() }.sealed();
    let mut acks = first.submit(tokio_stream::iter([stale])).await.unwrap().into_inner();
    assert!(acks.message().await.unwrap().is_some());
    let refused = acks.message().await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert!(refused.message().contains('6') && refused.message().contains('7'));

    let mut second = RingClient::new(line(&peer(&ring, 1).uri).await);
    let refused = second.carry(tokio_stream::iter([])).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::AlreadyExists);
    drop(driver);
    ring.stop().await;
}

#[tokio::test]
async fn a_lost_worker_is_named_to_the_driver() {
    for lost in 0..3 {
        let plan = plan(card(12, 8, 97), 3, 2, 2);
        let ring = Ring::of_fakes(&plan, &FakeLoader::default()).await;
        let mut driver = ring.configure(1).await;
        generate(&mut driver, 0, &PROMPT, 9, 3).await;
        let mut workers = ring.workers;
        let begin = Instant::now();
        workers.remove(lost).stop().await.unwrap();
        let error = tokio::time::timeout(PATIENCE, driver.next()).await.unwrap().unwrap_err();
        assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
        let name = ["a", "b", "c"][lost];
        assert_eq!(error.device(), Some(name), "{error}");
        assert!(matches!(&error, DriverError::Fault(fault) if fault.kind == FaultKind::Lost), "{error}");
        let closed = driver.next().await.unwrap_err();
        assert!(matches!(closed, DriverError::Closed { epoch: 1 }));

        // The others wait for the next configuration; a new worker takes the place of the lost one.
        let fresh = start_with(config(name), Box::new(FakeLoader::default()), anywhere()).await;
        workers.insert(lost, fresh.unwrap());
        let ring = Ring { topology: common::topology(&plan, &workers), workers };
        let survivor = status(&Transport::Plaintext, peer(&ring, (lost + 1) % 3)).await.unwrap();
        assert_eq!(survivor.phase, "failed");
        assert!(survivor.failure.contains(&format!("{name:?}")), "{}", survivor.failure);
        let mut driver = ring.configure(2).await;
        assert_eq!(generate(&mut driver, 0, &PROMPT, 9, 3).await.len(), 3);
        ring.stop().await;
    }
}

#[tokio::test]
async fn a_load_that_fails_is_told_and_the_next_may_succeed() {
    let plan = plan(card(6, 8, 97), 2, 1, 1);
    let failing = FakeLoader { load_failure: Some("model.safetensors is cut short".into()), ..FakeLoader::default() };
    let ring = Ring::of_fakes(&plan, &failing).await;
    let error = RingDriver::configure(&ring.topology, 1, PATIENCE, |_, _| {}).await.unwrap_err();
    assert!(error.to_string().contains("model.safetensors is cut short"), "{error}");
    assert!(matches!(&error, DriverError::Fault(fault) if fault.kind == FaultKind::Failed));
    ring.stop().await;
}

#[tokio::test]
async fn wrong_configurations_are_refused_by_name() {
    let plan = plan(card(6, 8, 97), 2, 1, 1);
    let ring = Ring::of_fakes(&plan, &FakeLoader::default()).await;
    let refused = async |spoil: &dyn Fn(&mut lime_ring::RingTopology)| {
        let mut topology = ring.topology.clone();
        spoil(&mut topology);
        let configured = RingDriver::configure(&topology, 1, PATIENCE, |_, _| {}).await;
        configured.unwrap_err().to_string()
    };
    let spoilt = refused(&|t| t.plan_json = "{".into()).await;
    assert!(spoilt.contains("the plan cannot be read"), "{spoilt}");
    let spoilt = refused(&|t| {
        let mut plan = plan.clone().into_draft();
        plan.version = 99;
        t.plan_json = serde_json::to_vec(&plan).unwrap().into();
    })
    .await;
    assert!(spoilt.contains("version 99"), "{spoilt}");
    let spoilt = refused(&|t| t.peers[0].device = "zebra".into()).await;
    assert!(spoilt.contains("zebra") || spoilt.contains("peers"), "{spoilt}");
    let spoilt = refused(&|t| t.peers.clear()).await;
    assert!(spoilt.contains("no devices"), "{spoilt}");
    // Nothing began: epoch 1 is still free.
    ring.configure(1).await;
    ring.stop().await;
}

#[tokio::test]
async fn passes_that_break_a_rule_never_leave_the_driver() {
    let plan = plan(card(6, 8, 97), 2, 1, 1);
    let ring = Ring::of_fakes(&plan, &FakeLoader::default()).await;
    let mut driver = ring.configure(1).await;
    let error = driver.submit(vec![rows(9, 0, 1, None)], vec![1], vec![]).await.unwrap_err();
    assert!(matches!(error, DriverError::Pass(_)), "{error}");
    let error = driver.submit(vec![rows(0, 0, 2, None)], vec![1], vec![]).await.unwrap_err();
    assert!(matches!(error, DriverError::Pass(_)), "{error}");
    driver.submit(vec![rows(0, 0, 1, None)], vec![1], vec![]).await.unwrap();
    let error = driver.submit(vec![], vec![], vec![0]).await.unwrap_err();
    assert!(matches!(error, DriverError::SlotBusy(0)), "{error}");
    assert_eq!(next(&mut driver).await.tokens, vec![]);
    driver.submit(vec![], vec![], vec![0]).await.unwrap();
    assert_eq!(next(&mut driver).await.pass, 2);
    // Released everywhere.
    driver.submit(vec![rows(0, 1, 1, None)], vec![1], vec![]).await.unwrap();
    assert!(next(&mut driver).await.failure.contains("holds 0 positions"));
    ring.stop().await;
}

#[tokio::test]
async fn status_probe_and_drain_answer() {
    let plan = plan(card(6, 8, 97), 2, 1, 1);
    let fake = FakeLoader { layer_time: Duration::from_millis(2), ..FakeLoader::default() };
    let ring = Ring::of_fakes(&plan, &fake).await;
    let before = status(&Transport::Plaintext, peer(&ring, 0)).await.unwrap();
    assert_eq!((before.phase.as_str(), before.epoch, before.device.as_str()), ("idle", 0, "a"));
    let mut driver = ring.configure(3).await;
    generate(&mut driver, 0, &PROMPT, 3, 4).await;
    let after = status(&Transport::Plaintext, peer(&ring, 1)).await.unwrap();
    assert_eq!((after.phase.as_str(), after.epoch, after.work().passes), ("ready", 3, 6));
    assert!(after.work().compute_micros >= 6 * 3 * 2000, "{}", after.work().compute_micros);
    assert_eq!((after.kernels.as_str(), after.threads), ("fake", 1));
    assert_eq!(after.memory().pinned_bytes, plan.devices[1].memory.pinned.0);

    let took = probe(&Transport::Plaintext, peer(&ring, 0), vec![0; 100].into(), 16 << 10, 3).await.unwrap();
    assert_eq!(took.len(), 3);
    for long in [(64 << 10) + 1, 32 << 20, u32::MAX] {
        let error = probe(&Transport::Plaintext, peer(&ring, 0), bytes::Bytes::new(), long, 1).await.unwrap_err();
        assert!(error.to_string().contains("too long"), "{error}");
    }

    driver.submit(vec![rows(1, 0, 1, Some(0))], vec![1], vec![]).await.unwrap();
    assert_eq!(next(&mut driver).await.failure, "");
    assert_eq!(drain(&Transport::Plaintext, peer(&ring, 0), None).await.unwrap(), 7);
    assert_eq!(status(&Transport::Plaintext, peer(&ring, 0)).await.unwrap().phase, "draining");
    driver.submit(vec![rows(2, 0, 1, Some(0))], vec![1], vec![]).await.unwrap();
    let error = tokio::time::timeout(PATIENCE, driver.next()).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("draining"), "{error}");
    ring.stop().await;
}

#[tokio::test]
async fn a_worker_stops_at_once_whatever_it_does() {
    // While it loads.
    let plan = plan(card(6, 8, 97), 1, 1, 0);
    let slow = FakeLoader { load_time: Duration::from_secs(30), ..FakeLoader::default() };
    let ring = Ring::of_fakes(&plan, &slow).await;
    let topology = ring.topology.clone();
    let configuring = tokio::spawn(async move { RingDriver::configure(&topology, 1, PATIENCE, |_, _| {}).await });
    while status(&Transport::Plaintext, peer(&ring, 0)).await.unwrap().phase != "loading" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let begin = Instant::now();
    let addr = ring.workers[0].addr();
    ring.stop().await;
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert!(configuring.await.unwrap().is_err());
    assert!(std::net::TcpStream::connect(addr).is_err(), "the listener is closed");

    // While it waits for a successor that never comes.
    let plan = common::plan(card(6, 8, 97), 2, 1, 1);
    let mut ring = Ring::of_fakes(&plan, &FakeLoader::default()).await;
    ring.workers.pop().unwrap().stop().await.unwrap();
    let topology = ring.topology.clone();
    let configuring = tokio::spawn(async move { RingDriver::configure(&topology, 1, PATIENCE, |_, _| {}).await });
    while status(&Transport::Plaintext, peer(&ring, 0)).await.unwrap().epoch != 1 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let begin = Instant::now();
    ring.stop().await;
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert!(configuring.await.unwrap().is_err());
}

#[tokio::test]
async fn a_taken_port_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let started = start_with(config("a"), Box::new(FakeLoader::default()), addr).await;
    let error = started.unwrap_err().to_string();
    assert!(error.contains(&addr.to_string()), "{error}");
}

#[tokio::test]
async fn a_shaped_link_slows_its_ring_and_changes_no_token() {
    let plan = plan(card(6, 8, 97), 3, 1, 2);
    let plain = Ring::of_fakes(&plan, &FakeLoader::default()).await;
    let mut driver = plain.configure(1).await;
    let expected = generate(&mut driver, 0, &PROMPT, 9, 4).await;
    drop(driver);
    plain.stop().await;

    let latency = Duration::from_millis(30);
    let mut workers = Vec::new();
    for device in &plan.devices {
        let link = Some(LinkShape { bandwidth_bits: 1_000_000_000, latency });
        let config = WorkerConfig { link, ..config(&device.name) };
        workers.push(start_with(config, Box::new(FakeLoader::default()), anywhere()).await.unwrap());
    }
    let ring = Ring { topology: common::topology(&plan, &workers), workers };
    let mut driver = ring.configure(1).await;
    let begin = Instant::now();
    assert_eq!(generate(&mut driver, 0, &PROMPT, 9, 4).await, expected);
    // Four passes of two hops.
    assert!(begin.elapsed() >= 8 * latency, "{:?}", begin.elapsed());
    assert!(status(&Transport::Plaintext, peer(&ring, 0)).await.unwrap().work().send_micros >= 4 * 30_000);
    ring.stop().await;
}
