//! A link that gets slow while pages are on its other side, and fast again: the ring goes the cheaper way each time, with the same
//! bits.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use lime_plan::{Dtype, Nanos, ServingLimits};
use lime_ring::{
    RingDriver, Transport,
    proto::{Rows, Sampling, StatusReply},
};
use lime_tests::{
    fixtures,
    ring::{Workers, card, even_plan, lending, topology},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp},
    sync::mpsc,
    time::{Instant, sleep_until},
};

const SERVING: ServingLimits =
    ServingLimits { max_context_tokens: 330, max_concurrent_requests: 3, prefill_chunk_tokens: 50 };
const PROMPT: u32 = 150;
/// What streaming a block makes a pass longer, and a slow link a message.
const STEP: Duration = Duration::from_millis(10);
const SLOW: u64 = 25;

/// Carries bytes to `to` and back, each of them late by so many milliseconds, at full bandwidth.
async fn slow_link(to: SocketAddr, late: Arc<AtomicU64>) -> Result<SocketAddr> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let here = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = TcpStream::connect(to).await else { return };
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
            tokio::spawn(carry(near_read, far_write, late.clone()));
            tokio::spawn(carry(far_read, near_write, late.clone()));
        }
    });
    Ok(here)
}

async fn carry(mut from: tcp::OwnedReadHalf, mut to: tcp::OwnedWriteHalf, late: Arc<AtomicU64>) {
    let (sender, mut queue) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move {
        while let Some((due, bytes)) = queue.recv().await {
            sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let due = Instant::now() + Duration::from_millis(late.load(Ordering::Relaxed));
        if sender.send((due, buffer[..count].to_vec())).is_err() {
            return;
        }
    }
}

/// Three sequences that grow by a token a pass.
struct Growing {
    ring: RingDriver,
    length: u32,
    next: Vec<u32>,
    drawn: Vec<Vec<u32>>,
}

impl Growing {
    async fn begin(ring: RingDriver) -> Result<Self> {
        let mut this = Self { ring, length: 0, next: vec![0; 3], drawn: vec![Vec::new(); 3] };
        for start in (0..PROMPT).step_by(16) {
            let count = 16.min(PROMPT - start);
            let tokens =
                (0..3).flat_map(|slot| (start..start + count).map(move |at| 2 + (at * 131 + slot * 97) % 1000));
            this.pass(count, tokens.collect()).await?;
        }
        Ok(this)
    }

    async fn grow(&mut self) -> Result<()> {
        self.pass(1, self.next.clone()).await?;
        for (drawn, next) in self.drawn.iter_mut().zip(&self.next) {
            drawn.push(*next);
        }
        Ok(())
    }

    async fn pass(&mut self, count: u32, tokens: Vec<u32>) -> Result<()> {
        let sample = Sampling { temperature: 0.7, seed: 5, draw: self.length.into(), ..Sampling::default() };
        let rows = |slot| Rows { slot, start: self.length, count, sample: Some(sample.clone()), ..Rows::default() };
        self.ring.submit((0..3).map(rows).collect(), tokens, Vec::new()).await?;
        let result = self.ring.next().await?;
        ensure!(result.failure.is_empty(), "{}", result.failure);
        self.length += count;
        self.next = result.tokens.iter().map(|token| token.token).collect();
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ring_goes_the_cheaper_way_as_the_link_changes() -> Result<()> {
    let (model, store) = (fixtures::bard(), tempfile::tempdir()?);
    let ample = even_plan(&card(&model)?, 2, 1, SERVING, Dtype::Bf16)?;
    let plan = lending(ample.clone(), 2, 12, Nanos(STEP.as_nanos() as u64))?;
    let workers = Workers::start_with_store(&model, Some(store.path()), 2, 1).await?;
    let uris = workers.uris();
    let late = Arc::new(AtomicU64::new(0));
    let keeper = uris[1].trim_start_matches("http://").parse()?;
    let link = format!("http://{}", slow_link(keeper, late.clone()).await?);
    let topology = topology(&plan, &[uris[0].clone(), link])?;
    let ring = RingDriver::configure(&topology, 1, Duration::from_secs(30), |_, _| {}).await?;
    let mut growing = Growing::begin(ring).await?;
    let said =
        async || -> Result<StatusReply> { Ok(lime_ring::status(&Transport::Plaintext, &topology.peers[0]).await?) };

    for _ in 0..50 {
        growing.grow().await?;
    }
    let fast = said().await?;
    ensure!(fast.remote().bytes > 0 && fast.memory().steps_in_force == 0, "{fast:?}");

    late.store(SLOW, Ordering::Relaxed);
    let mut slow_passes = 0;
    while said().await?.remote().bytes > 0 {
        growing.grow().await?;
        slow_passes += 1;
        ensure!(slow_passes < 40, "pages stay beyond a slow link: {:?}", said().await?);
    }
    let slow = said().await?;
    ensure!(slow.memory().steps_in_force > 0 && slow.remote().brought_back == slow.remote().handed_over, "{slow:?}");
    ensure!(slow.remote().cost_micros > 20 * fast.remote().cost_micros.min(1000), "{slow:?}");

    late.store(0, Ordering::Relaxed);
    let mut fast_passes = 0;
    while said().await?.remote().bytes == 0 {
        growing.grow().await?;
        fast_passes += 1;
        ensure!(fast_passes < 90, "blocks stream beside a fast link: {:?}", said().await?);
    }
    println!("{slow_passes} passes until blocks streamed, {fast_passes} until pages went again");
    for _ in 0..15 {
        growing.grow().await?;
    }
    let again = said().await?;
    ensure!(again.memory().steps_in_force < slow.memory().steps_in_force && again.remote().bytes > 0, "{again:?}");
    let drawn = std::mem::take(&mut growing.drawn);
    drop(growing);
    workers.stop().await?;

    let mut workers = Workers::start(&model, 2, 1).await?;
    let mut expected = Growing::begin(workers.configure(&ample).await?).await?;
    for _ in 0..drawn[0].len() {
        expected.grow().await?;
    }
    ensure!(drawn == expected.drawn, "{drawn:?} instead of {:?}", expected.drawn);
    workers.stop().await
}
