//! Tokens that are guessed ahead change no answer: rings of real engines behind a gateway, with and without, over plans that stream, cut
//! layers and lend pages, for requests of every kind at once, and with a worker killed in the middle.

use std::{
    env,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use lime_gateway::{Event, GatewayConfig, GatewayHandle, Options, Orders, Speculation};
use lime_plan::{Block, Dtype, Nanos, Plan, ServingLimits, testing::cut_layers};
use lime_ring::{Peer, Transport};
use lime_tests::{
    fixtures,
    ring::{Sequence, Workers, card, drive, drive_guessing, even_plan, lending, streamed},
};
use lime_worker::WorkerConfig;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{mpsc, watch},
    time::timeout,
};

const SERVING: ServingLimits =
    ServingLimits { max_context_tokens: 320, max_concurrent_requests: 3, prefill_chunk_tokens: 40 };
/// Where the process that is killed finds its weight store.
const CHILD: &str = "LIME_TEST_SPECULATION";
const PATIENCE: Duration = Duration::from_secs(120);

fn nowhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A gateway over the workers at `uris`, ready to serve.
async fn gateway(
    plan: &Plan,
    uris: &[String],
    how: Speculation,
) -> Result<(GatewayHandle, watch::Sender<Orders>, mpsc::UnboundedReceiver<Event>)> {
    let (publish, orders) = watch::channel(Orders::new(plan.clone(), peers(plan, uris)));
    let (events, mut happened) = mpsc::unbounded_channel();
    let config = GatewayConfig {
        listen: nowhere(),
        orders,
        transport: Transport::Plaintext,
        model: fixtures::bard(),
        template_program: None,
        served_name: "bard".into(),
        access: lime_gateway::Access::default(),
        queue_limit: 32,
    };
    let options = Options { speculation: how, ..Options::default() };
    let gateway = lime_gateway::start(config, options, events).await?;
    while !matches!(happened.recv().await.context("the gateway ended")?, Event::Ready { .. }) {}
    Ok((gateway, publish, happened))
}

fn peers(plan: &Plan, uris: &[String]) -> Vec<Peer> {
    let peer =
        |(device, uri): (&lime_plan::DevicePlan, &String)| Peer { device: device.name.clone(), uri: uri.clone() };
    plan.devices.iter().zip(uris).map(peer).collect()
}

/// Text that repeats itself, as an edit does; a poem; nothing to go by.
fn requests() -> Vec<Value> {
    let edit = "ROMEO:\nBut, soft! what light through yonder window breaks?\nIt is the east, and Juliet is the sun.\n\
                ROMEO:\nBut, soft! what light through yonder window breaks?\nIt is the east, ";
    let schema = json!({
        "type": "object", "additionalProperties": false, "required": ["who", "lines"],
        "properties": {
            "who": {"enum": ["ROMEO", "JULIET"]},
            "lines": {"type": "array", "minItems": 1, "maxItems": 3, "items": {"type": "string", "maxLength": 30}},
            "act": {"type": "integer", "minimum": 1, "maximum": 5},
        },
    });
    let request = |changes: Value| {
        let mut body = json!({
            "model": "bard", "prompt": edit, "max_tokens": 60, "temperature": 0, "seed": 5, "return_token_ids": true,
        });
        if let (Value::Object(body), Value::Object(changes)) = (&mut body, changes) {
            body.extend(changes);
        }
        body
    };
    [
        json!({}),
        json!({"temperature": 0.8, "seed": 1}),
        json!({"temperature": 0.3, "top_p": 0.9, "logprobs": 3}),
        json!({"presence_penalty": 0.6, "frequency_penalty": 0.4, "logprobs": 1, "ignore_eos": true}),
        json!({"frequency_penalty": -0.9, "logit_bias": {"17": 3, "200": -100}, "temperature": 0.5, "seed": 2}),
        json!({"frequency_penalty": -2, "logprobs": 2, "max_tokens": 90}),
        json!({"stop": ["\n", "the sun"], "logprobs": 0}),
        json!({"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}, "temperature": 1.4, "seed": 3, "logprobs": 1}),
        json!({"guided_regex": "(But, soft! )*what light(er)?\\.", "temperature": 2, "seed": 4}),
        json!({"guided_choice": ["It is the east", "It is the west", "It is"], "presence_penalty": 1}),
        json!({"echo": true, "logprobs": 2, "max_tokens": 3}),
        json!({"prompt": "KING:", "max_tokens": 1}),
        json!({"prompt": "KING:", "n": 3, "temperature": 1.0, "seed": 7}),
    ]
    .map(request)
    .into()
}

async fn send(addr: SocketAddr, body: &Value) -> Result<TcpStream> {
    let body = body.to_string();
    let mut socket = TcpStream::connect(addr).await?;
    let head =
        "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n";
    socket.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).await?;
    Ok(socket)
}

/// The embeddings of a long text and a short one.
async fn embeddings(addr: SocketAddr) -> Result<Value> {
    let body = json!({"model": "bard", "input": [requests()[0]["prompt"], "KING:"]}).to_string();
    let mut socket = TcpStream::connect(addr).await?;
    let head =
        "POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n";
    socket.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).await?;
    let mut answer = String::new();
    timeout(PATIENCE, socket.read_to_string(&mut answer)).await.context("no answer")??;
    let json: Value = serde_json::from_str(answer.split_once("\r\n\r\n").context("no body")?.1)?;
    ensure!(json["data"][1]["embedding"].as_array().is_some_and(|numbers| numbers.len() > 8), "{json}");
    Ok(json["data"].clone())
}

