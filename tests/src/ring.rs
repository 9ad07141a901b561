//! Rings of workers inside this process, and a plain way to drive sequences through them.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use lime_model::ModelFolder;
use lime_plan::testing::{DeviceBudget, PlanRequest, proportional};
use lime_plan::{
    Arithmetic, Block, Bytes as Size, DeviceMemory, Dtype, MemoryModel, ModelCard, Nanos, Plan, Relief, Residency,
    ServingLimits, Step,
};
use lime_ring::{
    FrameLimits, LinkShape, RingDriver, RingTopology, Transport,
    proto::{Draft, Peer, Rows, Sampling, StatusReply},
};
use lime_worker::{DiskShape, WorkerConfig, WorkerHandle};

/// Reads a model's card.
///
/// # Errors
/// When the folder is not a model.
pub fn card(model: &Path) -> Result<ModelCard> {
    Ok(ModelFolder::open(model)?.card("test"))
}

/// A plan over `devices` devices of equal and ample memory.
///
/// # Errors
/// When the card cannot be split like that.
pub fn even_plan(card: &ModelCard, devices: usize, segments: u32, serving: ServingLimits, kv: Dtype) -> Result<Plan> {
    let device = |index| DeviceBudget { name: format!("device-{index}"), memory: Size::gib(64) };
    let devices: Vec<DeviceBudget> = (0..devices).map(device).collect();
    let request = PlanRequest {
        model: card,
        devices: &devices,
        serving,
        segments,
        arithmetic: Arithmetic::Exact,
        residual: Dtype::F32,
        kv,
    };
    Ok(proportional(&request)?)
}

/// The plan with every block that `streams` names streamed, through a buffer of the largest and a `share` of the rest.
///
/// # Errors
/// When the plan breaks a rule.
pub fn streamed(plan: Plan, streams: impl Fn(Block) -> bool, share: f64) -> Result<Plan> {
    let mut plan = plan.into_draft();
    for index in 0..plan.devices.len() {
        let mut blocks = plan.devices[index].blocks.clone();
        let mut sizes = Vec::new();
        for placed in blocks.iter_mut().filter(|placed| streams(placed.block)) {
            placed.residency = Residency::Streamed;
            sizes.push(plan.model.block_bytes(placed.block).0);
        }
        let (largest, sum) = (sizes.iter().max().copied().unwrap_or(0), sizes.iter().sum::<u64>());
        let prefetch = Size(largest + ((sum - largest) as f64 * share) as u64);
        let memory = DeviceMemory { prefetch, ..MemoryModel::of(&plan).device(&blocks) };
        plan.devices[index].memory = DeviceMemory { budget: memory.used(), ..memory };
        plan.devices[index].blocks = blocks;
    }
    Ok(plan.try_into()?)
}

/// The plan with room for a `share` of the longest requests on the first device, which may hand so many KV pages to the second,
/// or else stream its layers' blocks, each of which makes a pass longer by `step`.
///
/// # Errors
/// When the plan breaks a rule.
pub fn lending(plan: Plan, share: u64, pages: u64, step: Nanos) -> Result<Plan> {
    let mut plan = plan.into_draft();
    let memory = MemoryModel::of(&plan);
    let layers = plan.devices[0].attentions();
    let (page, exchange) = (memory.page_bytes(layers), memory.exchange(layers));
    let (room, mut buffer) = (page * pages, Size::ZERO);
    let frees = room.saturating_sub(exchange);
    let [asker, keeper] = plan.devices.as_mut_slice() else { bail!("the plan has not two devices") };
    keeper.memory.lent = room + exchange;
    asker.memory.kv = Size(asker.memory.kv.0 / share);
    asker.memory.prefetch = Size::ZERO;
    asker.memory.budget = asker.memory.used();
    let relief = Relief::HandOver { to: keeper.name.clone(), room, costs: Nanos(1) };
    asker.steps = vec![Step { above: asker.memory.kv, relief, frees, time_per_token: Nanos(1) }];
    let mut above = asker.memory.kv + frees;
    let movable = asker.blocks.iter().map(|placed| placed.block);
    for block in movable.filter(|block| matches!(block, Block::Attention(_) | Block::Mlp(_))) {
        let bytes = plan.model.block_bytes(block);
        let frees = bytes.saturating_sub(bytes.saturating_sub(buffer));
        let time_per_token = Nanos(1 + step.0 * asker.steps.len() as u64);
        asker.steps.push(Step { above, relief: Relief::Stream(block), frees, time_per_token });
        above += frees;
        buffer = buffer.max(bytes);
    }
    Ok(plan.try_into()?)
}

