//! What reads foreign bytes is given damaged ones, the same in every run: each is an error or harmless, costs little time, and all
//! of them little memory. Arithmetic that overflows panics in this build.

use std::{
    fs,
    path::Path,
    sync::{Arc, Once},
    time::Duration,
};

use anyhow::{Context as _, Result};
use lime_engine::{Isa, KeptPages};
use lime_gateway::{GatewayConfig, Orders, Peer};
use lime_model::{ModelConfig, ModelFolder};
use lime_plan::{DeviceIndex, Dtype, FleetFile, Ladder, MemoryModel, Nanos, Plan, PlanInForce, ServingLimits, Way};
use lime_ring::Transport;
use lime_tests::{
    fixtures,
    mutate::Mutator,
    ring::{Workers, card, even_plan, lending, topology},
};
use lime_text::GenerationConfig;
use lime_worker::frame_limits;
use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    time::{ClockId, clock_gettime},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{mpsc, watch},
    time::timeout,
};

const SERVING: ServingLimits =
    ServingLimits { max_context_tokens: 128, max_concurrent_requests: 2, prefill_chunk_tokens: 16 };

/// Processor time that one input may take: a length that is believed takes far more, a busy machine takes none.
const MOST_TIME: Duration = Duration::from_secs(5);
/// Address space of this whole process, its workers and threads included.
const MOST_MEMORY: u64 = 6 << 30;

/// Reads one input: within [`MOST_TIME`], and in a process that cannot have more than [`MOST_MEMORY`] (what asks for more ends it).
fn bounded<T>(seed: u64, read: impl FnOnce() -> T) -> T {
    static LIMITED: Once = Once::new();
    LIMITED.call_once(|| {
        let limit = Rlimit { current: Some(MOST_MEMORY), maximum: getrlimit(Resource::As).maximum };
        setrlimit(Resource::As, limit).expect("a process may lower its own limits");
    });
    let now = || {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    };
    let began = now();
    let result = read();
    let took = now() - began;
    assert!(took < MOST_TIME, "the input of seed {seed} took {took:?}");
    result
}

fn plan() -> Result<Plan> {
    even_plan(&card(&fixtures::bard())?, 2, 2, SERVING, Dtype::Bf16)
}

/// All that is done with a plan before anything is loaded.
fn look_at(plan: &Plan) {
    let model = MemoryModel::of(plan);
    for (index, device) in plan.devices.iter().enumerate() {
        let _ = model.device(&device.blocks).used();
        let _ = plan.expected_blocks(DeviceIndex(index as u32)).len();
        let _ = plan.successor(DeviceIndex(index as u32));
        if let Ok(ladder) = Ladder::of(plan, device) {
            let _ = ladder.way(ladder.most(), Way::default(), Nanos(u64::MAX));
            // What a device keeps for this one takes memory only when pages come.
            let asker = DeviceIndex(index as u32);
            let keeper = ladder.hand_over().map(|over| over.to);
            let kept = keeper.map(|keeper| KeptPages::new(plan, asker, keeper, (Isa::Scalar, 1), Arc::default()));
            let _ = kept.is_some_and(|kept| kept.is_ok());
        }
    }
    let limits = frame_limits(plan);
    let _ = (limits.pass_message_bytes(), limits.frame_message_bytes(), limits.result_message_bytes());
}

#[test]
fn plans() -> Result<()> {
    let lent = lending(plan()?, 2, 3, Nanos(1_000_000))?;
    for text in [serde_json::to_vec(&plan()?)?, serde_json::to_vec(&lent)?] {
        let mut sound = 0;
        for seed in 0..4000 {
            let damaged = Mutator::new(seed).damaged(&text);
            sound += usize::from(bounded(seed, || {
                let plan = serde_json::from_slice::<Plan>(&damaged).ok().filter(|plan| plan.validate().is_ok());
                plan.as_ref().map(look_at).is_some()
            }));
        }
        assert!(sound > 20, "most damage is noticed, but not all of it is any: {sound}");
    }
    Ok(())
}

