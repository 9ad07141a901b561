//! Rings in which one device keeps KV pages for another: the same bits as with ample memory, over plain text and mutual TLS,
//! whatever the link gives, and the same text when the keeper is killed in the middle of an answer.

use std::{
    env,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use lime_gateway::{Event, GatewayConfig, Orders};
use lime_plan::{Bytes, DevicePlan, DeviceSteps, Dtype, Fleet, Goal, Link, Nanos, NodeProfile, Plan, ServingLimits};
use lime_ring::{LinkShape, Peer, RingDriver, Transport, proto::StatusReply};
use lime_tests::{
    certificates::Authority,
    fixtures,
    memory_limit::MemoryLimit,
    ring::{Outcome, Sequence, Workers, card, drive, even_plan, lending, topology},
    synthetic::{Shape, write_folder},
};
use lime_worker::WorkerConfig;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{mpsc, watch},
    time::timeout,
};

const SERVING: ServingLimits =
    ServingLimits { max_context_tokens: 330, max_concurrent_requests: 3, prefill_chunk_tokens: 40 };
/// Where the keeper's process finds a weight store.
const CHILD: &str = "LIME_TEST_KEEPER";

fn ample() -> Result<Plan> {
    even_plan(&card(&fixtures::bard())?, 2, 2, SERVING, Dtype::Bf16.kv_entries())
}

/// Room for half of the longest requests on the first device; streaming a block takes `step` of a pass, so the plan says.
fn short(step: Duration) -> Result<Plan> {
    lending(ample()?, 2, 12, Nanos(step.as_nanos() as u64))
}

fn sequences() -> Vec<Sequence> {
    let sequence = |(seed, prompt): (u64, u64)| Sequence {
        prompt: (0..prompt).map(|index| 2 + (index * 131 + seed * 97) as u32 % 1000).collect(),
        draws: 40,
        temperature: 0.7,
        seed,
    };
    [(1, 200), (2, 150), (3, 233)].map(sequence).into()
}

/// What a ring with ample memory draws.
async fn expected() -> Result<Vec<Outcome>> {
    let mut workers = Workers::start(&fixtures::bard(), 2, 1).await?;
    let mut ring = workers.configure(&ample()?).await?;
    let drawn = drive(&mut ring, &sequences(), 14).await?;
    workers.stop().await?;
    Ok(drawn)
}

/// What a ring draws that is short of memory, and what its devices say then.
async fn drawn(
    transport: &Transport,
    link: Option<LinkShape>,
    plan: &Plan,
) -> Result<(Vec<Outcome>, Vec<StatusReply>)> {
    let store = tempfile::tempdir()?;
    let mut workers = Workers::start_linked(transport, &fixtures::bard(), store.path(), 2, link).await?;
    let mut ring = workers.configure(plan).await?;
    let drawn = drive(&mut ring, &sequences(), 14).await?;
    let said = workers.status().await?;
    drop(ring);
    workers.stop().await?;
    Ok((drawn, said))
}

fn used(said: &StatusReply) -> u64 {
    said.memory().pinned_bytes + said.memory().prefetch_bytes + said.memory().kv_bytes + said.memory().activation_bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_that_outgrows_its_device_goes_to_one_with_room() -> Result<()> {
    let (expected, plan) = (expected().await?, short(Duration::from_secs(1))?);
    let authority = Authority::new()?;
    let folder = authority.worker()?.folder()?;
    for transport in [Transport::Plaintext, Transport::open(Some(folder.path()))?] {
        let (drawn, said) = drawn(&transport, None, &plan).await?;
        ensure!(drawn == expected, "other bits over {}", transport.scheme());
        let [asker, keeper] = said.as_slice() else { bail!("not two devices") };
        ensure!(asker.remote().handed_over > 3 && asker.memory().steps_in_force == 0, "{asker:?}");
        ensure!(asker.remote().bytes > 0 && asker.remote().bytes <= asker.remote().room_bytes, "{asker:?}");
        ensure!(asker.remote().wait_micros > 0 && asker.remote().cost_micros > 0, "{asker:?}");
        ensure!(used(asker) <= plan.devices[0].memory.budget.0, "{asker:?}");
        ensure!(
            keeper.kept().lent_bytes == plan.devices[1].memory.lent.0
                && keeper.kept().bytes <= keeper.kept().lent_bytes,
            "{keeper:?}"
        );
        ensure!(keeper.kept().pages * plan_page(&plan) == asker.remote().bytes, "{keeper:?}");
        ensure!(keeper.kept().questions > 100, "{keeper:?}");
    }
    Ok(())
}

fn plan_page(plan: &Plan) -> u64 {
    let layers = plan.devices[0].attentions();
    lime_plan::MemoryModel::of(plan).page_bytes(layers).0
}

/// The plan counts on a fast link. What the probe finds is slower than streaming.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_slow_link_blocks_stream_instead() -> Result<()> {
    let slow = LinkShape { bandwidth_bits: 200_000_000, latency: Duration::from_millis(10) };
    let (drawn, said) = drawn(&Transport::Plaintext, Some(slow), &short(Duration::from_millis(4))?).await?;
    ensure!(drawn == expected().await?, "other bits");
    ensure!(said[0].remote().handed_over == 0 && said[0].memory().steps_in_force > 0, "{:?}", said[0]);
    ensure!(said[0].remote().cost_micros > 20_000, "{:?}", said[0]);
    Ok(())
}

