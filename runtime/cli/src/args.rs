//! The command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{access::AccessArgs, traces::TraceArgs};

/// One large language model from several small machines, every token exactly as one big machine would give it.
#[derive(Debug, Parser)]
#[command(name = "lime", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Start here:\n  lime up -f manifests/bard.yaml --prompt 'ROMEO:'\n  lime chat")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start workers and a gateway on this machine and serve until Ctrl-C
    Up(UpArgs),
    /// Show who would hold what, and start nothing
    Plan(PlanArgs),
    /// Measure what this machine has for LIME, and the links to others
    Profile(ProfileArgs),
    /// Show what a model is made of; no weights are read
    Inspect(InspectArgs),
    /// Bring a model's blocks into this machine's weight store
    Pull(PullArgs),
    /// Look at, check and clear the weight store
    Store(StoreArgs),
    /// Talk to a served model from the terminal
    Chat(ChatArgs),
    /// Run one worker (pods and `lime up` do this)
    Worker(WorkerArgs),
    /// Run one gateway in front of workers that run elsewhere (pods do this)
    Gateway(GatewayArgs),
    /// Put several models behind one endpoint: each request goes to the gateway of the model that it names
    Router(RouterArgs),
    /// Write the completions of a shell for this command line to standard output
    Completions(CompletionsArgs),
    /// Write the manual's pages for this command line to a folder
    Man(ManArgs),
    /// Render a model's chat template for a gateway, conversation by conversation
    #[command(hide = true)]
    Render(RenderArgs),
}

#[derive(Args, Debug)]
#[command(after_long_help = "Example:\n  lime completions bash > ~/.local/share/bash-completion/completions/lime")]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Args, Debug)]
#[command(after_long_help = "Example:\n  lime man ~/.local/share/man/man1")]
pub(crate) struct ManArgs {
    /// The folder, which is made where it is not there
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct RenderArgs {
    /// The model's folder
    pub(crate) model: PathBuf,
}

/// Files that say what to serve, and with what.
#[derive(Args, Debug)]
pub(crate) struct WishArgs {
    /// File with a LimeDeployment, and a LocalFleet beside it or in --fleet
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// File with a LocalFleet, instead of the one beside the LimeDeployment
    #[arg(long, value_name = "FILE")]
    pub(crate) fleet: Option<PathBuf>,

    /// How sums are formed, instead of spec.arithmetic
    #[arg(long, value_name = "KIND")]
    pub(crate) arithmetic: Option<ArithmeticArg>,

    /// How many times an activation goes round the ring for a token
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) segments: Option<u32>,

    /// Tokens of the prompt of a typical request, instead of spec.objective.promptTokens
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=1 << 24))]
    pub(crate) prompt_tokens: Option<i32>,

    /// Tokens of the answer of a typical request, instead of spec.objective.answerTokens
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=1 << 24))]
    pub(crate) answer_tokens: Option<i32>,

    /// Measure this machine anew instead of believing what was measured within a day
    #[arg(long)]
    pub(crate) measure: bool,
}

/// How sums are formed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ArithmeticArg {
    /// The same tokens on every CPU, over every plan
    Exact,
    /// candle's own operations; on the GPU of `lime worker --gpu`
    Candle,
}

impl From<ArithmeticArg> for lime_api::Arithmetic {
    fn from(arg: ArithmeticArg) -> Self {
        match arg {
            ArithmeticArg::Exact => Self::Exact,
            ArithmeticArg::Candle => Self::Candle,
        }
    }
}

