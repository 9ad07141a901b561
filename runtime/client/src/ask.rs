//! One question to a model, its answer as it comes.

use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::{error::ClientError, events::EventReader, server::Server};

/// What to ask.
#[derive(Clone, Debug)]
pub struct Question {
    /// The model's name.
    pub model: String,
    /// Messages for a model with a chat template, a text to continue for any other.
    pub input: Input,
    /// Most tokens of the answer.
    pub max_tokens: u32,
    /// 0: always the most likely token.
    pub temperature: f32,
    /// Makes the answer repeatable.
    pub seed: Option<u64>,
}

/// The form of a question.
#[derive(Clone, Debug)]
pub enum Input {
    /// Messages as `{"role", "content"}`.
    Chat(Vec<Value>),
    /// A text to continue.
    Text(String),
}

/// How an answer ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The whole of it.
    pub text: String,
    /// `stop`, `length`, or what else the server says.
    pub finish_reason: String,
    /// What it took, as far as the server says.
    pub usage: Usage,
}

/// What an answer took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the question.
    pub prompt_tokens: u64,
    /// Of them, tokens that were computed before, for another question.
    pub cached_tokens: u64,
    /// Tokens of the answer.
    pub answer_tokens: u64,
    /// Of them, tokens that were guessed ahead.
    pub accepted_tokens: u64,
}

impl Usage {
    fn read(usage: &Value) -> Self {
        let count = |path: &str| usage.pointer(path).and_then(Value::as_u64).unwrap_or_default();
        Self {
            prompt_tokens: count("/prompt_tokens"),
            cached_tokens: count("/prompt_tokens_details/cached_tokens"),
            answer_tokens: count("/completion_tokens"),
            accepted_tokens: count("/completion_tokens_details/accepted_prediction_tokens"),
        }
    }

    /// What was spared, for a person; nothing where nothing was.
    pub fn spared(&self) -> Option<String> {
        let Self { prompt_tokens, cached_tokens, answer_tokens, accepted_tokens } = self;
        let cached = (*cached_tokens > 0).then(|| format!("{cached_tokens} of {prompt_tokens} tokens read before"));
        let guessed =
            (*accepted_tokens > 0).then(|| format!("{accepted_tokens} of {answer_tokens} tokens guessed ahead"));
        let told: Vec<String> = cached.into_iter().chain(guessed).collect();
        (!told.is_empty()).then(|| told.join(", "))
    }
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
            "model": self.model, "stream": true, "max_tokens": self.max_tokens, "stream_options": { "include_usage": true },
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
///
/// # Errors
/// When the server refuses, or the answer does not come whole.
pub async fn ask(server: &Server, question: &Question, mut show: impl FnMut(&str)) -> Result<Answer, ClientError> {
    let response = server.send("POST", question.path(), Some(&question.body())).await?;
    if !response.status().is_success() {
        return Err(server.refusal(response).await);
    }
    let mut answer = Answer::default();
    let mut reader = EventReader::default();
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| server.broke_off(&error))?;
        let Some(data) = frame.data_ref() else { continue };
        for event in reader.push(data).ok_or_else(|| server.no_model_server("does not stream events"))? {
            if event == "[DONE]" {
                return Ok(answer);
            }
            take(server, &event, &mut answer, &mut show)?;
        }
    }
    if answer.finish_reason.is_empty() {
        return Err(server.broke_off("the server closed the connection"));
    }
    Ok(answer)
}

fn take(server: &Server, event: &str, answer: &mut Answer, show: &mut impl FnMut(&str)) -> Result<(), ClientError> {
    let json: Value =
        serde_json::from_str(event).map_err(|_| server.no_model_server(&format!("sent the event {event:?}")))?;
    if let Some(message) = json["error"]["message"].as_str() {
        return Err(server.broke_off(message));
    }
    if json["usage"].is_object() {
        answer.usage = Usage::read(&json["usage"]);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_spared_is_told_where_anything_was() {
        let usage = json!({
            "prompt_tokens": 200, "prompt_tokens_details": { "cached_tokens": 128 },
            "completion_tokens": 30, "completion_tokens_details": { "accepted_prediction_tokens": 12, "reasoning_tokens": 1 },
        });
        let spared = Usage::read(&usage).spared();
        assert_eq!(spared.as_deref(), Some("128 of 200 tokens read before, 12 of 30 tokens guessed ahead"));
        assert_eq!(Usage::read(&json!({ "prompt_tokens": 200, "completion_tokens": 3 })).spared(), None);
    }
}
