//! `lime up`.

use std::net::SocketAddr;

use clap::Args;

use super::switch::Switch;
use super::wish::WishArgs;
use crate::{access::AccessArgs, traces::TraceArgs};

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

    /// What each worker may keep of that on this machine's disk, such as 20Gi, instead of what spec.prefixCache.disk says; 0: nothing. It
    /// outlives this run
    #[arg(long, value_name = "SIZE")]
    pub(crate) prefix_disk: Option<String>,

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
