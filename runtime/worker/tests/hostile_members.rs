//! Members of the ring that say what they should not, links that flip bits, and engines that hang or find their weights damaged.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream as PlainStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use common::{PATIENCE, Ring, anywhere, card, config, generate, line, next, plan, rows};
use lime_ring::{
    Checksummed as _, Demands, DriverError, FaultKind, LAST_EPOCH, RingDriver, Transport, Verified,
    proto::{FailureKind, LogitBias, Pass, Rows, Sampling, driver_client::DriverClient},
    status,
};
use lime_worker::{WorkerConfig, fake::FakeLoader, start_with};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;

const PROMPT: [u32; 5] = [3, 1, 4, 1, 5];

#[tokio::test]
async fn what_a_request_can_say_comes_back_as_a_refusal_and_ends_nothing() {
    let plan = plan(card(6, 8, 97), 3, 2, 1);
    let ring = Ring::of_fakes(&plan, &FakeLoader::default()).await;
    let mut driver = ring.configure(1).await;
    let expected = generate(&mut driver, 0, &PROMPT, 5, 1).await;
    // A gateway that checks nothing; the driver beside it hears the results.
    let (passes, queue) = mpsc::channel(8);
    let mut client = DriverClient::new(line(&ring.topology.peers[0].uri).await);
    let _acks = client.submit(ReceiverStream::new(queue)).await.unwrap();
    let sampled = |change: &dyn Fn(&mut Sampling)| {
        let mut rows = rows(4, 0, 2, Some(0));
        rows.sample.iter_mut().for_each(change);
        (rows, 1)
    };
    let refused: [(Rows, u32); 6] = [
        (rows(4, 0, 2, Some(0)), 97),
        (rows(4, 0, 2, Some(0)), u32::MAX),
        sampled(&|sampling| sampling.temperature = f32::NAN),
        sampled(&|sampling| sampling.top_p = f32::INFINITY),
        sampled(&|sampling| sampling.top_logprobs = 98),
        sampled(&|sampling| sampling.bias = vec![LogitBias { token: 97, value: 1.0 }]),
    ];
    let mut number = 1;
    for (guilty, token) in refused {
        for (rows, tokens) in [
            (vec![rows(3, 0, 5, Some(0)), guilty.clone()], [&PROMPT[..], &[1, token]].concat()),
            (vec![rows(3, 0, 5, Some(0))], PROMPT.to_vec()),
        ] {
            number += 1;
            let pass = Pass { epoch: 1, pass: number, rows, tokens, ..Pass::default() };
            passes.send(pass.sealed()).await.unwrap();
        }
        let result = next(&mut driver).await;
        assert_eq!((result.failure_kind(), result.refused_slot), (FailureKind::Refused, Some(4)), "{}", result.failure);
        assert!(result.failure.contains("\"a\""), "{}", result.failure);
        let result = next(&mut driver).await;
        assert_eq!((result.failure.as_str(), result.tokens[0].token), ("", expected[0]));
    }
    // Slots that are released with a refused pass are released.
    let release = vec![0];
    let pass = Pass {
        epoch: 1,
        pass: number + 1,
        rows: vec![rows(4, 0, 1, None)],
        tokens: vec![97],
        release,
        ..Pass::default()
    };
    passes.send(pass.sealed()).await.unwrap();
    assert_eq!(next(&mut driver).await.failure_kind(), FailureKind::Refused);
    let pass = Pass { epoch: 1, pass: number + 2, rows: vec![rows(0, 5, 1, None)], tokens: vec![1], ..Pass::default() };
    passes.send(pass.sealed()).await.unwrap();
    assert!(next(&mut driver).await.failure.contains("holds 0 positions"));
    ring.stop().await;
}

