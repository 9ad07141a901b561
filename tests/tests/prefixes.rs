//! Requests that begin alike, over HTTP, through real workers: what was computed once is not computed again, and no answer differs from
//! that of a gateway that keeps nothing, whatever becomes of memory, workers and batch mates.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use lime_gateway::{Access, Event, GatewayConfig, GatewayHandle, Options, Orders, PrefixCache, Speculation};
use lime_plan::{Dtype, Nanos, Plan, ServingLimits};
use lime_ring::{Peer, Transport, status};
use lime_tests::{
    fixtures,
    ring::{card, even_plan, lending},
};
use lime_worker::{WorkerConfig, WorkerHandle};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{mpsc, watch},
    time::timeout,
};

const SERVING: ServingLimits =
    ServingLimits { max_context_tokens: 400, max_concurrent_requests: 3, prefill_chunk_tokens: 50 };
const PAGE: usize = 64;

fn plan(serving: ServingLimits, segments: u32) -> Result<Plan> {
    even_plan(&card(&fixtures::bard())?, 2, segments, serving, Dtype::Bf16.kv_entries())
}

async fn worker(device: usize, store: &tempfile::TempDir) -> Result<WorkerHandle> {
    let config = WorkerConfig {
        store: Some(store.path().to_owned()),
        ..WorkerConfig::new(format!("device-{device}"), fixtures::bard())
    };
    Ok(lime_worker::start(config, SocketAddr::from(([127, 0, 0, 1], 0))).await?)
}

/// A gateway over two workers in this process.
struct Served {
    gateway: GatewayHandle,
    workers: Vec<WorkerHandle>,
    orders: watch::Sender<Orders>,
    events: mpsc::UnboundedReceiver<Event>,
    plan: Plan,
    store: tempfile::TempDir,
}

impl Served {
    async fn start(plan: Plan, prefix_cache: PrefixCache, keys: &[&str]) -> Result<Self> {
        let store = tempfile::tempdir()?;
        let workers = vec![worker(0, &store).await?, worker(1, &store).await?];
        let (orders, receiver) = watch::channel(Orders::new(plan.clone(), peers(&workers)));
        let (sender, mut events) = mpsc::unbounded_channel();
        let config = GatewayConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            orders: receiver,
            transport: Transport::Plaintext,
            model: fixtures::bard(),
            template_program: None,
            served_name: "bard".into(),
            access: Access { api_keys: keys.iter().map(|key| (*key).to_owned()).collect(), ..Access::default() },
            queue_limit: 16,
        };
        // Guesses would be rows, too, and rows are counted here.
        let options = Options { prefix_cache, speculation: Speculation::Off, ..Options::default() };
        let gateway = lime_gateway::start(config, options, sender).await?;
        while !matches!(events.recv().await.context("the gateway ended")?, Event::Ready { .. }) {}
        Ok(Self { gateway, workers, orders, events, plan, store })
    }

    /// Puts another worker in the place of the last, and waits until the ring is back.
    async fn replace_worker(&mut self) -> Result<()> {
        let last = self.workers.pop().context("there is a worker")?;
        last.stop().await?;
        self.workers.push(worker(1, &self.store).await?);
        self.orders.send_replace(Orders::new(self.plan.clone(), peers(&self.workers)));
        while !matches!(self.events.recv().await.context("the gateway ended")?, Event::Recovered { .. }) {}
        Ok(())
    }

    async fn ask(&self, body: &Value) -> Result<Value> {
        self.ask_with("one", body).await
    }

    async fn ask_with(&self, key: &str, body: &Value) -> Result<Value> {
        post(self.gateway.addr(), key, body).await
    }

    async fn figure(&self, name: &str) -> Result<u64> {
        let request = "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        let text = exchange(self.gateway.addr(), request.to_owned()).await?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.with_context(|| format!("{name} is not in\n{text}"))?.parse::<f64>()? as u64)
    }

    async fn stop(self) -> Result<()> {
        self.gateway.stop().await;
        for worker in self.workers {
            worker.stop().await?;
        }
        Ok(())
    }
}

fn peers(workers: &[WorkerHandle]) -> Vec<Peer> {
    let peer = |(index, worker): (usize, &WorkerHandle)| Peer {
        device: format!("device-{index}"),
        uri: format!("http://{}", worker.addr()),
    };
    workers.iter().enumerate().map(peer).collect()
}

