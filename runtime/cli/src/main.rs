//! `lime`: one large language model from several small machines.

mod access;
mod args;
mod chat;
mod document;
mod fleet;
mod gateway;
mod inspect;
mod local;
mod logging;
mod manual;
mod plan;
mod profile;
mod profile_table;
mod profiles;
mod program;
mod pull;
mod router;
mod stop;
mod store;
mod traces;
mod units;
mod up;
mod wish;
mod worker;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Up(args) => up::run(args),
        Command::Plan(args) => plan::run(&args),
        Command::Profile(args) => profile::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Pull(args) => pull::run(&args),
        Command::Store(args) => store::run(&args),
        Command::Chat(args) => chat::run(args),
        Command::Worker(args) => worker::run(args),
        Command::Gateway(args) => gateway::run(args),
        Command::Router(args) => router::run(args),
        Command::Completions(args) => manual::completions(args.shell, &mut std::io::stdout().lock()),
        Command::Man(args) => manual::man(&args.folder),
        Command::Render(args) => lime_gateway::render_templates(&args.model).map_err(Into::into),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", message(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes, each said once.
fn message(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.contains(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}
