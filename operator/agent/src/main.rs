//! `lime-agent`: measures its node and keeps the LimeNodeProfile of the same name.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use kube::Client;
use lime_agent::agent::Agent;
use lime_agent::cluster::Cluster;
use lime_agent::local::Local;
use tracing_subscriber::EnvFilter;

/// Measures the node that it runs on and keeps the LimeNodeProfile of the same name.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The node's name, from the downward API.
    #[arg(long, env = "NODE_NAME")]
    node: String,
    /// The namespace of the heartbeat's Lease, from the downward API.
    #[arg(long, env = "POD_NAMESPACE")]
    namespace: String,
    /// Where other agents measure the way to this node.
    #[arg(long, env = "LIME_AGENT_LISTEN", default_value = "0.0.0.0:7411")]
    listen: SocketAddr,
    /// The address by which other nodes reach this one, from the downward API. Without it, they measure no way to it.
    #[arg(long, env = "POD_IP")]
    address: Option<std::net::IpAddr>,
    /// The folder of the weight store, whose disk is measured.
    #[arg(long, env = "LIME_STORE", default_value = "/var/lib/lime")]
    store: PathBuf,
    /// Seconds after which a node that is never idle is measured all the same.
    #[arg(long, env = "LIME_AGENT_LONGEST_WAIT_SECONDS", default_value_t = 300)]
    longest_wait_seconds: u64,
}

fn main() -> anyhow::Result<()> {
    lime_agent::frugal::restart();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
    let arguments = Arguments::parse();
    // One thread: the agent must cost a small node nothing while it waits.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        tokio::select! {
            failed = live(arguments) => failed,
            stopped = stop() => stopped,
        }
    });
    // A measurement that still runs must not hold up the end.
    runtime.shutdown_background();
    ended
}

async fn live(arguments: Arguments) -> anyhow::Result<()> {
    let listener = lime_profiler::listen(arguments.listen).await.context("--listen names another address")?;
    let endpoint = arguments.address.map(|address| SocketAddr::new(address, arguments.listen.port()).to_string());
    let client = Client::try_default().await.context("no way to the API server")?;
    let cluster = join(client, &arguments).await;
    let longest_wait = Duration::from_secs(arguments.longest_wait_seconds);
    let agent = Agent::new(cluster, Local::new(&arguments.store), endpoint, longest_wait);
    agent.run().await;
    listener.stop().await;
    Ok(())
}

/// Waits for the API server: an agent that starts before it is no failure.
async fn join(client: Client, arguments: &Arguments) -> Cluster {
    loop {
        match Cluster::join(client.clone(), &arguments.node, &arguments.namespace).await {
            Ok(cluster) => return cluster,
            Err(error) => tracing::warn!("{error:#}: trying again in 5 s"),
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

async fn stop() -> anyhow::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    Ok(())
}
