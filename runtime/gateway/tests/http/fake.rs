//! A ring without a model: tokens follow from what a slot holds, and it dies when it is told to.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use lime_gateway::{
    Access, AllowedOrigin, Event, GatewayConfig, GatewayHandle, Holder, Options, Orders, Progress, Ring, RingCause,
    RingError, RingTransport, Speculation, SubmitError, schedule::PassRequest, start_with,
};
use lime_model::ModelFolder;
use lime_plan::testing::{DeviceBudget, PlanRequest, proportional};
use lime_plan::{Arithmetic, Bytes, Dtype, Plan, ServingLimits};
use lime_ring::{
    Demands, Peer, ServerCertificate, Transport, Verified,
    proto::{FailureKind, LogitBias, PassResult, Pooled, Sampling, Token, TokenLogprob},
};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep, sleep_until},
};

/// What comes after the tokens of a slot.
pub(crate) type NextToken = Arc<dyn Fn(&[u32], &Sampling) -> u32 + Send + Sync>;

/// What a fake ring does and has seen.
pub(crate) struct State {
    /// How tokens follow.
    pub(crate) next: NextToken,
    /// Time that a pass takes.
    pub(crate) pass_time: Duration,
    /// Whether workers can be configured.
    pub(crate) up: bool,
    /// The ring dies when it has given this many results more.
    pub(crate) dies_after: Option<u64>,
    /// Passes with this token fail.
    pub(crate) poison: Option<u32>,
    /// And so.
    pub(crate) poison_kind: FailureKind,
    /// Passes with this token are not sent.
    pub(crate) refused: Option<u32>,
    /// Every pass fails for as long as so many blocks are damaged; comparing mends one.
    pub(crate) damaged: u32,
    /// How often everything was compared.
    pub(crate) compared: u32,
    /// What workers that cannot be configured are said to suffer from.
    pub(crate) cause: Option<RingCause>,
    /// What the worker says that it is stuck in.
    pub(crate) stuck: Option<String>,
    /// An epoch that somebody has brought the worker to.
    pub(crate) hijacked: Option<u64>,
    /// Who has the ring, as its worker says.
    pub(crate) holders: Vec<Holder>,
    /// Epochs whose workers were told to stay until the answers have ended.
    pub(crate) stays: Vec<u64>,
    /// Epochs that were let go.
    pub(crate) let_go: Vec<u64>,
    /// Every plan that took the place of another.
    pub(crate) plans: Vec<Arc<Plan>>,
    /// Every epoch that was configured.
    pub(crate) epochs: Vec<u64>,
    /// Rows of every pass.
    pub(crate) passes: Vec<usize>,
    /// Slots released.
    pub(crate) released: Vec<u32>,
    /// Pages that it is told to keep are not.
    pub(crate) keeps_nothing: bool,
}

/// The controls of a fake ring.
#[derive(Clone)]
pub(crate) struct Controls {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

impl Controls {
    /// A ring that is up, and whose tokens are `next`.
    pub(crate) fn new(next: NextToken) -> Self {
        let state = State {
            next,
            pass_time: Duration::from_millis(1),
            up: true,
            dies_after: None,
            poison: None,
            poison_kind: FailureKind::Unspecified,
            refused: None,
            damaged: 0,
            compared: 0,
            cause: None,
            stuck: None,
            hijacked: None,
            holders: Vec::new(),
            stays: Vec::new(),
            let_go: Vec::new(),
            plans: Vec::new(),
            epochs: Vec::new(),
            passes: Vec::new(),
            released: Vec::new(),
            keeps_nothing: false,
        };
        Self { state: Arc::new(Mutex::new(state)), changed: Arc::new(Notify::new()) }
    }

    /// Reads or changes the state.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let result = act(&mut self.state.lock().unwrap());
        self.changed.notify_waiters();
        result
    }
}

/// Brings fake rings up.
pub(crate) struct FakeTransport(pub(crate) Controls);

/// A fake ring.
pub(crate) struct FakeRing {
    controls: Controls,
    epoch: u64,
    last: u64,
    slots: HashMap<u32, Vec<u32>>,
    /// The tokens of kept pages.
    kept: HashMap<u64, Vec<u32>>,
    results: VecDeque<PassResult>,
    /// When the oldest of them was first waited for.
    begun: Option<Instant>,
    verified: Verified,
}

fn lost(reason: &str) -> RingError {
    RingError { device: Some("device-0".into()), ..RingError::of(reason) }
}

impl RingTransport for FakeTransport {
    type Ring = FakeRing;

    fn take_up(&mut self, plan: Arc<Plan>) {
        self.0.with_quietly(|state| state.plans.push(plan));
    }

    async fn holders(&mut self, _: &[Peer]) -> Vec<Holder> {
        self.0.with_quietly(|state| state.holders.clone())
    }