#[derive(Args, Debug)]
#[command(after_long_help = UP_HELP)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) wish: WishArgs,

    /// Answer this prompt on standard output as soon as the ring is ready, then go on serving
    #[arg(long, value_name = "TEXT")]
    pub(crate) prompt: Option<String>,

    /// Most tokens of the answer to --prompt
    #[arg(long, value_name = "N", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_tokens: u32,

    /// Port of the API on this machine, instead of spec.endpoint.port; 0 takes a free one
    #[arg(long, value_name = "N")]
    pub(crate) port: Option<u16>,

    /// Where the API listens, instead of this machine's loopback: 0.0.0.0:8000 is for every machine that reaches this one
    #[arg(long, value_name = "ADDR", conflicts_with = "port")]
    pub(crate) listen: Option<SocketAddr>,

    #[command(flatten)]
    pub(crate) access: AccessArgs,

    /// Refuse requests with fields that are not known, where else these are ignored and named once in the log
    #[arg(long)]
    pub(crate) strict: bool,

    /// Whether what was computed for the beginning of a request is kept for those that begin alike, instead of what spec.prefixCache says
    #[arg(long, value_name = "ON|OFF")]
    pub(crate) prefix_cache: Option<Switch>,

    /// Stop once the answer to --prompt is complete
    #[arg(long, requires = "prompt")]
    pub(crate) once: bool,

    /// How many tokens of an answer are guessed ahead, instead of spec.speculation: off, as many as pay (auto), or so many. Answers
    /// are the same
    #[arg(long, value_name = "off|auto|N")]
    pub(crate) speculate: Option<lime_gateway::Speculation>,

    /// The ring speaks mutual TLS, with certificates made for this run, as it does between machines
    #[arg(long)]
    pub(crate) tls: bool,

    /// Print the plan and stop
    #[arg(long)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) traces: TraceArgs,

    /// Show the workers' logs; twice for more of them
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

const UP_HELP: &str = "\
Examples:
  Serve the bundled model from three devices, none of which could hold it alone:
    lime up -f manifests/bard.yaml --prompt 'ROMEO:'

  Only look at the plan:
    lime up -f manifests/bard.yaml --dry-run

  For other machines, with keys (one a line) and TLS:
    lime up -f manifests/bard.yaml --listen 0.0.0.0:8000 --api-key-file keys --api-tls-cert tls.crt --api-tls-key tls.key

  The smallest file that works (one device: what this machine can spare):
    apiVersion: lime.dev/v1alpha1
    kind: LimeDeployment
    metadata: { name: mine }
    spec: { model: { source: file://path/to/model } }

  A fleet, as a second document of the same file (link and disk are optional and slow the device down):
    ---
    apiVersion: lime.dev/v1alpha1
    kind: LocalFleet
    spec:
      segments: 2
      devices:
        - { name: a, memory: 4Gi, threads: 1, link: { bandwidth: 100Mbit, latency: 2ms } }
        - { name: b, memory: 6Gi, threads: 1, disk: { bandwidth: 200MB } }
  The speed of each device is measured here once a day (a second); `profile: { memoryBandwidth: 10GB, throughput: 50GFLOP,
  blockLatency: 20us }` overrides it. Without `segments`, the planner chooses.

A worker that dies or hangs is restarted, at most spec.failure.maxRestarts times in ten minutes, and answers go on. One that fails more often
is done without where a plan without its device can be made. Ctrl-C or SIGTERM stops everything;
nothing outlives this process, however it ends. LIME_LOG=debug sets what the logs say.";

#[derive(Args, Debug)]
#[command(after_long_help = PLAN_HELP)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) wish: WishArgs,

    /// The nodes: a fleet's file (manifests/fleets/), or a folder of what `lime profile -o json` wrote on each
    #[arg(long, value_name = "PATH", conflicts_with = "fleet")]
    pub(crate) profiles: Option<PathBuf>,

    /// The model's folder, instead of spec.model.source; config.json alone will do
    #[arg(long, value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,

    /// The same model in another precision, to be suggested where the first does not fit: a folder, a GGUF file, hf://ORG/NAME:QUANT
    /// or the like, or :QUANT alone for another quantization of the same repository; may be repeated
    #[arg(long = "or-model", value_name = "MODEL")]
    pub(crate) or_models: Vec<String>,

    /// Form of the plan
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,

    /// Say where the time goes, what binds, who is left out and why, and what else was considered
    #[arg(long)]
    pub(crate) explain: bool,

    /// Draw what every device does during one token in steady state
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) timeline: Option<PathBuf>,

    /// Predict the same fleet under other systems' strategies too
    #[arg(long)]
    pub(crate) compare: bool,
}

