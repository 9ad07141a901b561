//! `lime chat`.

use std::path::PathBuf;

use clap::Args;

const CHAT_HELP: &str = "\
In the chat: /help lists the commands, Ctrl-C stops an answer, /quit (or Ctrl-D) ends. A pipe brings one message, of any number of lines:
  echo 'Who goes there?' | lime chat --seed 1
  lime chat --url https://box.lan:8000 --cacert tls.crt --api-key KEY";

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