/// The choices of an answer, and how many of its tokens were guessed.
async fn ask(addr: SocketAddr, body: Value) -> Result<(Value, u64)> {
    let mut answer = String::new();
    timeout(PATIENCE, send(addr, &body).await?.read_to_string(&mut answer)).await.context("no answer")??;
    let (_, json) = answer.split_once("\r\n\r\n").context("no body")?;
    let json: Value = serde_json::from_str(json).with_context(|| answer.clone())?;
    ensure!(json["choices"].is_array(), "{json}");
    let held = json["usage"]["completion_tokens_details"]["accepted_prediction_tokens"].as_u64();
    Ok((json["choices"].clone(), held.unwrap_or(0)))
}

/// All requests at once, again and again until enough tokens were drawn.
async fn answers(plan: &Plan, uris: &[String], how: Speculation) -> Result<(Vec<Value>, u64)> {
    let (gateway, _orders, _events) = gateway(plan, uris, how).await?;
    let asked = requests().into_iter().map(|body| tokio::spawn(ask(gateway.addr(), body)));
    let (mut all, mut held) = (vec![embeddings(gateway.addr()).await?], 0);
    for answer in asked.collect::<Vec<_>>() {
        let (choices, guessed) = answer.await??;
        all.push(choices);
        held += guessed;
    }
    gateway.stop().await;
    Ok((all, held))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_the_same_with_and_without() -> Result<()> {
    let (model, store) = (fixtures::bard(), tempfile::tempdir()?);
    let card = card(&model)?;
    let even = |devices, segments| even_plan(&card, devices, segments, SERVING, Dtype::Bf16.kv_entries());
    let plans = [
        ("one device", even(1, 1)?),
        ("streamed", streamed(even(2, 2)?, |block| matches!(block, Block::Mlp(_) | Block::Head), 0.3)?),
        ("cut layers", cut_layers(&even(2, 3)?)),
        ("lent pages", lending(even(2, 1)?, 3, 8, Nanos(1_000_000_000))?),
    ];
    let mut expected = None;
    for (name, plan) in plans {
        let workers = Workers::start_with_store(&model, Some(store.path()), plan.devices.len(), 1).await?;
        let uris = workers.uris();
        if expected.is_none() {
            let (plain, held) = answers(&plan, &uris, Speculation::Off).await?;
            ensure!(held == 0, "nothing is to be guessed");
            expected = Some(plain);
        }
        for how in [Speculation::Auto, Speculation::Window(7)] {
            let (found, held) = answers(&plan, &uris, how).await?;
            for (at, (found, expected)) in found.iter().zip(expected.iter().flatten()).enumerate() {
                ensure!(found == expected, "{name}, {how}, request {at}: {found} instead of {expected}");
            }
            ensure!(held > 0 || how == Speculation::Auto, "{name}: no guess held");
        }
        workers.stop().await?;
    }
    Ok(())
}

/// A fuzzer's guesses: the truth up to somewhere, then anything, or nothing at all. To the bit of every logit. `LIME_TEST_DRAFT_TOKENS` has
/// more tokens compared.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_guessed_the_bits_are_the_same() -> Result<()> {
    let enough = env::var("LIME_TEST_DRAFT_TOKENS").ok().and_then(|tokens| tokens.parse().ok()).unwrap_or(400_usize);
    let (model, store) = (fixtures::bard(), tempfile::tempdir()?);
    let card = card(&model)?;
    let even = |devices, segments| even_plan(&card, devices, segments, SERVING, Dtype::Bf16.kv_entries());
    let mut workers = Workers::start_with_store(&model, Some(store.path()), 2, 1).await?;
    let mut state = 1_u64;
    let mut below = |most: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % most
    };
    let mut compared = 0;
    while compared < enough {
        let sequence = |draws: usize, seed: u64, length: u64, temperature: f32| Sequence {
            prompt: (0..length).map(|index| 2 + (index * 131 + seed * 97) as u32 % 1000).collect(),
            draws,
            temperature,
            seed,
        };
        let batch: Vec<Sequence> =
            [0.0, 0.7, 0.9].map(|temperature| sequence(45, below(1000), 100 + below(130), temperature)).into();
        let mut ring = workers.configure(&even(2, 1)?).await?;
        let expected = drive(&mut ring, &batch, 14).await?;
        let plans = [
            ("two segments", even(2, 2)?),
            ("streamed", streamed(even(2, 2)?, |block| matches!(block, Block::Mlp(_) | Block::Head), 0.3)?),
            ("cut layers", cut_layers(&even(2, 3)?)),
            ("lent pages", lending(even(2, 1)?, 3, 8, Nanos(1_000_000_000))?),
            ("steps", lending(even(2, 1)?, 3, 3, Nanos(1))?),
        ];
        for (name, plan) in plans {
            let mut ring = workers.configure(&plan).await?;
            let guess = |slot: usize, drawn: &[u32]| {
                let (window, truth) = (below(9), expected[slot].tokens.get(drawn.len()..).unwrap_or_default());
                let right = below(window + 1) as usize;
                let mut guesses: Vec<u32> = truth.iter().copied().take(right).collect();
                guesses.resize_with(window as usize, || below(1000) as u32);
                guesses
            };
            let found = drive_guessing(&mut ring, &batch, 6, guess).await?;
            // Mates are left where they are when the first is done.
            for (found, expected) in found.iter().zip(&expected) {
                let both = found.tokens.len().min(expected.tokens.len());
                ensure!(found.tokens[..both] == expected.tokens[..both], "{name}: other tokens with guesses");
                ensure!(found.logits[..both] == expected.logits[..both], "{name}: other bits with guesses");
                compared += both;
            }
        }
    }
    workers.stop().await
}