const PLAN_HELP: &str = "\
Examples:
  What `lime up` would do here:
    lime plan -f manifests/bard.yaml --explain

  A fleet of boards that are not here, and a model of which only config.json is:
    lime plan -f manifests/llama-70b.yaml --model path/to/llama-3.3-70b --profiles manifests/fleets/jetsons-four.yaml

  Machines that were measured, each with `lime profile -o json > profiles/NAME.json`:
    lime plan -f deployment.yaml --profiles profiles/ --compare --timeline plan.svg";

#[derive(Args, Debug)]
#[command(after_long_help = PROFILE_HELP)]
pub(crate) struct ProfileArgs {
    /// The node's name in its profile; default: the host's
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Threads that compute; default: as many as there are cores
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,

    /// How weights are stored: bf16, f16 or f32
    #[arg(long, value_name = "TYPE", default_value = "bf16")]
    pub(crate) dtype: String,

    /// Folder on the disk that will hold the weights: a file of up to 1 GiB is written there, read and removed.
    /// Default: none is measured, and nothing can be streamed
    #[arg(long, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,

    /// Memory that is left to others, such as 1Gi
    #[arg(long, value_name = "BYTES", default_value = "0")]
    pub(crate) reserve: String,

    /// Measure the link to another node, where `lime worker` or `lime profile --listen` runs; may be repeated
    #[arg(long = "peer", value_name = "NAME=URL")]
    pub(crate) peers: Vec<String>,

    /// Only answer other nodes' probes at this address, until Ctrl-C
    #[arg(long, value_name = "ADDR", conflicts_with_all = ["peers", "store"])]
    pub(crate) listen: Option<SocketAddr>,

    /// Form of the profile
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

const PROFILE_HELP: &str = "\
Examples:
  On each node:
    lime profile --name ada --store /var/lib/lime -o json > ada.json

  Links, with `lime profile --listen 0.0.0.0:7000` running on the other node:
    lime profile --name ada --store /var/lib/lime --peer bea=http://10.0.0.2:7000 -o json > ada.json

  Then, with all of these files in one folder:
    lime plan -f deployment.yaml --profiles profiles/";

#[derive(Args, Debug)]
#[command(
    after_long_help = "Examples:\n  lime inspect path/to/model\n  lime inspect path/to/model -o json\n  lime inspect hf://Qwen/Qwen3-8B-GGUF:Q4_K_M"
)]
pub(crate) struct InspectArgs {
    /// The model's folder (config.json, *.safetensors, tokenizer.json), file://FOLDER, hf://ORG/NAME or http(s)://HOST/FOLDER; a GGUF
    /// file by its path or address, on the hub hf://ORG/NAME:QUANT or hf://ORG/NAME/FILE.gguf. Of those on servers only the small files, headers and samples of the weights are fetched, and nothing is kept
    #[arg(value_name = "MODEL")]
    pub(crate) model: String,

    /// Branch, tag or commit of an hf:// model
    #[arg(long, value_name = "REVISION")]
    pub(crate) revision: Option<String>,

    /// Form of the card
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,

    /// Also write a brief card, or why there is none, to this file (the operator's inspections do this)
    #[arg(long, value_name = "FILE")]
    pub(crate) termination_log: Option<PathBuf>,
}

/// Where the weight store is.
#[derive(Args, Debug)]
pub(crate) struct StoreFolder {
    /// The weight store's folder; default: lime in the user's cache folder
    #[arg(long = "store", value_name = "DIR", env = "LIME_STORE", global = true)]
    pub(crate) folder: Option<PathBuf>,
}

#[derive(Args, Debug)]
#[command(after_long_help = PULL_HELP)]
pub(crate) struct PullArgs {
    /// hf://ORG/NAME, http(s)://HOST/FOLDER, file://FOLDER or a folder's path; of GGUF files hf://ORG/NAME:QUANT,
    /// hf://ORG/NAME/FILE.gguf, or the file in the folder's place
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,

