//! What reads foreign bytes is given damaged ones, the same in every run: each is an error or harmless, costs little time, and all
//! of them little memory. Arithmetic that overflows panics in this build.

use std::{collections::BTreeSet, fs, path::PathBuf, sync::Once, time::Duration};

use anyhow::{Context as _, Result};
use lime_gateway::{GatewayConfig, Orders};
use lime_plan::{Dtype, Nanos, Plan, PlanInForce, ServingLimits};
use lime_ring::{Peer, Transport, proto};
use lime_tests::{
    fixtures,
    mutate::Mutator,
    readers::{READERS, Reader},
    ring::{Workers, card, even_plan, lending, topology},
};
use prost::Message as _;
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

/// What was found by fuzzing, or shows what is sound; `tests/fuzz/README.md` says how it grows.
fn corpus(reader: &Reader) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let folder = fixtures::repository().join("tests/fuzz/corpus").join(reader.name);
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("{} has no corpus", reader.name))? {
        let path = entry?.path();
        files.push((path.clone(), fs::read(path)?));
    }
    files.sort();
    Ok(files)
}

/// A reader that is not fuzzed, or a target that nothing replays, is found here and not by whoever has a nightly compiler.
#[test]
fn every_reader_has_a_target_and_a_corpus() -> Result<()> {
    let fuzz = fixtures::repository().join("tests/fuzz");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml"))?;
    let names = |folder: &str| -> Result<BTreeSet<String>> {
        let entries = fs::read_dir(fuzz.join(folder))?.flatten();
        Ok(entries.filter_map(|entry| Some(entry.path().file_stem()?.to_string_lossy().into_owned())).collect())
    };
    let readers: BTreeSet<String> = READERS.iter().map(|reader| reader.name.to_owned()).collect();
    assert_eq!(names("fuzz_targets")?, readers);
    assert_eq!(names("corpus")?, readers);
    for name in &readers {
        assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"")), "{name}");
        let target = fs::read_to_string(fuzz.join("fuzz_targets").join(format!("{name}.rs")))?;
        assert!(target.contains(&format!("reader(\"{name}\")")), "{name} reads something else");
    }
    Ok(())
}

#[test]
fn the_corpus_and_what_damage_makes_of_it() -> Result<()> {
    for reader in READERS {
        let mut sound = 0;
        for (path, bytes) in corpus(&reader)? {
            let meant = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("sound"));
            let found = bounded(0, || (reader.read)(&bytes));
            assert!(found || !meant, "{} is not sound", path.display());
            sound += (0..reader.inputs)
                .filter(|seed| bounded(*seed, || (reader.read)(&Mutator::new(*seed).damaged(&bytes))))
                .count() as u64;
        }
        // Nothing in a header of weights is without meaning; elsewhere some damage does no harm, or the test would show little.
        assert!(
            sound > reader.inputs / 200 || reader.name == "safetensors",
            "{}: only {sound} inputs were read to their end",
            reader.name
        );
    }
    Ok(())
}

/// `cargo test --test hostile -- --ignored` writes the sound files of the corpus anew.
#[test]
#[ignore = "writes into the working tree"]
fn write_the_sound_corpus() -> Result<()> {
    let bard = fixtures::bard();
    let weights = fs::read(bard.join("model.safetensors"))?;
    // The header alone: the corpus stays small.
    let header = 8 + u64::from_le_bytes(weights[..8].try_into()?) as usize;
    let plan = plan()?;
    let worker = |device: &lime_plan::DevicePlan| (device.name.clone(), "https://10.0.0.1:7000".to_owned());
    let workers = plan.devices.iter().map(worker).collect();
    let lent = serde_json::to_vec(&lending(plan.clone(), 2, 3, Nanos(1_000_000))?)?;
    let in_force = PlanInForce { name: "bard-1".into(), generation: 1, workers, plan: plan.clone() };
    let rows = proto::Rows { slot: 1, count: 2, ..proto::Rows::default() };
    let pass = proto::Pass { epoch: 1, pass: 1, rows: vec![rows.clone()], tokens: vec![5, 6], ..Default::default() };
    let frame = proto::Frame {
        epoch: 1,
        pass: 1,
        segment: 2,
        rows: vec![rows],
        activation_type: proto::ActivationType::F32.into(),
        columns: 8,
        activations: vec![0x3f; 2 * 8 * 4].into(),
        ..Default::default()
    };
    let sampling = br#"{"eos_token_id": [2, 3], "temperature": 0.6, "top_p": 0.9, "min_p": 0.1}"#;
    let files: [(&str, &str, Vec<u8>); 8] = [
        ("config", "sound.json", fs::read(bard.join("config.json"))?),
        ("frame", "sound.bin", frame.encode_to_vec()),
        ("generation", "sound.json", sampling.to_vec()),
        ("pass", "sound.bin", pass.encode_to_vec()),
        ("plan", "sound.json", serde_json::to_vec(&plan)?),
        ("plan", "sound-lending.json", lent),
        ("plan_in_force", "sound.json", in_force.to_json()?.into_bytes()),
        ("safetensors", "sound.bin", weights[..header].to_vec()),
    ];
    for (reader, name, bytes) in files {
        let folder = fixtures::repository().join("tests/fuzz/corpus").join(reader);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), bytes)?;
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
        access: lime_gateway::Access::default(),
        queue_limit: 8,
    };
    let gateway = lime_gateway::start(config, lime_gateway::Options::default(), events).await?;
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
