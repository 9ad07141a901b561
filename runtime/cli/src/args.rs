//! The command line: what to do, and a file for the arguments of each command.

mod chat;
mod gateway;
mod made_files;
mod output;
mod plan;
mod profile;
mod store;
mod switch;
mod up;
mod wish;
mod worker;

use clap::{Parser, Subcommand};

pub(crate) use chat::ChatArgs;
pub(crate) use gateway::{GatewayArgs, RenderArgs, RouterArgs};
pub(crate) use made_files::{CompletionsArgs, ManArgs};
pub(crate) use output::Output;
pub(crate) use plan::PlanArgs;
pub(crate) use profile::ProfileArgs;
pub(crate) use store::{InspectArgs, PullArgs, StoreArgs, StoreCommand, StoreFolder};
pub(crate) use switch::Switch;
pub(crate) use up::UpArgs;
pub(crate) use wish::WishArgs;
pub(crate) use worker::WorkerArgs;

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