    /// Branch, tag or commit of an hf:// source; default: main
    #[arg(long, value_name = "REV")]
    pub(crate) revision: Option<String>,

    #[command(flatten)]
    pub(crate) store: StoreFolder,

    /// Only the blocks of this device of --plan
    #[arg(long, value_name = "NAME", requires = "plan")]
    pub(crate) device: Option<String>,

    /// A plan as JSON (`lime plan -o json`)
    #[arg(long, value_name = "FILE", requires = "device")]
    pub(crate) plan: Option<PathBuf>,

    /// Blocks fetched at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) connections: u16,

    /// Read the blocks that are there and compare their digests; else sizes and headers are compared
    #[arg(long)]
    pub(crate) verify: bool,
}

const PULL_HELP: &str = "\
Examples:
  A whole model from the Hugging Face hub:
    lime pull hf://meta-llama/Llama-3.2-1B

  One quantization of the GGUF files there:
    lime pull hf://Qwen/Qwen3-8B-GGUF:Q4_K_M

  Only what device a of a plan holds, from a mirror that speaks as the hub does:
    lime plan -f fleet.yaml -o json > plan.json
    HF_ENDPOINT=https://mirror.example lime pull hf://org/model --plan plan.json --device a

  From a folder on this machine, or one on a web server that knows range requests:
    lime pull path/to/model
    lime pull https://models.example/bard

A pull that was cut, even by a power cut, goes on from where it was when it is run again; several may run at once.
Gated and private models need a token: HF_TOKEN, or the file that the hub's own tools keep.";

#[derive(Args, Debug)]
#[command(
    after_long_help = "Examples:\n  lime store ls\n  lime store verify --repair\n  lime store prune --dry-run bard-2m\n  lime store prune --all"
)]
pub(crate) struct StoreArgs {
    #[command(flatten)]
    pub(crate) store: StoreFolder,

    #[command(subcommand)]
    pub(crate) command: StoreCommand,
}

/// What to do with the store.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// List the models and what is there of each
    Ls,
    /// Read every block and compare its digest
    Verify {
        /// Names or keys of models, as `lime store ls` shows them; default: all
        #[arg(value_name = "MODEL")]
        models: Vec<String>,

        /// Make damaged blocks again, from where they came
        #[arg(long)]
        repair: bool,
    },
    /// Remove models, and what interrupted pulls left behind
    Prune {
        /// Names or keys of models, as `lime store ls` shows them; without any, only leftovers go
        #[arg(value_name = "MODEL", conflicts_with = "all")]
        models: Vec<String>,

        /// Remove every model
        #[arg(long)]
        all: bool,

        /// Only say what would go
        #[arg(long)]
        dry_run: bool,
    },
}

/// Whether something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    /// It is
    On,
    /// It is not
    Off,
}

/// Forms of what is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For both.
    Yaml,
}

#[derive(Args, Debug)]
#[command(after_long_help = CHAT_HELP)]
pub(crate) struct ChatArgs {
    /// Where the model is served
    #[arg(long, value_name = "URL", env = "LIME_URL", default_value = "http://127.0.0.1:8000")]
    pub(crate) url: String,

    /// The model's name; default: the first that the server names
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,

    /// Key for servers that want one
    #[arg(long, value_name = "KEY", env = "LIME_API_KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,

    /// What the model is told first
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,

    /// PEM file with the authority of an https:// server, or the server's own certificate; default: what this machine trusts
    #[arg(long, value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,

    /// Continue this text, without a chat template, and end
    #[arg(long, value_name = "TEXT", conflicts_with = "system")]
    pub(crate) prompt: Option<String>,

    /// Most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_tokens: u32,

    /// 0: always the most likely token; higher: more varied
    #[arg(long, value_name = "T", default_value_t = 0.7)]
    pub(crate) temperature: f32,

    /// Makes answers repeatable
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
}