fn config(store: &Path) -> WorkerConfig {
    WorkerConfig { store: Some(store.to_owned()), ..WorkerConfig::new("device-1", fixtures::bard()) }
}

/// Runs in the process that is killed, and only there.
#[tokio::test]
async fn serving_in_a_process_of_its_own() -> Result<()> {
    let Some(store) = env::var_os(CHILD) else { return Ok(()) };
    let worker = lime_worker::start(config(Path::new(&store)), nowhere()).await?;
    println!("@listening {}", worker.addr());
    worker.ended().await;
    Ok(())
}

/// A worker in a process of its own.
struct Process {
    child: Child,
    uri: String,
}

impl Process {
    fn start(store: &Path) -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.args(["--exact", "serving_in_a_process_of_its_own", "--nocapture", "--test-threads=1"]);
        let mut child = command.env(CHILD, store).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        for line in BufReader::new(child.stdout.take().context("no output")?).lines() {
            // The test runner may begin the line.
            if let Some((_, addr)) = line?.split_once("@listening ") {
                return Ok(Self { child, uri: format!("http://{}", addr.trim()) });
            }
        }
        bail!("the process ended with {}", child.wait()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL, in the middle of whatever it does.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Streams an answer that has a form; `begun` is called when some of it has come. Its tokens and log-probabilities.
async fn stream(addr: SocketAddr, begun: impl AsyncFnOnce() -> Result<()>) -> Result<Vec<Value>> {
    let mut body = requests().swap_remove(5);
    body["stream"] = true.into();
    body["guided_regex"] = "([A-Z]+:\\n([^\\x00-\\x1f]{8,40}\\n){1,4}\\n?)+".into();
    let (mut pieces, mut begun) = (Vec::new(), Some(begun));
    let mut lines = tokio::io::BufReader::new(send(addr, &body).await?).lines();
    while let Some(line) = timeout(PATIENCE, lines.next_line()).await.context("the stream stalls")?? {
        let Some(data) = line.strip_prefix("data: ") else { continue };
        if data == "[DONE]" {
            return Ok(pieces);
        }
        pieces.push(serde_json::from_str::<Value>(data)?["choices"][0].clone());
        if let Some(begun) = (pieces.len() == 12).then(|| begun.take()).flatten() {
            begun().await?;
        }
    }
    bail!("the stream ended early")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_goes_on_when_a_worker_is_killed_in_the_middle_of_it() -> Result<()> {
    let store = tempfile::tempdir()?;
    let plan = even_plan(&card(&fixtures::bard())?, 2, 2, SERVING, Dtype::Bf16.kv_entries())?;
    let here = Workers::start_with_store(&fixtures::bard(), Some(store.path()), 1, 1).await?;
    let uris = |killed: &Process| vec![here.uris()[0].clone(), killed.uri.clone()];
    let mut killed = Process::start(store.path())?;
    let (plain, ..) = gateway(&plan, &uris(&killed), Speculation::Off).await?;
    let expected = stream(plain.addr(), async || Ok(())).await?;
    plain.stop().await;
    let (guessing, publish, mut happened) = gateway(&plan, &uris(&killed), Speculation::Window(5)).await?;
    let replace = async || {
        killed = Process::start(store.path())?;
        publish.send_replace(Orders::new(plan.clone(), peers(&plan, &uris(&killed))));
        Ok(())
    };
    let found = stream(guessing.addr(), replace).await?;
    ensure!(found == expected, "{found:?} instead of {expected:?}");
    let mut recovered = 0;
    while let Ok(event) = happened.try_recv() {
        recovered += u32::from(matches!(event, Event::Recovered { .. }));
    }
    ensure!(recovered > 0, "the ring was never down");
    guessing.stop().await;
    drop(killed);
    here.stop().await
}