    async fn stay(&mut self, epoch: u64, _: &[Peer]) {
        self.0.with_quietly(|state| state.stays.push(epoch));
    }

    async fn let_go(&mut self, epoch: u64, _: &[Peer]) {
        self.0.with_quietly(|state| state.let_go.push(epoch));
    }

    async fn configure(
        &mut self,
        epoch: u64,
        peers: &[Peer],
        demands: &Demands,
        mut progress: impl FnMut(Progress) + Send,
    ) -> Result<FakeRing, RingError> {
        for peer in peers {
            progress(Progress { device: peer.device.clone(), loaded: 1, total: 2, verifying: false });
        }
        sleep(Duration::from_millis(5)).await;
        let up = self.0.with(|state| {
            state.epochs.push(epoch);
            state.up
        });
        if let Some(current) = self.0.with_quietly(|state| state.hijacked) {
            if epoch <= current && demands.replaces.get("device-0") != Some(&current) {
                return Err(RingError { epoch: Some(current), ..lost("it is at another epoch") });
            }
            self.0.with_quietly(|state| state.hijacked = None);
        }
        let mut verified = Verified::default();
        if demands.verify {
            self.0.with_quietly(|state| {
                verified = Verified { compared: 1, mended: state.damaged.min(1) };
                state.damaged -= verified.mended;
                state.compared += 1;
            });
        }
        if !up {
            let cause = self.0.with_quietly(|state| state.cause.clone());
            return Err(RingError { cause, ..lost("nobody answers") });
        }
        Ok(FakeRing {
            controls: self.0.clone(),
            epoch,
            last: 0,
            slots: HashMap::new(),
            kept: HashMap::new(),
            results: VecDeque::new(),
            begun: None,
            verified,
        })
    }
}

impl Ring for FakeRing {
    async fn stuck(&self) -> Option<RingError> {
        self.controls.with_quietly(|state| state.stuck.as_deref().map(lost))
    }

    fn verified(&self) -> Verified {
        self.verified
    }

    async fn submit(&mut self, pass: PassRequest) -> Result<(), SubmitError> {
        if let Some(slot) = self.controls.with_quietly(|state| state.refused.and_then(|token| slot_of(&pass, token))) {
            return Err(SubmitError::Refused { slot, reason: "this token is not in the vocabulary".into() });
        }
        self.last += 1;
        let (epoch, number) = (self.epoch, self.last);
        let (slots, kept) = (&mut self.slots, &mut self.kept);
        let result = self.controls.with(|state| {
            state.passes.push(pass.tokens.len());
            state.released.extend_from_slice(&pass.release);
            let mut result = PassResult { epoch, pass: number, ..PassResult::default() };
            for keep in &pass.keep {
                let held = slots.get(&keep.slot).cloned().unwrap_or_default();
                let pages = held.chunks_exact(64).skip(keep.first as usize);
                if state.keeps_nothing {
                    result.forgotten.extend(&keep.pages);
                } else {
                    kept.extend(keep.pages.iter().copied().zip(pages.map(<[u32]>::to_vec)));
                }
            }
            pass.forget.iter().for_each(|id| {
                kept.remove(id);
            });
            if state.poison.is_some_and(|poison| pass.tokens.contains(&poison)) {
                result.failure = "device \"device-0\": the logits are not usable".into();
                result.set_failure_kind(state.poison_kind);
                if state.poison_kind == FailureKind::Refused {
                    result.refused_slot = state.poison.and_then(|token| slot_of(&pass, token));
                }
                return result;
            }
            if state.damaged > 0 {
                result.failure = "device \"device-0\": a block is damaged".into();
                result.set_failure_kind(FailureKind::Damaged);
                return result;
            }
            let mut given = pass.tokens.iter().copied();
            for rows in &pass.rows {
                if !rows.prefix.is_empty() {
                    let behind: Option<Vec<_>> = rows.prefix.iter().map(|id| kept.get(id)).collect();
                    let Some(behind) = behind else {
                        result.set_failure_kind(FailureKind::Forgotten);
                        return PassResult { failure: "it is not kept".into(), tokens: Vec::new(), ..result };
                    };
                    slots.insert(rows.slot, behind.into_iter().flatten().copied().collect());
                }
                let held = slots.entry(rows.slot).or_default();
                if rows.start == 0 {
                    held.clear();
                }
                if held.len() != rows.start as usize && state.poison_kind == FailureKind::Refused {
                    // What a refused pass would have brought is not there.
                    return PassResult { failure: "rows out of order".into(), tokens: Vec::new(), ..result };
                }
                assert_eq!(held.len(), rows.start as usize, "rows follow each other");
                held.extend(given.by_ref().take(rows.count as usize - rows.drafts.len()));
                for (at, token) in rows.scoring.iter().flat_map(|scoring| scoring.next.iter().enumerate()) {
                    let place = rows.start as usize + at;
                    let top = (0..rows.scoring.as_ref().map_or(0, |scoring| scoring.top_logprobs))
                        .map(|rank| TokenLogprob { token: 300 + rank, logprob: -0.25 });
                    let logprob = score(&held[..=place], *token);
                    result.scores.push(Token {
                        slot: rows.slot,
                        token: *token,
                        logprob,
                        top: top.collect(),
                        ..Token::default()
                    });
                }
                given.by_ref().take(rows.drafts.len()).for_each(drop);
                if rows.pooled > 0 {
                    let sums = pool(&held[held.len() - rows.pooled as usize..]);
                    let sums = sums.iter().flat_map(|sum| sum.to_le_bytes()).collect::<Vec<u8>>().into();
                    result.pooled.push(Pooled { slot: rows.slot, sums });
                }
                let Some(mut sampling) = rows.sample.clone() else { continue };
                let mut drafts = rows.drafts.iter();
                loop {
                    let token = draw(&state.next, rows.slot, held, &sampling);
                    let held_true = drafts.next().filter(|draft| draft.token == token.token);
                    result.tokens.push(token);
                    // A guess that does not hold is forgotten at once.
                    let Some(draft) = held_true else { break };
                    held.push(draft.token);
                    sampling.draw += 1;
                    if draft.allowed.is_some() {
                        sampling.allowed.clone_from(&draft.allowed);
                    }
                    if let Some(value) = draft.bias {
                        sampling.bias.retain(|bias| bias.token != draft.token);
                        sampling.bias.push(LogitBias { token: draft.token, value });
                    }
                }
            }
            result
        });
        self.results.push_back(result);
        Ok(())
    }