const CHAT_HELP: &str = "\
In the chat: /help lists the commands, Ctrl-C stops an answer, /quit (or Ctrl-D) ends. A pipe brings one message, of any number of lines:
  echo 'Who goes there?' | lime chat --seed 1
  lime chat --url https://box.lan:8000 --cacert tls.crt --api-key KEY";

#[derive(Args, Debug)]
pub(crate) struct WorkerArgs {
    /// The worker's name in messages and logs
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,

    /// Where to listen; port 0 takes a free one. The address is printed as {"listening":"HOST:PORT"}
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:7000")]
    pub(crate) listen: SocketAddr,

    /// Where the model comes from: its folder on this machine, or hf://ORG/NAME, or http(s)://HOST/FOLDER, of which this
    /// device's blocks alone are fetched
    #[arg(long, value_name = "SOURCE")]
    pub(crate) model: String,

    /// Branch, tag or commit of an hf:// source; default: main
    #[arg(long, value_name = "REV")]
    pub(crate) revision: Option<String>,

    /// Where blocks that a plan streams, or that are fetched, are kept on this machine's disk; default: none for a folder
    /// (such a plan is then refused), else lime in the user's cache folder
    #[arg(long, value_name = "DIR", env = "LIME_STORE")]
    pub(crate) store: Option<PathBuf>,

    /// Threads that compute; default: as many as there are cores
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,

    /// Shape the link to the next worker: bits per second, such as 100Mbit
    #[arg(long, value_name = "RATE")]
    pub(crate) link_bandwidth: Option<String>,

    /// Shape the link to the next worker: one way, such as 2ms
    #[arg(long, value_name = "TIME", requires = "link_bandwidth")]
    pub(crate) link_latency: Option<String>,

    /// Shape reads from disk: bytes per second, such as 200MB
    #[arg(long, value_name = "RATE")]
    pub(crate) disk_bandwidth: Option<String>,

    /// How often blocks that stream are compared with their digests before they are computed with: every (use), or one use in
    /// so many, such as 64, for machines whose cores compute while they read. Until damage is found answers may be wrong
    #[arg(long, value_name = "WHEN", env = "LIME_VERIFY_READS", default_value_t)]
    pub(crate) verify_reads: lime_engine::VerifyReads,

    /// Instruction set of the kernels: avx512, avx2, neon or scalar; default: the best there is
    #[arg(long, value_name = "NAME", env = "LIME_ISA")]
    pub(crate) isa: Option<String>,

    /// The GPU that plans with candle arithmetic run on, by its number, in a build with the feature cuda; default: the CPU. Other plans
    /// are then refused
    #[arg(long, value_name = "N", env = "LIME_GPU")]
    pub(crate) gpu: Option<usize>,

    /// Mutual TLS: folder with ca.crt, tls.crt and tls.key, read again whenever they change. Only members of this
    /// authority are let in. Default: plain text, and anyone is
    #[arg(long, value_name = "DIR")]
    pub(crate) tls: Option<PathBuf>,

    /// Say over plain HTTP at this address whether the worker gets on: GET /health is answered with 200, with 503 where it is stuck,
    /// and with nothing where it hangs. For probes that have no certificate of the ring
    #[arg(long, value_name = "ADDR")]
    pub(crate) health: Option<SocketAddr>,

    #[command(flatten)]
    pub(crate) traces: TraceArgs,

    /// When told to stop while the ring's gateway leaves too, go on until that has ended its answers, at most for so many seconds
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) drain_seconds: u64,

    /// End when standard input does: a parent holds the other end of the pipe
    #[arg(long)]
    pub(crate) exit_with_parent: bool,
}

#[derive(Args, Debug)]
#[command(
    after_long_help = "Example:\n  lime gateway --plan plan.json --model /models/m --worker a=http://10.0.0.1:7000 --worker b=http://10.0.0.2:7000"
)]
pub(crate) struct GatewayArgs {
    /// The plan as JSON (`lime plan -o json`)
    #[arg(long, value_name = "FILE", required_unless_present = "follow")]
    pub(crate) plan: Option<PathBuf>,