/// Passes bytes on, and flips one of a long run of zeros on the way to `to` once told to.
async fn bad_cable(to: SocketAddr, flips: Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (near, _) = listener.accept().await.unwrap();
            let far = TcpStream::connect(to).await.unwrap();
            let ((mut near_in, mut near_out), (mut far_in, mut far_out)) = (near.into_split(), far.into_split());
            let flips = Arc::clone(&flips);
            tokio::spawn(async move {
                let mut bytes = vec![0; 64 << 10];
                while let Ok(count @ 1..) = near_in.read(&mut bytes).await {
                    let run = bytes[..count].windows(100).position(|run| run.iter().all(|byte| *byte == 0));
                    if let Some(run) = run.filter(|_| flips.load(Ordering::Relaxed)) {
                        bytes[run + 50] = 1;
                    }
                    if far_out.write_all(&bytes[..count]).await.is_err() {
                        return;
                    }
                }
            });
            tokio::spawn(async move { tokio::io::copy(&mut far_in, &mut near_out).await });
        }
    });
    addr
}

#[tokio::test]
async fn a_flipped_bit_is_a_lost_link_by_name_and_never_an_answer() {
    let plan = plan(card(6, 64, 97), 3, 1, 2);
    let mut ring = Ring::of_fakes(&plan, &FakeLoader::default()).await;
    let flips = Arc::new(AtomicBool::new(false));
    let middle = bad_cable(ring.workers[1].addr(), Arc::clone(&flips)).await;
    ring.topology.peers[1].uri = format!("http://{middle}");
    let mut driver = ring.configure(1).await;
    let expected = generate(&mut driver, 0, &PROMPT, 5, 3).await;
    flips.store(true, Ordering::Relaxed);
    driver.submit(vec![rows(1, 0, 5, Some(0))], PROMPT.to_vec(), vec![]).await.unwrap();
    let error = tokio::time::timeout(PATIENCE, driver.next()).await.unwrap().unwrap_err();
    assert!(matches!(&error, DriverError::Fault(fault) if fault.kind == FaultKind::Lost), "{error}");
    assert_eq!(error.device(), Some("a"), "{error}");
    assert!(error.to_string().contains("checksum"), "{error}");
    flips.store(false, Ordering::Relaxed);
    assert_eq!(generate(&mut ring.configure(2).await, 0, &PROMPT, 5, 3).await, expected);
    ring.stop().await;
}

#[tokio::test]
async fn no_epoch_is_the_last_and_a_known_one_can_be_given_up() {
    let plan = plan(card(6, 8, 97), 2, 1, 1);
    let ring = Ring::of_fakes(&plan, &FakeLoader::default()).await;
    for epoch in [0, LAST_EPOCH + 1, u64::MAX] {
        let refused = RingDriver::configure(&ring.topology, epoch, PATIENCE, |_, _| {}).await.unwrap_err();
        assert!(refused.to_string().contains("epochs are numbered from 1"), "{refused}");
    }
    drop(ring.configure(LAST_EPOCH).await);
    let lower = RingDriver::configure(&ring.topology, 2, PATIENCE, |_, _| {}).await.unwrap_err();
    assert!(matches!(lower, DriverError::Epoch { current: LAST_EPOCH, .. }), "{lower}");
    let replacing = |epoch: u64| Demands {
        replaces: ["a", "b"].map(|device| (device.to_owned(), epoch)).into(),
        ..Demands::default()
    };
    let wrong = RingDriver::configure_with(&ring.topology, 2, &replacing(7), PATIENCE, |_, _| {}).await;
    assert!(matches!(wrong, Err(DriverError::Epoch { current: LAST_EPOCH, .. })));
    let demands = replacing(LAST_EPOCH);
    let mut driver = RingDriver::configure_with(&ring.topology, 2, &demands, PATIENCE, |_, _| {}).await.unwrap();
    assert_eq!(generate(&mut driver, 0, &PROMPT, 5, 3).await.len(), 3);
    // The same message, late, finds another epoch.
    let late = RingDriver::configure_with(&ring.topology, 1, &demands, PATIENCE, |_, _| {}).await;
    assert!(matches!(late, Err(DriverError::Epoch { current: 2, .. })));
    assert_eq!(generate(&mut driver, 1, &PROMPT, 5, 3).await.len(), 3);
    ring.stop().await;
}