/// The driver's view of a plan whose workers are at `peers`, in ring order.
///
/// # Errors
/// When the plan has no JSON form.
pub fn topology(plan: &Plan, uris: &[String]) -> Result<RingTopology> {
    let peer =
        |(device, uri): (&lime_plan::DevicePlan, &String)| Peer { device: device.name.clone(), uri: uri.clone() };
    Ok(RingTopology {
        plan_json: Bytes::from(serde_json::to_vec(plan)?),
        peers: plan.devices.iter().zip(uris).map(peer).collect(),
        head: plan.head.0 as usize,
        limits: FrameLimits::of(plan),
        transport: Transport::Plaintext,
    })
}

/// A worker in this process that loads no weights, listening at a free port of the loopback, and how it is reached.
///
/// # Errors
/// When it cannot start.
pub async fn lone_worker(transport: &Transport, model: &Path) -> Result<(WorkerHandle, lime_ring::Peer)> {
    let config = WorkerConfig { transport: transport.clone(), ..WorkerConfig::new("a", model.to_owned()) };
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let worker = lime_worker::start_with(config, Box::new(lime_worker::fake::FakeLoader::default()), anywhere).await?;
    let peer = Peer { device: "a".into(), uri: format!("{}://{}", transport.scheme(), worker.addr()) };
    Ok((worker, peer))
}

/// What plays slow links and disks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shapes {
    /// Every worker's link.
    pub link: Option<LinkShape>,
    /// Every worker's disk.
    pub disk: Option<DiskShape>,
}

/// Workers in this process, one per device, that can take up one plan after another.
pub struct Workers {
    handles: Vec<WorkerHandle>,
    transport: Transport,
    epoch: u64,
}

impl Workers {
    /// Starts `count` workers on free ports of the loopback.
    ///
    /// # Errors
    /// When one cannot start.
    pub async fn start(model: &Path, count: usize, threads: usize) -> Result<Self> {
        Self::start_with_store(model, None, count, threads).await
    }

    /// The same over `transport`, one thread each.
    ///
    /// # Errors
    /// When one cannot start.
    pub async fn start_over(transport: &Transport, model: &Path, count: usize) -> Result<Self> {
        Self::start_all(transport, model, None, count, 1, Shapes::default()).await
    }

    /// The same with a weight store, and with links of that shape.
    ///
    /// # Errors
    /// When one cannot start.
    pub async fn start_linked(
        transport: &Transport,
        model: &Path,
        store: &Path,
        count: usize,
        link: Option<LinkShape>,
    ) -> Result<Self> {
        Self::start_all(transport, model, Some(store), count, 1, Shapes { link, disk: None }).await
    }

    /// The same over plain text, with disks of that shape.
    ///
    /// # Errors
    /// When one cannot start.
    pub async fn start_shaped(model: &Path, store: &Path, count: usize, shapes: Shapes) -> Result<Self> {
        Self::start_all(&Transport::Plaintext, model, Some(store), count, 1, shapes).await
    }

    /// The same with a weight store, from which plans can stream.
    ///
    /// # Errors
    /// When one cannot start.
    pub async fn start_with_store(model: &Path, store: Option<&Path>, count: usize, threads: usize) -> Result<Self> {
        Self::start_all(&Transport::Plaintext, model, store, count, threads, Shapes::default()).await
    }

    async fn start_all(
        transport: &Transport,
        model: &Path,
        store: Option<&Path>,
        count: usize,
        threads: usize,
        Shapes { link, disk }: Shapes,
    ) -> Result<Self> {
        let mut handles = Vec::with_capacity(count);
        for index in 0..count {
            let config = WorkerConfig {
                store: store.map(Path::to_owned),
                threads,
                link,
                disk,
                transport: transport.clone(),
                ..WorkerConfig::new(format!("device-{index}"), model.to_owned())
            };
            handles.push(lime_worker::start(config, SocketAddr::from(([127, 0, 0, 1], 0))).await?);
        }
        Ok(Self { handles, transport: transport.clone(), epoch: 0 })
    }

    /// Takes all workers to `plan` at the next epoch.
    ///
    /// # Errors
    /// When a worker refuses or fails.
    pub async fn configure(&mut self, plan: &Plan) -> Result<RingDriver> {
        self.epoch += 1;
        let topology = RingTopology { transport: self.transport.clone(), ..topology(plan, &self.uris())? };
        Ok(RingDriver::configure(&topology, self.epoch, Duration::from_secs(30), |_, _| {}).await?)
    }