/// Asks for a completion.
async fn post(addr: SocketAddr, key: &str, body: &Value) -> Result<Value> {
    let body = body.to_string();
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nauthorization: Bearer {key}\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let text = exchange(addr, format!("{head}{body}")).await?;
    let answer: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
    ensure!(answer["choices"].is_array(), "{answer}");
    Ok(answer)
}

/// Sends a request; the answer's body.
async fn exchange(addr: SocketAddr, request: String) -> Result<String> {
    let mut socket = TcpStream::connect(addr).await?;
    socket.write_all(request.as_bytes()).await?;
    let mut whole = String::new();
    timeout(Duration::from_secs(60), socket.read_to_string(&mut whole)).await.context("the answer stalls")??;
    let (_, body) = whole.split_once("\r\n\r\n").context("no answer")?;
    Ok(body.to_owned())
}

/// `count` tokens of a kind of text, from place `from` on.
fn tokens(kind: usize, from: usize, count: usize) -> Vec<u32> {
    (from..from + count).map(|at| 2 + (at * 131 + kind * 97) as u32 % 1000).collect()
}

fn body(prompt: &[u32], draws: usize, seed: u64) -> Value {
    json!({
        "model": "bard", "prompt": prompt, "max_tokens": draws, "temperature": 0.7, "seed": seed, "ignore_eos": true, "logprobs": 3,
        "return_token_ids": true,
    })
}

fn drawn(answer: &Value) -> Result<Vec<u32>> {
    serde_json::from_value(answer["choices"][0]["token_ids"].clone()).with_context(|| answer.to_string())
}

