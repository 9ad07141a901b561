//! `kubectl lime`: what people ask of LIME on a cluster. It does what the person's own account may do, and nothing by itself.

mod args;
mod chat;
mod cluster;
mod completion;
mod diagnose;
mod explain;
mod fleet;
mod forward;
mod plan;
#[cfg(test)]
mod testing;
mod timeline;
mod top;

use std::process::ExitCode;

use clap::Parser as _;

use crate::{
    args::{Cli, Command},
    cluster::Cluster,
};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    if let Command::Completion(args) = &cli.command {
        return completion::print(args.shell);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let cluster = Cluster::connect(&cli.cluster).await?;
        match cli.command {
            Command::Plan(args) => plan::run(&cluster, &args).await,
            Command::Explain(args) => explain::run(&cluster, &args).await,
            Command::Top(args) => top::run(&cluster, &args).await,
            Command::Timeline(args) => timeline::run(&cluster, &args).await,
            Command::Chat(args) => chat::run(&cluster, args).await,
            Command::Diagnose(args) => diagnose::run(&cluster, &args).await,
            Command::Completion(_) => Ok(()),
        }
    })
}
