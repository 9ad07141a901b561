//! `lime up`: workers and a gateway on this machine.

mod certificates;
mod child;
mod policy;
mod pulse;
mod replan;
mod screen;
mod supervisor;
mod worker_settings;

use std::{
    io::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, bail};
use lime_client::{Input, Question, Server, Trust, ask};
use lime_gateway::{Access, Event, GatewayConfig, GatewayHandle, Options, Orders};
use lime_plan::{Bytes, Plan};
use lime_ring::Transport;
use lime_text::ChatTemplate;
use serde_json::json;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use self::{
    certificates::Throwaway,
    policy::RestartPolicy,
    replan::Replanning,
    screen::Screen,
    supervisor::Supervisor,
    worker_settings::{WorkerEvent, WorkerSettings},
};
use crate::{
    access::{self, AccessArgs},
    args::{Switch, UpArgs},
    gateway::prefix_cache,
    logging,
    program::this_program,
    pull,
    stop::StopSignals,
    wish::Wish,
};

/// How long the gateway may take to end its streams.
const PATIENCE: Duration = Duration::from_secs(5);

/// Plans, starts everything, and serves until it is told to stop.
pub(crate) fn run(args: UpArgs) -> anyhow::Result<()> {
    logging::start(logging::level(args.verbose));
    let wish = Wish::read(&args.wish, None)?;
    let mut notes = Vec::new();
    let plan = wish.plan_to_run(args.wish.segments, &mut notes)?;
    if wish.deployment.spec.endpoint.api_key_secret_ref.is_some() && args.access.api_keys.is_none() {
        notes.push("apiKeySecretRef names a Secret of a cluster: here keys are given with --api-key-file".into());
    }
    let access = args.access.read()?;
    let listen = listen(&args, &wish);
    notes.extend(access::warning(listen, &access));
    for note in notes {
        eprintln!("note: {note}");
    }
    if args.dry_run {
        return Ok(lime_tables::print(&lime_tables::plan_table(&plan, lime_tables::screen_width()))?);
    }
    eprintln!("{}", lime_tables::plan_table(&plan, lime_tables::notes_width()));
    if needs_store(&plan, &wish) {
        pull::check_store(&wish.source)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(serve(&args, listen, access, wish, plan));
    // Whatever still runs in the background may not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Whether workers will take blocks from this machine's weight store.
fn needs_store(plan: &Plan, wish: &Wish) -> bool {
    wish.source.folder().is_none() || plan.devices.iter().any(|device| plan.needs_store(device))
}

/// Where the API listens: on this machine's loopback, where nothing else is said.
fn listen(args: &UpArgs, wish: &Wish) -> SocketAddr {
    // The schema bounds the port: it fits.
    let port = || args.port.unwrap_or_else(|| u16::try_from(wish.deployment.spec.endpoint.port).unwrap_or_default());
    args.listen.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, port())))
}

async fn serve(args: &UpArgs, listen: SocketAddr, access: Access, wish: Wish, plan: Plan) -> anyhow::Result<()> {
    let mut signals = StopSignals::new()?;
    let (publish, orders) = watch::channel(Orders::new(plan.clone(), Vec::new()));
    let (gateway_events, gateway_happened) = mpsc::unbounded_channel();
    let (worker_events, worker_happened) = mpsc::unbounded_channel();
    let certificates = args.tls.then(Throwaway::make).transpose()?;
    let tls = certificates.as_ref().map(Throwaway::folder);
    let transport = Transport::open(tls)?;
    let traces = args.traces.start("lime-gateway", &wish.served_name())?;
    let key = access.api_keys.first().cloned();
    let options = gateway_options(args, &wish)?;
    let gateway = start_gateway(listen, access, &wish, orders, transport.clone(), options, gateway_events).await?;
    let policy = RestartPolicy::new(wish.deployment.spec.failure.max_restarts.cast_unsigned());
    let shared = WorkerSettings {
        model: wish.source.clone(),
        tls: tls.map(std::path::Path::to_owned),
        transport,
        verbose: args.verbose,
        traces: args.traces.clone(),
        prefix_disk: prefix_disk(args, &wish)?,
        policy,
        events: worker_events,
    };
    let supervisor = Supervisor::start(replan::devices_of(&wish, &plan), shared, publish);
    let mut watch = Watch {
        screen: Screen::new(&plan),
        server: own_server(args, gateway.addr(), key)?,
        question: question(args, &wish)?,
        name: wish.served_name(),
        manner: manner(&args.access),
        once: args.once,
        verbose: args.verbose > 0,
        most_losses: policy.max_restarts + plan.devices.len() as u32,
        ready: false,
        losses: 0,
        first_loss: None,
        answering: None,
        supervisor,
        replanning: Replanning::new(wish, args.wish.segments, &plan),
    };
    let result = tokio::select! {
        () = signals.wait() => {
            watch.screen.settle();
            eprintln!("\nstopping");
            Ok(())
        }
        result = watch.follow(gateway_happened, worker_happened) => result,
    };
    watch.screen.settle();
    let Watch { answering, supervisor, .. } = watch;
    if let Some(answering) = answering {
        answering.abort();
    }
    if tokio::time::timeout(PATIENCE, gateway.stop()).await.is_err() {
        tracing::warn!("the gateway did not end its streams in time");
    }
    supervisor.stop().await;
    if let Some(traces) = traces {
        traces.finish();
    }
    result
}

