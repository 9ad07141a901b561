//! A gateway over two workers in this process, and how it is asked.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use lime_gateway::{Access, Event, GatewayConfig, GatewayHandle, Options, Orders, PrefixCache, Speculation};
use lime_plan::{Bytes, Dtype, Plan, ServingLimits};
use lime_ring::{Peer, Transport, proto::StatusReply, status};
use lime_tests::{
    fixtures,
    ring::{card, even_plan},
};
use lime_worker::{WorkerConfig, WorkerHandle};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{mpsc, watch},
    time::timeout,
};

pub(crate) const SERVING: ServingLimits =
    ServingLimits { max_context_tokens: 400, max_concurrent_requests: 3, prefill_chunk_tokens: 50 };
pub(crate) const PAGE: usize = 64;

pub(crate) fn plan(serving: ServingLimits, segments: u32) -> Result<Plan> {
    even_plan(&card(&fixtures::bard())?, 2, segments, serving, Dtype::Bf16.kv_entries())
}

/// How a ring is served.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) plan: Plan,
    pub(crate) cache: PrefixCache,
    pub(crate) keys: &'static [&'static str],
    pub(crate) speculation: Speculation,
    /// What each worker may keep on its disk.
    pub(crate) disk: Option<Bytes>,
    pub(crate) store: Arc<tempfile::TempDir>,
}

impl Setup {
    /// Nothing is on disks, and nothing is guessed: guesses would be rows, too, and rows are counted here.
    pub(crate) fn new(plan: Plan, cache: PrefixCache) -> Result<Self> {
        let store = Arc::new(tempfile::tempdir()?);
        Ok(Self { plan, cache, keys: &[], speculation: Speculation::Off, disk: None, store })
    }

    pub(crate) fn store(&self) -> &Path {
        self.store.path()
    }

    async fn worker(&self, device: usize) -> Result<WorkerHandle> {
        let config = WorkerConfig {
            store: Some(self.store().to_owned()),
            page_disk: self.disk,
            ..WorkerConfig::new(format!("device-{device}"), fixtures::bard())
        };
        Ok(lime_worker::start(config, SocketAddr::from(([127, 0, 0, 1], 0))).await?)
    }

    pub(crate) async fn start(&self) -> Result<Served> {
        let workers = vec![self.worker(0).await?, self.worker(1).await?];
        let (orders, receiver) = watch::channel(Orders::new(self.plan.clone(), peers(&workers)));
        let (sender, mut events) = mpsc::unbounded_channel();
        let api_keys = self.keys.iter().map(|key| (*key).to_owned()).collect();
        let config = GatewayConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            orders: receiver,
            transport: Transport::Plaintext,
            model: fixtures::bard(),
            template_program: None,
            served_name: "bard".into(),
            access: Access { api_keys, ..Access::default() },
            queue_limit: 16,
        };
        let options = Options { prefix_cache: self.cache, speculation: self.speculation, ..Options::default() };
        let gateway = lime_gateway::start(config, options, sender).await?;
        while !matches!(events.recv().await.context("the gateway ended")?, Event::Ready { .. }) {}
        Ok(Served { gateway, workers, orders, events, setup: self.clone() })
    }
}

/// A gateway over two workers in this process.
pub(crate) struct Served {
    gateway: GatewayHandle,
    workers: Vec<WorkerHandle>,
    orders: watch::Sender<Orders>,
    events: mpsc::UnboundedReceiver<Event>,
    setup: Setup,
}

impl Served {
    pub(crate) fn addr(&self) -> SocketAddr {
        self.gateway.addr()
    }

    /// Puts another worker in the place of the last, and waits until the ring is back.
    pub(crate) async fn replace_worker(&mut self) -> Result<()> {
        let last = self.workers.pop().context("there is a worker")?;
        last.stop().await?;
        self.workers.push(self.setup.worker(1).await?);
        self.orders.send_replace(Orders::new(self.setup.plan.clone(), peers(&self.workers)));
        while !matches!(self.events.recv().await.context("the gateway ended")?, Event::Recovered { .. }) {}
        Ok(())
    }

    pub(crate) async fn ask(&self, body: &Value) -> Result<Value> {
        self.ask_with("one", body).await
    }

    pub(crate) async fn ask_with(&self, key: &str, body: &Value) -> Result<Value> {
        post(self.addr(), key, body).await
    }

    pub(crate) async fn figure(&self, name: &str) -> Result<u64> {
        let request = "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        let text = exchange(self.addr(), request.to_owned()).await?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.with_context(|| format!("{name} is not in\n{text}"))?.parse::<f64>()? as u64)
    }

    /// What each worker says of itself.
    pub(crate) async fn status(&self) -> Result<Vec<StatusReply>> {
        let mut replies = Vec::new();
        for peer in peers(&self.workers) {
            replies.push(status(&Transport::Plaintext, &peer).await?);
        }
        Ok(replies)
    }

    pub(crate) async fn stop(self) -> Result<()> {
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
pub(crate) async fn post(addr: SocketAddr, key: &str, body: &Value) -> Result<Value> {
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
pub(crate) fn tokens(kind: usize, from: usize, count: usize) -> Vec<u32> {
    (from..from + count).map(|at| 2 + (at * 131 + kind * 97) as u32 % 1000).collect()
}

pub(crate) fn body(prompt: &[u32], draws: usize, seed: u64) -> Value {
    json!({
        "model": "bard", "prompt": prompt, "max_tokens": draws, "temperature": 0.7, "seed": seed, "ignore_eos": true, "logprobs": 3,
        "return_token_ids": true,
    })
}

pub(crate) fn drawn(answer: &Value) -> Result<Vec<u32>> {
    serde_json::from_value(answer["choices"][0]["token_ids"].clone()).with_context(|| answer.to_string())
}

pub(crate) fn cached(answer: &Value) -> u64 {
    answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap_or(u64::MAX)
}