fn cached(answer: &Value) -> u64 {
    answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap_or(u64::MAX)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chat_goes_on_from_what_was_computed_and_says_the_same() -> Result<()> {
    for segments in [1, 2] {
        let keeping = Served::start(plan(SERVING, segments)?, PrefixCache::PerKey, &[]).await?;
        let plain = Served::start(plan(SERVING, segments)?, PrefixCache::Off, &[]).await?;
        let both = async |body: &Value| -> Result<Value> {
            let (kept, expected) = (keeping.ask(body).await?, plain.ask(body).await?);
            ensure!(kept["choices"] == expected["choices"], "{kept} instead of {expected}");
            ensure!(cached(&expected) == 0, "{expected}");
            Ok(kept)
        };
        let first = tokens(0, 0, 180);
        let answer = both(&body(&first, 30, 1)).await?;
        ensure!(cached(&answer) == 0, "{answer}");

        let before = keeping.figure("lime_pass_rows_total").await?;
        let second = [first.clone(), drawn(&answer)?, tokens(1, 0, 40)].concat();
        let answer = both(&body(&second, 12, 2)).await?;
        // Of 209 positions of prompt and answer the whole pages.
        ensure!(cached(&answer) == 3 * PAGE as u64, "{answer}");
        let rows = keeping.figure("lime_pass_rows_total").await? - before;
        ensure!(rows as usize == second.len() - 3 * PAGE + 11, "{rows} rows");

        // The same once more: at least a row is computed, also where the prompt is nothing but whole pages.
        ensure!(cached(&both(&body(&second, 12, 3)).await?) == 3 * PAGE as u64);
        ensure!(cached(&both(&body(&second[..3 * PAGE], 5, 3)).await?) == 2 * PAGE as u64);

        // Several answers to one prompt, and requests that come together.
        let many = tokens(2, 0, 140);
        let before = keeping.figure("lime_pass_rows_total").await?;
        let mut several = body(&many, 4, 5);
        several["n"] = json!(4);
        both(&several).await?;
        let rows = keeping.figure("lime_pass_rows_total").await? - before;
        ensure!(rows as usize == 2 * PAGE + 4 * 12 + 4 * 3, "{rows} rows");
        let bodies = [0, 1, 2].map(|own| body(&[tokens(3, 0, 150), tokens(4 + own, 0, 30)].concat(), 8, 7));
        let [one, two, three] = bodies;
        tokio::try_join!(both(&one), both(&two), both(&three))?;
        ensure!(keeping.figure("lime_prefix_pages_reused_total").await? >= 3 + 3 + 2 + 3 * 2 + 2 * 2);
        ensure!(plain.figure("lime_prefix_pages").await? == 0);
        keeping.stop().await?;
        plain.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_gives_way_to_requests() -> Result<()> {
    // A slot alone, and a device that has to stream or to hand pages over where it holds more than half of the longest requests.
    let alone = ServingLimits { max_concurrent_requests: 1, ..SERVING };
    let shorter = ServingLimits { max_context_tokens: 330, ..SERVING };
    for plan in [plan(alone, 1)?, lending(plan(shorter, 2)?, 2, 12, Nanos(1_000_000_000))?] {
        let keeping = Served::start(plan.clone(), PrefixCache::PerKey, &[]).await?;
        let plain = Served::start(plan, PrefixCache::Off, &[]).await?;
        for round in 0..3 {
            for kind in [0, 1, 0, 2, 3] {
                let mut body = body(&[tokens(kind, 0, 200), tokens(9, round, 60)].concat(), 20, 4);
                body["n"] = json!(3);
                let (kept, expected) = tokio::try_join!(keeping.ask(&body), plain.ask(&body))?;
                ensure!(kept["choices"] == expected["choices"], "{kept} instead of {expected}");
            }
        }
        let [reused, dropped] = ["lime_prefix_pages_reused_total", "lime_prefix_pages_dropped_total"];
        let (reused, dropped) = (keeping.figure(reused).await?, keeping.figure(dropped).await?);
        ensure!(reused > 20 && dropped > 5, "{reused} reused, {dropped} dropped");
        for (device, worker) in keeping.workers.iter().enumerate() {
            let peer = Peer { device: format!("device-{device}"), uri: format!("http://{}", worker.addr()) };
            let memory = status(&Transport::Plaintext, &peer).await?.memory();
            ensure!(memory.kv_bytes <= memory.kv_room_bytes, "{memory:?}");
        }
        keeping.stop().await?;
        plain.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_replaced_takes_what_is_kept_along_and_no_answer_changes() -> Result<()> {
    let mut keeping = Served::start(plan(SERVING, 1)?, PrefixCache::PerKey, &[]).await?;
    let plain = Served::start(plan(SERVING, 1)?, PrefixCache::Off, &[]).await?;
    let bodies = [0, 1, 2].map(|own| body(&[tokens(3, 0, 150), tokens(4 + own, 0, 20)].concat(), 150, 7));
    let mut expected = Vec::new();
    for body in &bodies {
        expected.push(plain.ask(body).await?["choices"].clone());
    }
    ensure!(keeping.ask(&bodies[0]).await?["choices"] == expected[0]);
    let kept = keeping.figure("lime_prefix_pages").await?;
    let addr = keeping.gateway.addr();
    let asked = bodies.clone().map(|body| tokio::spawn(async move { post(addr, "one", &body).await }));
    // In the middle of them.
    while keeping.figure("lime_active_sequences").await? < 3 {
        tokio::task::yield_now().await;
    }
    keeping.replace_worker().await?;
    for (asked, expected) in asked.into_iter().zip(&expected) {
        let answer = asked.await??;
        ensure!(answer["choices"] == *expected, "{answer} instead of {expected}");
    }
    let dropped = keeping.figure("lime_prefix_pages_dropped_total").await?;
    ensure!(dropped >= kept, "{dropped} of {kept} pages were lost");
    ensure!(keeping.ask(&bodies[1]).await?["choices"] == expected[1]);
    keeping.stop().await?;
    plain.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_is_served_by_what_another_asked_only_if_that_is_wished() -> Result<()> {
    for (cache, seen) in [(PrefixCache::PerKey, 0), (PrefixCache::Shared, 2 * PAGE as u64)] {
        let served = Served::start(plan(SERVING, 1)?, cache, &["one", "two"]).await?;
        let body = body(&tokens(0, 0, 150), 3, 1);
        let first = served.ask_with("one", &body).await?;
        let other = served.ask_with("two", &body).await?;
        let again = served.ask_with("one", &body).await?;
        ensure!([&first, &other, &again].map(cached) == [0, seen, 2 * PAGE as u64], "{first} {other} {again}");
        ensure!(first["choices"] == other["choices"] && first["choices"] == again["choices"]);
        served.stop().await?;
    }
    Ok(())
}