#[test]
fn plans_in_force() -> Result<()> {
    let worker = |device: &lime_plan::DevicePlan| (device.name.clone(), "https://10.0.0.1:7000".to_owned());
    let plan = plan()?;
    let workers = plan.devices.iter().map(worker).collect();
    let text = PlanInForce { name: "bard-1".into(), generation: 1, workers, plan }.to_json()?;
    let mut sound = 0;
    for seed in 0..4000 {
        let damaged = Mutator::new(seed).damaged(text.as_bytes());
        sound += usize::from(bounded(seed, || {
            let found = PlanInForce::from_json(&String::from_utf8_lossy(&damaged));
            found.as_ref().map(|found| look_at(&found.plan)).is_ok()
        }));
    }
    assert!(sound > 20, "most damage is noticed, but not all of it is any: {sound}");
    Ok(())
}

#[tokio::test]
async fn plans_that_are_sent_to_workers() -> Result<()> {
    let text = serde_json::to_vec(&plan()?)?;
    let workers = Workers::start(&fixtures::bard(), 2, 1).await?;
    let good = topology(&plan()?, &workers.uris())?;
    let mut epoch = 0;
    for seed in 0..150 {
        epoch += 1;
        let plan_json = Mutator::new(seed).damaged(&text).into();
        let damaged = lime_ring::RingTopology { plan_json, ..good.clone() };
        let configured = lime_ring::RingDriver::configure(&damaged, epoch, Duration::from_secs(5), |_, _| {});
        // Some are sound; whatever comes of it, both workers go on.
        let _ = timeout(Duration::from_secs(20), configured).await.with_context(|| format!("seed {seed} hangs"))?;
    }
    for peer in &good.peers {
        lime_ring::status(&Transport::Plaintext, peer).await?;
    }
    let _ring = lime_ring::RingDriver::configure(&good, epoch + 1, Duration::from_secs(5), |_, _| {}).await?;
    workers.stop().await
}

#[test]
fn fleets() -> Result<()> {
    let folder = fixtures::repository().join("manifests/fleets");
    let mut sound = 0;
    for entry in fs::read_dir(folder)? {
        let text = fs::read(entry?.path())?;
        for seed in 0..400 {
            let damaged = String::from_utf8_lossy(&Mutator::new(seed).damaged(&text)).into_owned();
            let read = || serde_saphyr::from_str::<FleetFile>(&damaged).is_ok_and(|fleet| fleet.check().is_ok());
            sound += usize::from(bounded(seed, read));
        }
    }
    assert!(sound > 20, "{sound}");
    Ok(())
}

#[test]
fn configs() -> Result<()> {
    let text = fs::read(fixtures::bard().join("config.json"))?;
    let mut sound = 0;
    for seed in 0..4000 {
        let damaged = Mutator::new(seed).damaged(&text);
        if let Ok(text) = std::str::from_utf8(&damaged) {
            sound += usize::from(bounded(seed, || ModelConfig::parse(text).is_ok()));
        }
    }
    assert!(sound > 20, "{sound}");
    Ok(())
}

/// A folder like the bundled model's, with `name` replaced by `bytes`.
fn folder_with(name: &str, bytes: &[u8], into: &Path) -> Result<()> {
    fs::write(into.join(name), bytes)?;
    Ok(())
}