    /// A plan in force as the operator writes it: JSON with name, generation, plan, and the workers' addresses by device. It
    /// is looked at every second, and another plan of no lower generation is taken up while requests go on
    #[arg(long, value_name = "FILE", conflicts_with_all = ["plan", "workers"])]
    pub(crate) follow: Option<PathBuf>,

    /// The model: its folder, or hf://ORG/NAME, or http(s)://HOST/FOLDER. Tokenizer and templates are read, no weights
    #[arg(long, value_name = "SOURCE")]
    pub(crate) model: String,

    /// Branch, tag or commit of an hf:// source; default: main
    #[arg(long, value_name = "REV")]
    pub(crate) revision: Option<String>,

    /// Where the small files of a model from a server are kept; default: lime in the user's cache folder
    #[arg(long, value_name = "DIR", env = "LIME_STORE")]
    pub(crate) store: Option<PathBuf>,

    /// A device of the plan and where its worker is, once for each device
    #[arg(long = "worker", value_name = "NAME=URL", required_unless_present = "follow")]
    pub(crate) workers: Vec<String>,

    /// Mutual TLS towards the workers: folder with ca.crt, tls.crt and tls.key, read again whenever they change. The
    /// workers' URLs then begin with https://
    #[arg(long, value_name = "DIR")]
    pub(crate) tls: Option<PathBuf>,

    /// Where to listen for HTTP
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8000")]
    pub(crate) listen: SocketAddr,

    /// Tell health and figures (/health, /live, /ready, /metrics), and nothing else, at this address too, in plain HTTP whatever the API
    /// speaks: for probes
    #[arg(long, value_name = "ADDR")]
    pub(crate) status_listen: Option<SocketAddr>,

    /// The model's name in the API; default: the name in the plan
    #[arg(long, value_name = "NAME")]
    pub(crate) served_name: Option<String>,

    #[command(flatten)]
    pub(crate) access: AccessArgs,

    /// Refuse requests with fields that are not known, where else these are ignored and named once in the log
    #[arg(long)]
    pub(crate) strict: bool,

    #[command(flatten)]
    pub(crate) traces: TraceArgs,

    /// Most requests that may wait; more are answered with 429
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) queue_limit: usize,

    /// How many tokens of an answer are guessed ahead: off, as many as pay (auto), or so many. Answers are the same
    #[arg(long, value_name = "off|auto|N", default_value_t = lime_gateway::Speculation::Auto)]
    pub(crate) speculate: lime_gateway::Speculation,

    /// Whether what was computed for the beginning of a request is kept for those that begin alike
    #[arg(long, value_name = "ON|OFF", default_value = "on")]
    pub(crate) prefix_cache: Switch,

    /// What was computed for one key serves the others, too: how soon an answer comes may tell what others have asked
    #[arg(long)]
    pub(crate) prefixes_across_keys: bool,

    /// This gateway's name, for others of the same ring: a ring that another one has is taken over when that one has let go
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// When told to stop, let answers under way go on for so many seconds; for as long, and a little longer, a gateway with a name
    /// waits for the one before it
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) drain_seconds: u64,
}

#[derive(Args, Debug)]
#[command(
    after_long_help = "Clients' keys go on to the gateways, and GET /v1/models lists what the client may use.\n\nExample:\n  \
lime router --model llama=http://llama.llm:8000 --model qwen=http://qwen.llm:8000"
)]
pub(crate) struct RouterArgs {
    /// A model's name and where its gateway is, once for each model
    #[arg(long = "model", value_name = "NAME=URL", required = true)]
    pub(crate) models: Vec<lime_gateway::Backend>,

    /// Where to listen for HTTP
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8000")]
    pub(crate) listen: SocketAddr,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_flag_has_a_word_of_help() {
        let mut command = Cli::command();
        command.build();
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            assert!(sub.get_about().is_some(), "{}", sub.get_name());
            for argument in sub.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {}", sub.get_name(), argument.get_id());
            }
        }
    }
}
