//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Plans, devices, conversations and support bundles of LimeDeployments.
#[derive(Debug, Parser)]
#[command(name = "kubectl-lime", bin_name = "kubectl lime", version, propagate_version = true)]
#[command(arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
NAME may be left out where the namespace has one LimeDeployment.

Start here:
  kubectl lime explain -n llm        why it serves as it does, or does not
  kubectl lime top -n llm            what each device does now
  kubectl lime chat -n llm           talk with it, through a port-forward of its own
  kubectl lime diagnose -n llm       one file for whoever is to help, without secrets";

/// Which cluster, as kubectl has it. These stand after `lime`: kubectl hands plugins only what follows their name.
#[derive(Args, Debug, Default)]
pub(crate) struct ClusterArgs {
    /// Namespace of the LimeDeployment; default: that of the context
    #[arg(short, long, global = true, value_name = "NAMESPACE", help_heading = "Cluster")]
    pub(crate) namespace: Option<String>,

    /// Context of the kubeconfig; default: the current one
    #[arg(long, global = true, value_name = "CONTEXT", help_heading = "Cluster")]
    pub(crate) context: Option<String>,

    /// The kubeconfig; default: what KUBECONFIG names, or ~/.kube/config
    #[arg(long, global = true, value_name = "FILE", help_heading = "Cluster")]
    pub(crate) kubeconfig: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show who holds what by the plan in force, and by one that awaits approval
    Plan(PlanArgs),
    /// Say why it serves as it does: conditions, where the time goes, who was left out, what else there was, events
    Explain(ExplainArgs),
    /// Show what each device does, again and again
    Top(TopArgs),
    /// Draw one token's way through the devices as SVG
    Timeline(TimelineArgs),
    /// Talk with the model
    Chat(ChatArgs),
    /// Collect objects, events and logs for whoever is to help, without secrets
    Diagnose(DiagnoseArgs),
    /// Print the completions of a shell
    Completion(CompletionArgs),
}

/// A plan, and how to print it.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  kubectl lime plan llama -n llm\n  kubectl lime plan --plan llama-3cb013c1 -o yaml"
)]
pub(crate) struct PlanArgs {
    /// The LimeDeployment
    #[arg(value_name = "NAME")]
    pub(crate) deployment: Option<String>,

    /// This LimePlan, instead of the one in force
    #[arg(long, value_name = "PLAN")]
    pub(crate) plan: Option<String>,

    /// A table, or the whole plan as programs read it
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: Output,
}

/// What to explain.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  kubectl lime explain llama -n llm")]
pub(crate) struct ExplainArgs {
    /// The LimeDeployment
    #[arg(value_name = "NAME")]
    pub(crate) deployment: Option<String>,

    /// This LimePlan, instead of the one in force
    #[arg(long, value_name = "PLAN")]
    pub(crate) plan: Option<String>,
}

/// How to print a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    Table,
    /// JSON
    Json,
    /// YAML
    Yaml,
}

/// What to watch.
#[derive(Args, Debug)]
#[command(after_help = "BUSY, WAITS and SENDS are shares of the time since the last look; Ctrl-C ends.\n\n\
Examples:\n  kubectl lime top llama -n llm\n  kubectl lime top --once | column -t")]
pub(crate) struct TopArgs {
    /// The LimeDeployment
    #[arg(value_name = "NAME")]
    pub(crate) deployment: Option<String>,

    /// Seconds between two looks
    #[arg(short, long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) interval: u64,

    /// Look twice, print once
    #[arg(long)]
    pub(crate) once: bool,
}

/// What to draw.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  kubectl lime timeline llama -n llm -o llama.svg")]
pub(crate) struct TimelineArgs {
    /// The LimeDeployment
    #[arg(value_name = "NAME")]
    pub(crate) deployment: Option<String>,

    /// This LimePlan, instead of the one in force
    #[arg(long, value_name = "PLAN")]
    pub(crate) plan: Option<String>,

    /// Where the picture goes; `-` or nothing: standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// How to talk.
#[derive(Args, Debug)]
#[command(
    after_help = "In the chat: /reset forgets what was said, /quit (or Ctrl-D) ends. With a pipe, each line is one message:\n  \
echo 'Who goes there?' | kubectl lime chat llama -n llm --seed 1"
)]
pub(crate) struct ChatArgs {
    /// The LimeDeployment
    #[arg(value_name = "NAME")]
    pub(crate) deployment: Option<String>,

    /// Key for a deployment that wants one; default: the first of its Secret, where you may read that
    #[arg(long, value_name = "KEY", env = "LIME_API_KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,

    /// Continue this text and end, instead of a conversation
    #[arg(long, value_name = "TEXT", conflicts_with = "system")]
    pub(crate) prompt: Option<String>,

    /// What the model is told first
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,

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

/// What to collect.
#[derive(Args, Debug)]
#[command(
    after_help = "No Secret is read. Values of environment variables, credentials in URLs, tokens and keys are taken out of\n\
everything else, logs included; look through the file all the same before you hand it on.\n\n\
Examples:\n  kubectl lime diagnose llama -n llm\n  kubectl lime diagnose -n llm -o - | tar tz"
)]
pub(crate) struct DiagnoseArgs {
    /// The LimeDeployment; default: every one of the namespace
    #[arg(value_name = "NAME")]
    pub(crate) deployment: Option<String>,

    /// The archive to write; `-`: standard output; default: lime-NAMESPACE-TIME.tar.gz
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Lines of each log, counted from its end
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(i64).range(0..=100_000))]
    pub(crate) log_lines: i64,
}

/// Which completions.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  kubectl lime completion bash > ~/.local/share/bash-completion/completions/kubectl-lime\n  \
source <(kubectl lime completion zsh)"
)]
pub(crate) struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
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
    fn the_cluster_is_named_before_or_after_the_command() {
        for line in ["kubectl-lime -n llm --context c plan m", "kubectl-lime plan m -n llm --context c"] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(cli.cluster.namespace.as_deref(), Some("llm"), "{line}");
            assert_eq!(cli.cluster.context.as_deref(), Some("c"), "{line}");
        }
    }

    #[test]
    fn help_speaks_as_people_call_it() {
        let help = Cli::command().render_long_help().to_string();
        assert!(help.contains("Usage: kubectl lime"), "{help}");
        for command in ["plan", "explain", "top", "timeline", "chat", "diagnose", "completion"] {
            assert!(help.contains(command), "{command} is missing in {help}");
        }
    }
}