#[test]
fn models() -> Result<()> {
    let bard = fixtures::bard();
    let folder = tempfile::tempdir()?;
    let files: Vec<_> = fs::read_dir(&bard)?.flatten().map(|entry| entry.file_name()).collect();
    for file in &files {
        fs::copy(bard.join(file), folder.path().join(file))?;
    }
    let weights = files.iter().filter_map(|name| name.to_str()).find(|name| name.ends_with(".safetensors"));
    let weights = weights.context("the bundled weights")?;
    // The header alone: what follows is not read here, and too short for it.
    let whole = fs::read(bard.join(weights))?;
    let length = u64::from_le_bytes(whole[..8].try_into()?) as usize;
    let header = &whole[..8 + length];
    for seed in 0..400 {
        for (name, original) in [
            (weights, header.to_vec()),
            ("config.json", fs::read(bard.join("config.json"))?),
            ("generation_config.json", b"{\"eos_token_id\": 2, \"temperature\": 0.6, \"top_p\": 0.9}".to_vec()),
        ] {
            folder_with(name, &Mutator::new(seed).damaged(&original), folder.path())?;
            bounded(seed, || {
                if let Ok(model) = ModelFolder::open(folder.path()) {
                    let _ = model.card("damaged").weight_bytes();
                }
                let _ = GenerationConfig::load(folder.path());
            });
            if bard.join(name).exists() {
                fs::copy(bard.join(name), folder.path().join(name))?;
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chat_bodies() -> Result<()> {
    let mut workers = Workers::start(&fixtures::bard(), 2, 1).await?;
    let plan = plan()?;
    // Its streams end here: the gateway makes its own at a higher epoch.
    drop(workers.configure(&plan).await?);
    let peers = plan.devices.iter().zip(workers.uris());
    let peers = peers.map(|(device, uri)| Peer { device: device.name.clone(), uri }).collect();
    let (_publish, orders) = watch::channel(Orders::new(plan, peers));
    let (events, mut happened) = mpsc::unbounded_channel();
    let config = GatewayConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        orders,
        transport: Transport::Plaintext,
        model: fixtures::bard(),
        template_program: None,
        served_name: "bard".into(),
        api_keys: Vec::new(),
        allow_hosts: Vec::new(),
        queue_limit: 8,
    };
    let gateway = lime_gateway::start(config, events).await?;
    while let Some(event) = happened.recv().await {
        if matches!(event, lime_gateway::Event::Ready { .. }) {
            break;
        }
    }
    let chat = r#"{"model":"bard","messages":[{"role":"user","content":"Who goes there?"}],"max_tokens":3,"seed":7,"temperature":0.5,"top_p":0.9,"n":1,"stop":["\n"],"logprobs":true,"top_logprobs":2,"stream":false,"logit_bias":{"5":-3},"presence_penalty":0.1}"#;
    let completion = r#"{"model":"bard","prompt":"ROMEO:","max_tokens":3,"logprobs":1,"stream":true,"stream_options":{"include_usage":true}}"#;
    let mut statuses = std::collections::BTreeMap::<String, usize>::new();
    for seed in 0..500 {
        for (path, body) in [("/v1/chat/completions", chat), ("/v1/completions", completion)] {
            let damaged = Mutator::new(seed).damaged(body.as_bytes());
            let status = post(gateway.addr(), path, &damaged).await?;
            let allowed = ["200", "400", "404", "408", "413", "422", "429"].contains(&status.as_str());
            assert!(allowed, "{status} for {}", String::from_utf8_lossy(&damaged));
            *statuses.entry(status).or_default() += 1;
        }
    }
    assert!(statuses.get("400").copied().unwrap_or_default() > 100, "{statuses:?}");
    for (path, body) in [("/v1/chat/completions", chat), ("/v1/completions", completion)] {
        assert_eq!(post(gateway.addr(), path, body.as_bytes()).await?, "200", "{path} {body}");
    }
    gateway.stop().await;
    workers.stop().await
}

/// The status of the answer, which is read to its end.
async fn post(addr: std::net::SocketAddr, path: &str, body: &[u8]) -> Result<String> {
    let mut stream = TcpStream::connect(addr).await?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    let mut answer = Vec::new();
    timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await.context("no end of the answer")??;
    let text = String::from_utf8_lossy(&answer).into_owned();
    Ok(text.split(' ').nth(1).context("no status")?.to_owned())
}