#[tokio::test]
async fn damaged_weights_are_mended_on_all_devices_before_anything_is_tried_again() {
    let plan = plan(card(6, 8, 97), 3, 1, 2);
    let fake = FakeLoader::default();
    let ring = Ring::of_fakes(&plan, &fake).await;
    let mut driver = ring.configure(1).await;
    let expected = generate(&mut driver, 0, &PROMPT, 5, 3).await;
    fake.damaged.store(2, Ordering::Relaxed);
    driver.submit(vec![rows(1, 0, 1, Some(0))], vec![1], vec![]).await.unwrap();
    assert_eq!(next(&mut driver).await.failure_kind(), FailureKind::Damaged);
    let demands = Demands { verify: true, ..Demands::default() };
    let mut driver = RingDriver::configure_with(&ring.topology, 2, &demands, PATIENCE, |_, _| {}).await.unwrap();
    assert_eq!(driver.verified(), Verified { compared: 3, mended: 2 });
    assert_eq!((fake.compared.load(Ordering::Relaxed), fake.loads.load(Ordering::Relaxed)), (3, 3));
    assert_eq!(generate(&mut driver, 0, &PROMPT, 5, 3).await, expected);
    ring.configure(3).await;
    assert_eq!(fake.compared.load(Ordering::Relaxed), 3, "only where it was asked for");
    ring.stop().await;
}

/// What `GET /health` is answered with.
fn health(addr: SocketAddr) -> String {
    let mut stream = PlainStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: worker\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_hangs_is_told_of_and_one_that_loads_for_long_is_not() {
    let plan = plan(card(6, 8, 97), 1, 1, 0);
    let slow = FakeLoader {
        load_time: Duration::from_secs(3),
        hanging_token: Some((13, Duration::from_secs(3))),
        ..FakeLoader::default()
    };
    let config = WorkerConfig { health: Some(anywhere()), stuck_after: Duration::from_secs(1), ..config("a") };
    let worker = start_with(config, Box::new(slow), anywhere()).await.unwrap();
    let asked = worker.health().unwrap();
    let workers = vec![worker];
    let topology = common::topology(&plan, &workers);
    let peer = topology.peers[0].clone();
    let stuck = async || status(&Transport::Plaintext, &peer).await.unwrap().stuck;
    let loading = tokio::spawn({
        let topology = topology.clone();
        async move { RingDriver::configure(&topology, 1, PATIENCE, |_, _| {}).await.unwrap() }
    });
    while !loading.is_finished() {
        assert_eq!(stuck().await, "");
        assert!(health(asked).starts_with("HTTP/1.1 200"));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut driver = loading.await.unwrap();
    driver.submit(vec![rows(0, 0, 1, Some(0))], vec![13], vec![]).await.unwrap();
    let answered = async {
        let (mut told, mut seen) = (String::new(), String::new());
        loop {
            tokio::select! {
                result = driver.next() => return (result.unwrap(), told, seen),
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
            told = Some(stuck().await).filter(|stuck| !stuck.is_empty()).unwrap_or(told);
            seen = Some(health(asked)).filter(|answer| answer.starts_with("HTTP/1.1 503")).unwrap_or(seen);
        }
    };
    let (result, told, seen) = tokio::time::timeout(PATIENCE, answered).await.unwrap();
    assert_eq!(result.failure, "");
    assert!(told.starts_with("at a pass since"), "{told:?}");
    assert!(seen.contains("stuck: at a pass since"), "{seen:?}");
    assert_eq!(stuck().await, "");
    assert!(health(asked).starts_with("HTTP/1.1 200"));
    for worker in workers {
        worker.stop().await.unwrap();
    }
}

#[tokio::test]
async fn connections_that_say_nothing_hold_up_no_member() {
    let plan = plan(card(6, 8, 97), 1, 1, 0);
    let ring = Ring::of_fakes(&plan, &FakeLoader::default()).await;
    let addr = ring.workers[0].addr();
    let mut silent = Vec::new();
    for said in ["", "PRI * HTTP/2.0\r\n"].iter().cycle().take(200) {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        silent.push(stream);
    }
    generate(&mut ring.configure(1).await, 0, &PROMPT, 5, 3).await;
    // And none of them is kept.
    for mut stream in silent {
        let mut end = [0; 64];
        let closed = async { while let Ok(1..) = stream.read(&mut end).await {} };
        tokio::time::timeout(PATIENCE, closed).await.expect("it is closed");
    }
    ring.stop().await;
}
