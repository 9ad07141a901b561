//! How servers are asked.

use std::{env, fmt, fs, path::PathBuf, time::Duration};

use crate::http::url;

const HUB: &str = "https://huggingface.co";
const TOKEN_LIMIT: usize = 4096;

/// How servers are asked.
#[derive(Clone)]
#[non_exhaustive]
pub struct RemoteOptions {
    /// Where `hf://` sources are; without a slash at its end.
    pub endpoint: String,
    /// Sent to the endpoint, never to where it redirects.
    pub token: Option<String>,
    /// How often a request that made no headway is repeated.
    pub retries: u32,
    /// The pause before the first repetition; each further one is twice as long, and all are shortened at random.
    pub pause: Duration,
    /// A connection on which nothing, or next to nothing, comes for so long is given up.
    pub patience: Duration,
    /// A request that made no headway for so long is given up, however often it may still be repeated.
    pub deadline: Duration,
}

impl RemoteOptions {
    /// As the conventions of the hub have it: `HF_ENDPOINT`; the token from `HF_TOKEN`, or from the file `HF_TOKEN_PATH`,
    /// `HF_HOME/token` or `~/.cache/huggingface/token`.
    pub fn from_env() -> Self {
        let text = |name: &str| env::var(name).ok().filter(|value| !value.trim().is_empty());
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| HUB.to_owned());
        let file = text("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| {
            let home = text("HF_HOME").map(PathBuf::from);
            let home = home.or_else(|| text("HOME").map(|home| PathBuf::from(home).join(".cache/huggingface")));
            home.map(|home| home.join("token"))
        });
        let token = text("HF_TOKEN").or_else(|| fs::read_to_string(file?).ok());
        let token = token.map(|token| token.trim().to_owned());
        Self { token: token.filter(|token| is_token(token)), ..Self::at(endpoint) }
    }

    /// With this endpoint and no token.
    pub fn at(endpoint: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into().trim_end_matches('/').to_owned(),
            token: None,
            retries: 6,
            pause: Duration::from_millis(500),
            patience: Duration::from_secs(30),
            deadline: Duration::from_secs(120),
        }
    }

    /// The token, unless it would travel in plain text.
    pub(crate) fn token_for_endpoint(&self) -> Option<String> {
        let safe = self.endpoint.starts_with("https://") || url::is_loopback(&self.endpoint);
        if !safe && self.token.is_some() {
            tracing::warn!(endpoint = self.endpoint, "the endpoint is not https: the token is not sent to it");
        }
        self.token.clone().filter(|token| safe && is_token(token))
    }
}

impl fmt::Debug for RemoteOptions {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.token.as_ref().map(|_| "(hidden)");
        f.debug_struct("RemoteOptions").field("endpoint", &self.endpoint).field("token", &token).finish_non_exhaustive()
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.len() <= TOKEN_LIMIT && text.bytes().all(|byte| byte.is_ascii_graphic())
}
