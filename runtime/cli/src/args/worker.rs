//! `lime worker`.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

use crate::traces::TraceArgs;

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

    /// What may be kept in the store of the beginnings of requests, such as 20Gi: it outlives this process. Default: nothing
    #[arg(long, value_name = "SIZE")]
    pub(crate) prefix_disk: Option<String>,

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
