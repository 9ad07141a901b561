//! What answers HTTP: `lime gateway`, `lime router`, and the templates' process.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

use super::switch::Switch;
use crate::{access::AccessArgs, traces::TraceArgs};

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

#[derive(Args, Debug)]
pub(crate) struct RenderArgs {
    /// The model's folder
    pub(crate) model: PathBuf,
}