/// The server that this process runs, as its own client: on loopback, and by no other certificate than its own.
fn own_server(args: &UpArgs, addr: SocketAddr, key: Option<String>) -> anyhow::Result<Server> {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let here = SocketAddr::from((ip, addr.port()));
    Ok(match &args.access.api_tls_cert {
        Some(certificate) => Server::parse(&format!("https://{here}"), key, &Trust::This(certificate.clone()))?,
        None => Server::parse(&format!("http://{here}"), key, &Trust::System)?,
    })
}

/// How curl and `lime chat` are to be called. The key itself is on no screen.
fn manner(access: &AccessArgs) -> (String, String) {
    let (mut curl, mut chat) = (String::new(), String::new());
    if let Some(certificate) = &access.api_tls_cert {
        curl.push_str(&format!(" --cacert {}", certificate.display()));
        chat.push_str(&format!(" --cacert {}", certificate.display()));
    }
    if access.api_keys.is_some() {
        curl.push_str(" -H 'authorization: Bearer KEY'");
        chat.push_str(" --api-key KEY");
    }
    (curl, chat)
}

/// How the gateway serves: as the command line says, else as the wish does.
fn gateway_options(args: &UpArgs, wish: &Wish) -> anyhow::Result<Options> {
    // The schema bounds the window: whatever it says can be meant.
    let wished = wish.deployment.spec.speculation.as_ref().and_then(lime_api::Speculation::told);
    let wished = wished.map(|window| window.parse()).transpose()?.unwrap_or_default();
    let speculation = args.speculate.unwrap_or(wished);
    let strict = args.strict || wish.deployment.spec.endpoint.strict;
    let wished = &wish.deployment.spec.prefix_cache;
    let enabled = args.prefix_cache.map_or(wished.enabled, |switch| switch == Switch::On);
    let prefix_cache = prefix_cache(enabled, wished.shared_across_keys);
    Ok(Options { speculation, strict, prefix_cache, ..Options::default() })
}

/// What each worker may keep of prefixes on its disk: as the command line says, else as the wish does.
fn prefix_disk(args: &UpArgs, wish: &Wish) -> anyhow::Result<Option<Bytes>> {
    let wished = wish.deployment.spec.prefix_cache.disk_bytes();
    let disk = args.prefix_disk.as_deref().map(crate::worker::prefix_disk).transpose()?.unwrap_or(wished);
    Ok(disk.filter(|_| args.prefix_cache != Some(Switch::Off)))
}

async fn start_gateway(
    listen: SocketAddr,
    access: Access,
    wish: &Wish,
    orders: watch::Receiver<Orders>,
    transport: Transport,
    options: Options,
    events: mpsc::UnboundedSender<Event>,
) -> anyhow::Result<GatewayHandle> {
    let config = GatewayConfig {
        listen,
        orders,
        transport,
        model: wish.model.clone(),
        template_program: Some(this_program()?),
        served_name: wish.served_name(),
        access,
        queue_limit: 64,
    };
    match lime_gateway::start(config, options, events).await {
        Ok(gateway) => Ok(gateway),
        Err(error @ lime_gateway::GatewayError::Listen { .. }) => {
            bail!(
                "{error}: is something served there already? Choose another port with --port or --listen, or 0 for a free one"
            )
        }
        Err(error) => Err(error.into()),
    }
}

/// What `--prompt` asks, in the form that the model takes.
fn question(args: &UpArgs, wish: &Wish) -> anyhow::Result<Option<Question>> {
    let Some(prompt) = &args.prompt else { return Ok(None) };
    let template = ChatTemplate::open(&wish.model).context("the model's chat template cannot be read")?;
    let input = match template {
        Some(_) => Input::Chat(vec![json!({ "role": "user", "content": prompt })]),
        None => Input::Text(prompt.clone()),
    };
    let model = wish.served_name();
    Ok(Some(Question { model, input, max_tokens: args.max_tokens, temperature: 0.0, seed: None }))
}

