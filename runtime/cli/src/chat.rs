//! `lime chat`: a conversation in the terminal, or through a pipe.

use anyhow::anyhow;
use lime_client::{ClientError, Manner, Server, TalkError, Trust, talk};

use crate::args::ChatArgs;

/// Talks until /quit or the end of input.
pub(crate) fn run(args: ChatArgs) -> anyhow::Result<()> {
    let trust = args.cacert.map_or(Trust::System, Trust::File);
    let server = Server::parse(&args.url, args.api_key, &trust)?;
    let manner = Manner {
        model: args.model,
        prompt: args.prompt,
        system: args.system,
        max_tokens: args.max_tokens,
        temperature: args.temperature,
        seed: args.seed,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(talk(&server, &manner)).map_err(|error| match error {
        TalkError::Client(ClientError::Away { url, source }) => anyhow!(
            "no server answers at {url}: start one with `lime up -f FILE`, or name another with --url: {source}"
        ),
        TalkError::Client(error @ ClientError::Stranger { .. }) => {
            anyhow!("{error}: give the file of its authority, or of itself, with --cacert FILE")
        }
        other => other.into(),
    })
}