    async fn next(&mut self) -> Result<PassResult, RingError> {
        loop {
            let changed = self.controls.changed.clone();
            let changed = changed.notified();
            let (up, pass_time) = self.controls.with_quietly(|state| {
                if state.dies_after == Some(0) {
                    (state.up, state.dies_after) = (false, None);
                }
                (state.up, state.pass_time)
            });
            if !up {
                return Err(lost("killed"));
            }
            if self.results.is_empty() {
                changed.await;
                continue;
            }
            // A pass goes on while nobody listens; what is set meanwhile holds for the one that is on its way, too.
            let begun = *self.begun.get_or_insert_with(Instant::now);
            tokio::select! {
                () = sleep_until(begun + pass_time) => {}
                () = changed => continue,
            }
            self.begun = None;
            let Some(result) = self.results.pop_front() else { continue };
            self.controls.with_quietly(|state| state.dies_after = state.dies_after.map(|left| left - 1));
            return Ok(result);
        }
    }
}

/// The slot whose rows have this token.
fn slot_of(pass: &PassRequest, token: u32) -> Option<u32> {
    let place = pass.tokens.iter().position(|found| *found == token)?;
    let mut end = 0;
    pass.rows.iter().find_map(|rows| {
        end += rows.count as usize;
        (place < end).then_some(rows.slot)
    })
}

impl Controls {
    fn with_quietly<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap())
    }
}

fn draw(next: &NextToken, slot: u32, held: &[u32], sampling: &Sampling) -> Token {
    let token = permitted(next(held, sampling), sampling);
    let top = (0..sampling.top_logprobs).map(|rank| TokenLogprob { token: token + rank, logprob: -0.5 - rank as f32 });
    let logprob = if sampling.logprobs { -0.5 } else { 0.0 };
    Token { slot, token, logprob, top: top.collect(), ..Token::default() }
}

/// How likely a token is said to be behind others.
pub(crate) fn score(held: &[u32], token: u32) -> f32 {
    let sum = held.iter().fold(token, |sum, token| sum.wrapping_mul(31).wrapping_add(*token));
    -((sum % 1000) as f32) / 64.0
}

/// The sum of what rows are said to be.
pub(crate) fn pool(tokens: &[u32]) -> [i64; 4] {
    let sum = tokens.iter().map(|token| i64::from(*token)).sum::<i64>();
    [sum, -sum, tokens.len() as i64, 7 * tokens.len() as i64]
}

/// The token, or where it may not be drawn another that depends on it.
fn permitted(token: u32, sampling: &Sampling) -> u32 {
    let Some(allowed) = &sampling.allowed else { return token };
    let allowed = allowed.read(vocabulary()).unwrap();
    if allowed.contains(token) {
        return token;
    }
    let place = u64::from(token).wrapping_mul(0x9e37_79b9) % u64::from(allowed.len());
    allowed.iter().nth(place as usize).unwrap()
}

/// Rows of the bundled model's head.
fn vocabulary() -> u32 {
    static ROWS: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    *ROWS.get_or_init(|| ModelFolder::open(bard()).unwrap().card("bard").vocabulary)
}

