//! `lime profile`.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

use super::output::Output;

const PROFILE_HELP: &str = "\
Examples:
  On each node:
    lime profile --name ada --store /var/lib/lime -o json > ada.json

  Links, with `lime profile --listen 0.0.0.0:7000` running on the other node:
    lime profile --name ada --store /var/lib/lime --peer bea=http://10.0.0.2:7000 -o json > ada.json

  Then, with all of these files in one folder:
    lime plan -f deployment.yaml --profiles profiles/";

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