/// Follows what happens, and tells the person.
struct Watch {
    screen: Screen,
    server: Server,
    question: Option<Question>,
    name: String,
    /// What else curl and `lime chat` have to be told.
    manner: (String, String),
    once: bool,
    verbose: bool,
    most_losses: u32,
    ready: bool,
    losses: u32,
    first_loss: Option<String>,
    answering: Option<JoinHandle<anyhow::Result<()>>>,
    supervisor: Supervisor,
    replanning: Replanning,
}

impl Watch {
    /// Runs until there is nothing left to do, or until it cannot go on.
    async fn follow(
        &mut self,
        mut gateway: mpsc::UnboundedReceiver<Event>,
        mut workers: mpsc::UnboundedReceiver<WorkerEvent>,
    ) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                Some(event) = gateway.recv() => self.gateway_event(event)?,
                Some(event) = workers.recv() => self.worker_event(event)?,
                outcome = self.replanning.made() => self.go_over(outcome?),
                result = answered(&mut self.answering) => {
                    self.answering = None;
                    result?;
                    if self.once {
                        return Ok(());
                    }
                    self.invite();
                }
            }
        }
    }

    fn gateway_event(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Loading { device, loaded, total } => self.screen.loading(&device, loaded, total),
            Event::Ready { .. } => {
                self.ready = true;
                self.screen.settle();
                match self.question.take() {
                    Some(question) => {
                        let server = self.server.clone();
                        self.answering = Some(tokio::spawn(stream_answer(server, question)));
                    }
                    None => self.invite(),
                }
            }
            Event::WorkerLost { device, reason } => {
                self.screen.say(&format!("{device} is away: {reason}"));
                self.losses += u32::from(!self.ready);
                let first = self.first_loss.get_or_insert_with(|| format!("{device}: {reason}"));
                if !self.ready && self.losses > self.most_losses {
                    bail!("the ring could not be made ready; at first: {first}");
                }
            }
            Event::Unavailable { reason } => {
                let told = "requests are answered with an error until the ring is back";
                self.screen.say(&format!("the ring does not come back ({reason}): {told}"));
            }
            Event::PlanTaken { name, .. } => self.screen.say(&format!("another plan is followed: {name}")),
            Event::Recovered { epoch } => self.screen.say(&format!("the ring is back (epoch {epoch}): answers go on")),
        }
        Ok(())
    }

    fn worker_event(&mut self, event: WorkerEvent) -> anyhow::Result<()> {
        match event {
            WorkerEvent::Started { device, process, uri } => {
                if self.verbose {
                    self.screen.say(&format!("worker {device}: process {process} at {uri}"));
                }
            }
            WorkerEvent::Restarting { device, reason, restarts } => {
                self.screen.say(&format!("worker {device}: {reason}; starting it again (restart {restarts})"));
            }
            WorkerEvent::Failed { reason } => bail!(reason),
            WorkerEvent::Exhausted { device, reason } => {
                self.screen.say(&format!("{reason}; a plan without {device} is looked for"));
                self.replanning.without(device, reason);
            }
        }
        Ok(())
    }

    /// Serves on by another plan.
    fn go_over(&mut self, plan: Plan) {
        self.screen.say(&format!(
            "serving goes on by a plan without the devices that failed:\n{}",
            lime_tables::plan_table(&plan, lime_tables::notes_width())
        ));
        let devices = self.replanning.devices_of(&plan);
        self.supervisor.go_over(plan, devices);
    }

    fn invite(&self) {
        let (url, name) = (self.server.url(), &self.name);
        let body = json!({ "model": name, "prompt": "Hello", "max_tokens": 64 });
        let (curl, chat) = &self.manner;
        self.screen.say(&format!(
            "serving {name} at {url} until Ctrl-C; open {url}/ in a browser, or try:\n  \
             curl{curl} {url}/v1/completions -H 'content-type: application/json' -d '{body}'\n  lime chat{chat} --url {url}"
        ));
    }
}

/// The end of the answer that is being shown; never, where there is none.
async fn answered(answering: &mut Option<JoinHandle<anyhow::Result<()>>>) -> anyhow::Result<()> {
    match answering {
        Some(task) => task.await.context("the answer could not be shown")?,
        None => std::future::pending().await,
    }
}

/// Asks, and writes prompt and answer to standard output as they come.
async fn stream_answer(server: Server, question: Question) -> anyhow::Result<()> {
    let show = |piece: &str| {
        let mut output = std::io::stdout();
        // A reader that has gone away does not end the serving.
        let _ = output.write_all(piece.as_bytes()).and_then(|()| output.flush());
    };
    if let Input::Text(prompt) = &question.input {
        show(prompt);
    }
    ask(&server, &question, show).await?;
    show("\n");
    Ok(())
}
