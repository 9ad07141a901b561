//! One question to a model, its answer as it comes.

use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use thiserror::Error;

use super::{Refusal, Server, events::EventReader, read_whole};

/// What to ask.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) model: String,
    /// Messages for a model with a chat template, a text to continue for any other.
    pub(crate) input: Input,
    pub(crate) max_tokens: u32,
    pub(crate) temperature: f32,
    pub(crate) seed: Option<u64>,
}

/// The form of a question.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// Messages as `{"role", "content"}`.
    Chat(Vec<Value>),
    /// A text to continue.
    Text(String),
}

/// How an answer ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The whole of it.
    pub(crate) text: String,
    /// `stop`, `length`, or what else the server says.
    pub(crate) finish_reason: String,
}

/// A question without an answer.
#[derive(Debug, Error)]
pub(crate) enum AskError {
    /// The server is there and says no.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The server's word for it, by which a program decides.
        code: Option<String>,
        /// The server's words, for people.
        message: String,
        /// Seconds after which to come back, where the server says so.
        retry_after: Option<u64>,
    },
    /// Anything else.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl Question {
    fn path(&self) -> &'static str {
        match self.input {
            Input::Chat(_) => "/v1/chat/completions",
            Input::Text(_) => "/v1/completions",
        }
    }

    fn body(&self) -> Value {
        let mut body = json!({
            "model": self.model, "stream": true, "max_tokens": self.max_tokens,
            // As people write it: an f32 of 0.7 would be 0.699999988079071 in an f64.
            "temperature": self.temperature.to_string().parse::<f64>().unwrap_or_default(),
        });
        if let Some(seed) = self.seed {
            body["seed"] = seed.into();
        }
        match &self.input {
            Input::Chat(messages) => body["messages"] = messages.as_slice().into(),
            Input::Text(text) => body["prompt"] = text.as_str().into(),
        }
        body
    }
}

/// Asks, and hands each piece of the answer to `show` as it comes.
pub(crate) async fn ask(server: &Server, question: &Question, mut show: impl FnMut(&str)) -> Result<Answer, AskError> {
    let response = server.send("POST", question.path(), Some(&question.body())).await?;
    let status = response.status();
    if !status.is_success() {
        let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let body = read_whole(response).await?;
        let status = status.as_u16();
        let Refusal { code, message } = Refusal::read(&body);
        return Err(AskError::Refused { status, code, message, retry_after });
    }
    let mut answer = Answer::default();
    let mut reader = EventReader::default();
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?;
        let Some(data) = frame.data_ref() else { continue };
        let no_stream = || anyhow::anyhow!("{} does not stream events: is it a model server?", server.url());
        for event in reader.push(data).ok_or_else(no_stream)? {
            if event == "[DONE]" {
                return Ok(answer);
            }
            take(&event, &mut answer, &mut show)?;
        }
    }
    if answer.finish_reason.is_empty() {
        return Err(anyhow::anyhow!("the answer broke off: the server closed the connection").into());
    }
    Ok(answer)
}

fn take(event: &str, answer: &mut Answer, show: &mut impl FnMut(&str)) -> anyhow::Result<()> {
    let json: Value = serde_json::from_str(event).map_err(|_| anyhow::anyhow!("the server sent {event:?}"))?;
    if let Some(message) = json["error"]["message"].as_str() {
        anyhow::bail!("the answer broke off: {message}");
    }
    let choice = &json["choices"][0];
    if let Some(piece) = choice["delta"]["content"].as_str().or(choice["text"].as_str()) {
        answer.text.push_str(piece);
        show(piece);
    }
    if let Some(reason) = choice["finish_reason"].as_str() {
        answer.finish_reason = reason.to_owned();
    }
    Ok(())
}