/// A new epoch of the same plan finds no page of the old one anywhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_kept_ends_with_its_epoch() -> Result<()> {
    let (store, plan) = (tempfile::tempdir()?, short(Duration::from_secs(1))?);
    let mut workers = Workers::start_linked(&Transport::Plaintext, &fixtures::bard(), store.path(), 2, None).await?;
    let mut ring = workers.configure(&plan).await?;
    let first = drive(&mut ring, &sequences(), 14).await?;
    ensure!(workers.status().await?[1].kept().bytes > 0, "nothing is kept");
    let mut ring = workers.configure(&plan).await?;
    let said = workers.status().await?;
    ensure!(said[0].remote().bytes == 0 && said[1].kept().bytes == 0, "{said:?}");
    ensure!(drive(&mut ring, &sequences(), 14).await? == first, "other bits");
    ensure!(workers.status().await?[1].kept().bytes > 0, "nothing is kept");
    workers.stop().await
}

/// Runs in the process that is killed, and only there.
#[tokio::test]
async fn keeping_in_a_process_of_its_own() -> Result<()> {
    let Some(store) = env::var_os(CHILD) else { return Ok(()) };
    let worker =
        lime_worker::start(config("device-1", Path::new(&store)), SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    println!("@listening {}", worker.addr());
    worker.ended().await;
    Ok(())
}

fn config(name: &str, store: &Path) -> WorkerConfig {
    WorkerConfig { store: Some(store.to_owned()), ..WorkerConfig::new(name, fixtures::bard()) }
}

/// A worker in a process of its own, and where it is.
struct Process {
    child: Child,
    uri: String,
}

impl Process {
    /// The one that keeps pages.
    fn keeper(store: &Path) -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.args(["--exact", "keeping_in_a_process_of_its_own", "--nocapture", "--test-threads=1"]);
        Self::start(command.env(CHILD, store))
    }

    fn start(command: &mut Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        for line in lines {
            // The test runner may begin the line.
            if let Some((_, addr)) = line?.split_once("@listening ") {
                return Ok(Self { child, uri: format!("http://{}", addr.trim()) });
            }
        }
        bail!("the process ended with {}", child.wait()?)
    }

    /// SIGKILL.
    fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Half of its weights lie on each device; 24 KiB of KV cache a token there.
const SHAPE: Shape = Shape::LLAMA_81M;
const OVERHEAD: Bytes = Bytes::mib(24);
/// Names the folder for the process that is limited.
const LIMITED: &str = "LIME_TEST_ASKER";

/// Two devices, the first with room for a quarter of the longest request.
fn large(model: &Path) -> Result<Plan> {
    let serving = ServingLimits { max_context_tokens: 1408, max_concurrent_requests: 1, prefill_chunk_tokens: 64 };
    let ample = even_plan(&card(model)?, 2, 1, serving, Dtype::F32)?;
    let ample = ample.changed(|plan| plan.devices[0].memory.overhead = OVERHEAD)?;
    lending(ample, 4, 21, Nanos(1_000_000_000))
}

/// From a fleet to tokens: the planner finds the way, and the ring goes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_planner_lends_and_the_ring_follows() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let model = dir.path().join("model");
    write_folder(&SHAPE, &model)?;
    let node = |name: &str, memory, memory_bandwidth, disk_bandwidth| NodeProfile {
        name: name.into(),
        memory: Bytes::mib(memory),
        overhead: OVERHEAD,
        memory_bandwidth,
        compact_bandwidth: None,
        throughput: 100_000_000_000,
        disk_bandwidth,
        block_latency: Nanos::ZERO,
        formats: Default::default(),
    };
    // A fast board with little memory and a slow disk, and a slow machine with much memory.
    let nodes = vec![node("board", 150, 40_000_000_000, Some(60_000_000)), node("roomy", 400, 4_000_000_000, None)];
    let link = Link { bandwidth: 1_250_000_000, latency: Nanos(100_000) };
    let card = card(&model)?;
    let mut goal = Goal::sporadic(&card, 1408);
    goal.serving.prefill_chunk_tokens = 64;
    goal.typical_context = Some(64);
    goal.kv = Dtype::F32;
    goal.least_devices = 2;
    let plan = lime_planner::plan(&card, &Fleet::uniform(nodes, link), &goal);
    let plan = plan.map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
    let hands_over =
        |device: &DevicePlan| DeviceSteps::of(&plan, device).is_ok_and(|steps| steps.hand_over().is_some());
    let asker = plan.devices.iter().position(hands_over).with_context(|| format!("nobody lends: {plan:?}"))?;
    ensure!(plan.devices[asker].name == "board", "{plan:?}");

    let mut workers = Workers::start_with_store(&model, Some(&dir.path().join("store")), 2, 1).await?;
    let mut ring = workers.configure(&plan).await?;
    let prompt: Vec<u32> = (0..760).map(|index| 2 + index * 131 % 1900).collect();
    let sequence = [Sequence { prompt, draws: 20, temperature: 0.7, seed: 5 }];
    let found = drive(&mut ring, &sequence, 64).await?;
    let said = workers.status().await?;
    ensure!(said[asker].remote().handed_over > 0, "{said:?}");
    for (said, device) in said.iter().zip(&plan.devices) {
        ensure!(used(said) + OVERHEAD.0 + device.memory.lent.0 <= device.memory.budget.0, "{said:?}");
    }
    let mut ring = workers.configure(&even_plan(&card, 2, 1, plan.serving, Dtype::F32)?).await?;
    ensure!(drive(&mut ring, &sequence, 64).await? == found, "other bits");
    workers.stop().await
}