/// Letters and spaces that depend on all tokens before, and on seed and draw where the temperature is not 0.
pub(crate) fn babble(letters: Vec<u32>) -> NextToken {
    Arc::new(move |held, sampling| {
        let luck = if sampling.temperature > 0.0 { sampling.seed.wrapping_add(sampling.draw) } else { 0 };
        let hash = held.iter().fold(luck ^ 0x9e37, |hash, token| {
            hash.wrapping_mul(0x0100_0000_01b3).wrapping_add(u64::from(*token)).rotate_left(17)
        });
        let banned = |token: &u32| sampling.bias.iter().any(|bias| bias.token == *token && bias.value < -50.0);
        let first = (hash >> 7) as usize % letters.len();
        let allowed = letters.iter().cycle().skip(first).take(letters.len()).find(|token| !banned(token));
        *allowed.unwrap_or(&letters[first])
    })
}

/// Each answer is `script`, then the end token.
pub(crate) fn recite(script: Vec<u32>, end: u32) -> NextToken {
    Arc::new(move |_, sampling| script.get(sampling.draw as usize).copied().unwrap_or(end))
}

/// The bundled model's folder.
pub(crate) fn bard() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/models/bard-2m")
}

/// A plan for it on one device.
pub(crate) fn plan(serving: ServingLimits) -> Plan {
    let card = ModelFolder::open(bard()).unwrap().card("bard");
    let devices = [DeviceBudget { name: "device-0".into(), memory: Bytes::gib(64) }];
    let request = PlanRequest {
        model: &card,
        devices: &devices,
        serving,
        segments: 1,
        arithmetic: Arithmetic::Exact,
        residual: Dtype::F32,
        kv: Dtype::F32,
    };
    proportional(&request).unwrap()
}

/// How a gateway under test differs from others.
pub(crate) struct Setup {
    /// KV slots.
    pub(crate) slots: u32,
    /// Sequences that may wait.
    pub(crate) queue: usize,
    /// Tokens of a prompt and its answer.
    pub(crate) context: u32,
    /// The model's folder.
    pub(crate) model: PathBuf,
    /// Accepted keys.
    pub(crate) keys: Vec<String>,
    /// Names to answer to, beside the machine's own.
    pub(crate) hosts: Vec<String>,
    /// Pages that may ask, beside the machine's own.
    pub(crate) origins: Vec<AllowedOrigin>,
    /// What connections are secured with.
    pub(crate) certificate: Option<Arc<ServerCertificate>>,
    /// Where health is told in plain HTTP.
    pub(crate) status_listen: Option<SocketAddr>,
    /// Where to listen.
    pub(crate) listen: SocketAddr,
    /// The rest.
    pub(crate) options: Options,
}

impl Default for Setup {
    fn default() -> Self {
        // What is guessed depends on how fast a ring is at the moment: `speculation.rs` has it on, for answers are the same.
        let speculation = Speculation::Off;
        let options = Options { grace: Duration::from_millis(200), speculation, ..Options::default() };
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            slots: 4,
            queue: 4,
            context: 256,
            model: bard(),
            keys: Vec::new(),
            hosts: Vec::new(),
            origins: Vec::new(),
            certificate: None,
            status_listen: None,
            listen,
            options,
        }
    }
}

/// A gateway over a fake ring.
pub(crate) struct Served {
    /// It.
    pub(crate) handle: GatewayHandle,
    /// The ring's controls.
    pub(crate) ring: Controls,
    /// What happened.
    pub(crate) events: mpsc::UnboundedReceiver<Event>,
    /// The plan and the addresses of its workers.
    pub(crate) orders: watch::Sender<Orders>,
}

/// Starts one.
pub(crate) async fn serve(setup: Setup, ring: Controls) -> Served {
    let peer = Peer { device: "device-0".into(), uri: "http://127.0.0.1:9".into() };
    let serving = ServingLimits {
        max_context_tokens: setup.context,
        max_concurrent_requests: setup.slots,
        prefill_chunk_tokens: 16,
    };
    let (orders, receiver) = watch::channel(Orders::new(plan(serving), vec![peer]));
    let (sender, events) = mpsc::unbounded_channel();
    let config = GatewayConfig {
        listen: setup.listen,
        orders: receiver,
        transport: Transport::Plaintext,
        model: setup.model,
        template_program: None,
        served_name: "bard".into(),
        access: Access {
            api_keys: setup.keys,
            allow_hosts: setup.hosts,
            allow_origins: setup.origins,
            certificate: setup.certificate,
            status_listen: setup.status_listen,
        },
        queue_limit: setup.queue,
    };
    let handle = start_with(config, setup.options, FakeTransport(ring.clone()), sender).await.unwrap();
    Served { handle, ring, events, orders }
}