    /// Where they are, in ring order.
    pub fn uris(&self) -> Vec<String> {
        let scheme = self.transport.scheme();
        self.handles.iter().map(|handle| format!("{scheme}://{}", handle.addr())).collect()
    }

    /// What each says of itself.
    ///
    /// # Errors
    /// When one does not answer.
    pub async fn status(&self) -> Result<Vec<StatusReply>> {
        let mut replies = Vec::with_capacity(self.handles.len());
        for (index, uri) in self.uris().into_iter().enumerate() {
            let peer = Peer { device: format!("device-{index}"), uri };
            replies.push(lime_ring::status(&self.transport, &peer).await?);
        }
        Ok(replies)
    }

    /// Stops them all.
    ///
    /// # Errors
    /// When one did not end well.
    pub async fn stop(self) -> Result<()> {
        for handle in self.handles {
            handle.stop().await?;
        }
        Ok(())
    }
}

/// A sequence to drive: its prompt, how many tokens to draw, and how.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// Prompt tokens.
    pub prompt: Vec<u32>,
    /// Tokens to draw.
    pub draws: usize,
    /// 0: greedy.
    pub temperature: f32,
    /// Seed of the draws.
    pub seed: u64,
}

/// What a sequence came to: tokens, and the bits of the logits that each was drawn from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The tokens drawn.
    pub tokens: Vec<u32>,
    /// For each token the f32 logits, little-endian.
    pub logits: Vec<Bytes>,
}

/// Drives all sequences together, each in a slot of its own: prompts in chunks of `chunk` rows, then a row per token. Ends when
/// the first sequence is done.
///
/// # Errors
/// When the ring breaks or a pass fails.
pub async fn drive(ring: &mut RingDriver, sequences: &[Sequence], chunk: usize) -> Result<Vec<Outcome>> {
    drive_guessing(ring, sequences, chunk, |_, _| Vec::new()).await
}

/// The same, with guesses of what comes after the tokens drawn: `guess` gives those of a sequence, by its place.
///
/// # Errors
/// As [`drive`].
pub async fn drive_guessing(
    ring: &mut RingDriver,
    sequences: &[Sequence],
    chunk: usize,
    mut guess: impl FnMut(usize, &[u32]) -> Vec<u32>,
) -> Result<Vec<Outcome>> {
    let mut outcomes = vec![Outcome::default(); sequences.len()];
    let mut held = vec![0usize; sequences.len()];
    while outcomes[0].tokens.len() < sequences[0].draws {
        let (mut rows, mut tokens) = (Vec::new(), Vec::new());
        for (slot, sequence) in sequences.iter().enumerate() {
            let drawn = &outcomes[slot].tokens;
            if drawn.len() >= sequence.draws {
                continue;
            }
            let known = sequence.prompt.iter().chain(drawn).copied();
            let next: Vec<u32> = known.skip(held[slot]).take(chunk).collect();
            let reaches_end = held[slot] + next.len() == sequence.prompt.len() + drawn.len();
            let sample = reaches_end.then(|| Sampling {
                temperature: sequence.temperature,
                seed: sequence.seed,
                draw: drawn.len() as u64,
                return_logits: true,
                ..Sampling::default()
            });
            let mut guesses = if reaches_end { guess(slot, drawn) } else { Vec::new() };
            guesses.truncate(sequence.draws - drawn.len() - 1);
            let start = held[slot] as u32;
            held[slot] += next.len();
            tokens.extend(next.iter().chain(&guesses));
            let count = (next.len() + guesses.len()) as u32;
            let drafts = guesses.into_iter().map(|token| Draft { token, bias: None, allowed: None }).collect();
            rows.push(Rows { slot: slot as u32, start, count, sample, drafts, ..Rows::default() });
        }
        let mut drew = vec![false; sequences.len()];
        ring.submit(rows, tokens, Vec::new()).await?;
        let result = ring.next().await?;
        if !result.failure.is_empty() {
            bail!("pass {} failed: {}", result.pass, result.failure);
        }
        for token in result.tokens {
            let slot = token.slot as usize;
            let outcome = outcomes.get_mut(slot).context("a token for no slot")?;
            // The row of a guess that held is there already.
            held[slot] += usize::from(std::mem::replace(&mut drew[slot], true));
            outcome.tokens.push(token.token);
            outcome.logits.push(token.logits);
        }
    }
    Ok(outcomes)
}