/// Runs in the process that is limited, and only there.
#[tokio::test]
async fn asking_in_the_limited_process() -> Result<()> {
    let Some(dir) = env::var_os(LIMITED).map(PathBuf::from) else { return Ok(()) };
    let config = WorkerConfig { model: dir.join("model").into(), ..config("device-0", &dir.join("store")) };
    let worker = lime_worker::start(config, SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    println!("@listening {}", worker.addr());
    worker.ended().await;
    Ok(())
}

/// What the plan says of a device that hands pages over holds where more gets the process killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limited_process_hands_over_what_does_not_fit() -> Result<()> {
    if env::var_os(LIMITED).is_some() || env::var_os(CHILD).is_some() {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let model = dir.path().join("model");
    write_folder(&SHAPE, &model)?;
    let plan = large(&model)?;
    let budget = plan.devices[0].memory.budget;
    // The system counts in pages.
    let limit = match MemoryLimit::new(budget.0.next_multiple_of(1 << 20)) {
        Ok(limit) => limit,
        Err(why) => {
            println!("skipped: no control group can be made here ({why})");
            return Ok(());
        }
    };
    let mut asker = limit.command(&env::current_exe()?);
    asker.args(["--exact", "asking_in_the_limited_process", "--nocapture", "--test-threads=1"]);
    let asker = Process::start(asker.env(LIMITED, dir.path()))?;
    let keeper = WorkerConfig { model: model.clone().into(), ..config("device-1", &dir.path().join("other")) };
    let keeper = lime_worker::start(keeper, SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let topology = topology(&plan, &[asker.uri.clone(), format!("http://{}", keeper.addr())])?;
    let mut ring = RingDriver::configure(&topology, 1, Duration::from_secs(60), |_, _| {}).await?;
    let prompt: Vec<u32> = (0..1380).map(|index| 2 + index * 131 % 1900).collect();
    let sequence = [Sequence { prompt, draws: 16, temperature: 0.7, seed: 5 }];
    let found = drive(&mut ring, &sequence, 64).await?;
    let said = lime_ring::status(&Transport::Plaintext, &topology.peers[0]).await?;
    ensure!(said.remote().handed_over > 10 && said.memory().steps_in_force == 0, "{said:?}");
    ensure!(used(&said) + OVERHEAD.0 <= budget.0, "{said:?}");
    println!("limit {budget}, most used {}; {}", Bytes(limit.peak()?), Bytes(said.remote().bytes));
    drop(ring);
    keeper.stop().await?;

    let mut workers = Workers::start(&model, 2, 1).await?;
    let serving = plan.serving;
    let mut ring = workers.configure(&even_plan(&card(&model)?, 2, 1, serving, Dtype::F32)?).await?;
    ensure!(drive(&mut ring, &sequence, 64).await? == found, "other bits");
    workers.stop().await
}

/// Streams an answer; `begun` is called when some of it has come. Gives its text, and the events after that.
async fn stream(addr: SocketAddr, begun: impl AsyncFnOnce() -> Result<()>) -> Result<(String, usize)> {
    let prompt =
        "ROMEO:\nBut, soft! what light through yonder window breaks? It is the east, and Juliet is the sun. ".repeat(6);
    let body = json!({
        "model": "bard", "prompt": prompt, "max_tokens": 60, "temperature": 0.7, "seed": 3, "ignore_eos": true, "stream": true,
    });
    let (body, mut begun) = (body.to_string(), Some(begun));
    let mut socket = TcpStream::connect(addr).await?;
    let head =
        "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n";
    socket.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).await?;
    let (mut text, mut count, mut whole) = (String::new(), 0, String::new());
    let mut lines = tokio::io::BufReader::new(socket).lines();
    while let Some(line) = timeout(Duration::from_secs(60), lines.next_line()).await.context("the stream stalls")?? {
        whole.push_str(&line);
        let Some(data) = line.strip_prefix("data: ") else { continue };
        if data == "[DONE]" {
            return Ok((text, count));
        }
        let event: Value = serde_json::from_str(data)?;
        text.push_str(event["choices"][0]["text"].as_str().with_context(|| format!("no text: {data}"))?);
        count += 1;
        if let Some(begun) = (count == 7).then(|| begun.take()).flatten() {
            begun().await?;
            count = 0;
        }
    }
    bail!("the stream ended early: {whole}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_goes_on_when_the_keeper_is_killed_in_the_middle_of_it() -> Result<()> {
    let (here, there) = (tempfile::tempdir()?, tempfile::tempdir()?);
    // One request is to outgrow its device.
    let serving = ServingLimits { max_concurrent_requests: 1, ..SERVING };
    let ample = even_plan(&card(&fixtures::bard())?, 2, 2, serving, Dtype::Bf16)?;
    let plan = lending(ample, 2, 5, Nanos(1_000_000_000))?;
    let asker = lime_worker::start(config("device-0", here.path()), SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let mut keeper = Process::keeper(there.path())?;
    let asker_uri = format!("http://{}", asker.addr());
    let peers = |keeper: &Process| {
        let peer = |(device, uri): (&str, &str)| Peer { device: device.into(), uri: uri.into() };
        [("device-0", asker_uri.as_str()), ("device-1", keeper.uri.as_str())].map(peer).to_vec()
    };
    let (publish, orders) = watch::channel(Orders::new(plan.clone(), peers(&keeper)));
    let (events, mut happened) = mpsc::unbounded_channel();
    let config = GatewayConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        orders,
        transport: Transport::Plaintext,
        model: fixtures::bard(),
        template_program: None,
        served_name: "bard".into(),
        access: lime_gateway::Access::default(),
        queue_limit: 8,
    };
    let gateway = lime_gateway::start(config, lime_gateway::Options::default(), events).await?;
    while !matches!(happened.recv().await.context("the gateway ended")?, Event::Ready { .. }) {}
    let (undisturbed, _) = stream(gateway.addr(), async || Ok(())).await?;

    let device_0 = Peer { device: "device-0".into(), uri: asker_uri.clone() };
    let remote =
        async || -> Result<u64> { Ok(lime_ring::status(&Transport::Plaintext, &device_0).await?.remote().handed_over) };
    let before = remote().await?;
    ensure!(before > 0, "the answer fits without the keeper");
    let replace = async || {
        ensure!(remote().await? > before, "nothing is kept yet");
        keeper.kill()?;
        keeper = Process::keeper(there.path())?;
        publish.send_replace(Orders::new(plan.clone(), peers(&keeper)));
        Ok(())
    };
    let (text, events_after) = stream(gateway.addr(), replace).await?;
    ensure!(text == undisturbed, "{text:?} instead of {undisturbed:?}");
    ensure!(events_after > 20, "the keeper was killed in the middle: {events_after}");
    let mut recovered = 0;
    while let Ok(event) = happened.try_recv() {
        recovered += u32::from(matches!(event, Event::Recovered { .. }));
    }
    ensure!(recovered > 0, "the ring was never down");
    let metrics = metrics(gateway.addr()).await?;
    for line in
        ["lime_worker_kept_bytes{device=\"device-1\"} ", "lime_worker_pages_handed_over_total{device=\"device-0\"} "]
    {
        let value = metrics.lines().find_map(|found| found.strip_prefix(line)).with_context(|| metrics.clone())?;
        ensure!(value.parse::<f64>()? > 0.0, "{line}{value}");
    }
    gateway.stop().await;
    Ok(asker.stop().await?)
}

async fn metrics(addr: SocketAddr) -> Result<String> {
    let mut socket = TcpStream::connect(addr).await?;
    socket.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let (mut text, mut lines) = (String::new(), tokio::io::BufReader::new(socket).lines());
    while let Some(line) = lines.next_line().await? {
        text.push_str(&line);
        text.push('\n');
    }
    Ok(text)
}
