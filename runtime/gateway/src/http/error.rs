//! Errors in the form of the OpenAI API.

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::{intake::StreamFault, schedule::QueueFull};

/// An error as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    kind: &'static str,
    pub(crate) message: String,
    param: Option<String>,
    code: Option<&'static str>,
    retry_after: Option<Duration>,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into(), param: None, code: None, retry_after: None }
    }

    /// 400: the request is wrong.
    pub(crate) fn invalid(param: &str, code: &'static str, message: impl Into<String>) -> Self {
        let error = Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message);
        Self { param: (!param.is_empty()).then(|| param.to_owned()), code: Some(code), ..error }
    }

    /// 400: not something that this server does.
    pub(crate) fn unsupported(param: &str, what: &str) -> Self {
        Self::invalid(param, "unsupported_parameter", format!("'{param}' is not supported: {what}"))
    }

    /// 400: the model's chat template refuses the conversation.
    pub(crate) fn template(fault: &lime_text::TextError) -> Self {
        let message = format!("Invalid 'messages': {fault}.");
        Self::invalid("messages", "chat_template_error", message)
    }

    /// 400: prompt and answer do not fit the context.
    pub(crate) fn context(param: &str, context: u32, prompt: usize, answer: u64) -> Self {
        let total = prompt as u64 + answer;
        let message = format!(
            "This model's maximum context length is {context} tokens. However, you requested {total} tokens \
             ({prompt} in the {param}, {answer} in the completion). Please reduce the length of the {param} or completion."
        );
        Self::invalid(param, "context_length_exceeded", message)
    }

    /// 400: something is longer than any prompt that fits the context, as `what` says.
    pub(crate) fn context_in_words(param: &str, context: u32, what: &str) -> Self {
        let message = format!(
            "This model's maximum context length is {context} tokens. However, {what}. Please reduce the length of the \
             {}.",
            if param.is_empty() { "request" } else { param }
        );
        Self::invalid(param, "context_length_exceeded", message)
    }

    /// 400: the tokenizer does not come to an end.
    pub(crate) fn slow_text() -> Self {
        Self::invalid(
            "",
            "tokenizing_timeout",
            "The text of your request took too long to be read as tokens: shorten it.",
        )
    }

    /// 400: a form that cannot be kept to.
    pub(crate) fn grammar(param: &str, fault: &lime_grammar::GrammarError) -> Self {
        Self::invalid(param, "invalid_grammar", format!("Invalid '{param}': {fault}."))
    }

    /// 401.
    pub(crate) fn unauthorized(message: &str) -> Self {
        let error = Self::new(StatusCode::UNAUTHORIZED, "invalid_request_error", message);
        Self { code: Some("invalid_api_key"), ..error }
    }

    /// 403: a name that is not this server's, or a page of another.
    pub(crate) fn foreign(message: String) -> Self {
        let error = Self::new(StatusCode::FORBIDDEN, "invalid_request_error", message);
        Self { code: Some("forbidden_host"), ..error }
    }

    /// 404: another model.
    pub(crate) fn unknown_model(asked: &str, served: &str) -> Self {
        let message = format!("The model '{asked}' does not exist: this server has '{served}'.");
        let error = Self::new(StatusCode::NOT_FOUND, "invalid_request_error", message);
        Self { param: Some("model".into()), code: Some("model_not_found"), ..error }
    }

    /// 404: no such path.
    pub(crate) fn unknown_path(method: &str, path: &str) -> Self {
        let error =
            Self::new(StatusCode::NOT_FOUND, "invalid_request_error", format!("Invalid URL ({method} {path})."));
        Self { code: Some("unknown_url"), ..error }
    }

    /// 405.
    pub(crate) fn method(method: &str, path: &str) -> Self {
        let message = format!("Not allowed to {method} on {path}.");
        let error = Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", message);
        Self { code: Some("method_not_supported"), ..error }
    }

    /// 408: the body does not come.
    pub(crate) fn slow_body() -> Self {
        let message = "The request's body did not arrive in time.";
        let error = Self::new(StatusCode::REQUEST_TIMEOUT, "invalid_request_error", message);
        Self { code: Some("request_timeout"), ..error }
    }

    /// 413.
    pub(crate) fn large_body(limit: usize) -> Self {
        let message = format!("The request's body is larger than the {limit} bytes that this server accepts.");
        let error = Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", message);
        Self { code: Some("request_too_large"), ..error }
    }

    /// 415: a body that says not that it is JSON.
    pub(crate) fn media_type(found: &str) -> Self {
        let message = format!(
            "The request's body must be sent as 'Content-Type: application/json', but was sent {found}. With curl: \
             -H 'content-type: application/json'."
        );
        let error = Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request_error", message);
        Self { code: Some("unsupported_media_type"), ..error }
    }

    /// 415: packed in a way that is not known here.
    pub(crate) fn content_coding(found: &str) -> Self {
        let message = format!(
            "The request's body was sent as 'Content-Encoding: {found}': this server reads gzip and deflate, and bodies as they are."
        );
        let error = Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request_error", message);
        Self { code: Some("unsupported_content_encoding"), ..error }
    }

    /// 429: the queue is full.
    pub(crate) fn queue_full(full: QueueFull, retry_after: Duration) -> Self {
        let message = format!("The server is busy: {full}. Please try again in {} s.", whole_seconds(retry_after));
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message);
        Self { code: Some("queue_full"), retry_after: Some(retry_after), ..error }
    }

    /// 503: too many requests are being read.
    pub(crate) fn crowded(retry_after: Duration) -> Self {
        let message = "The server is reading as many requests as it can at once. Please try again.";
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message);
        Self { code: Some("server_busy"), retry_after: Some(retry_after), ..error }
    }

    /// 503: not yet.
    pub(crate) fn loading(message: String, retry_after: Duration) -> Self {
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message);
        Self { code: Some("model_loading"), retry_after: Some(retry_after), ..error }
    }

    /// 503: the ring broke and does not come back.
    pub(crate) fn unavailable(cause: &str) -> Self {
        let message = format!("The model is not served at the moment: {cause}. It is tried again all the time.");
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message);
        Self { code: Some("ring_unavailable"), retry_after: Some(Duration::from_secs(10)), ..error }
    }

    /// 503: no more.
    pub(crate) fn stopping() -> Self {
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", "The server is shutting down.");
        Self { code: Some("server_shutdown"), retry_after: Some(Duration::from_secs(5)), ..error }
    }

    /// 500.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        let error = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message);
        Self { code: Some("internal_error"), ..error }
    }

    /// 500: begun by a plan with more room than the one that is in force now.
    fn outgrown(context: u32) -> Self {
        let message = format!(
            "The model is served by another plan since this request began: its sequences have at most {context} tokens, \
             prompt and answer together, and this one would need more."
        );
        let error = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message);
        Self { code: Some("context_reduced"), ..error }
    }

    /// What the end of a stream means.
    pub(crate) fn of_stream(fault: &StreamFault) -> Self {
        match fault {
            StreamFault::Failed(cause) => {
                Self::internal(format!("The request was tried again and again and failed each time: {cause}"))
            }
            StreamFault::Refused(cause) => {
                Self::invalid("", "request_refused", format!("The model cannot do what this request asks for: {cause}"))
            }
            StreamFault::Unavailable(cause) => Self::unavailable(cause),
            StreamFault::Outgrown { context } => Self::outgrown(*context),
            StreamFault::Stopping => Self::stopping(),
        }
    }

    /// The same of a field that its client knows under another name.
    #[must_use]
    pub(crate) fn about(mut self, name: &str, known_as: &str) -> Self {
        if let Some(rest) = self.param.as_deref().and_then(|param| param.strip_prefix(name)) {
            self.message = self.message.replace(&format!("'{name}"), &format!("'{known_as}"));
            self.param = Some(format!("{known_as}{rest}"));
        }
        self
    }

    /// Its name for machines.
    pub(crate) fn code(&self) -> &'static str {
        self.code.unwrap_or(self.kind)
    }

    /// The body.
    pub(crate) fn body(&self) -> Value {
        json!({"error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }})
    }
}

/// How long to wait, in whole seconds as HTTP has it, and in milliseconds as the official clients would rather have it.
pub(super) fn retry_after(wait: Duration) -> [(HeaderName, HeaderValue); 2] {
    let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    [
        (header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait))),
        (HeaderName::from_static("retry-after-ms"), HeaderValue::from(millis)),
    ]
}

/// Rounded up, and never none.
fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_millis().div_ceil(1000) as u64).max(1)
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        if let Some(wait) = self.retry_after {
            for (name, value) in retry_after(wait) {
                response.headers_mut().insert(name, value);
            }
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // For interfaces that write errors in a form of their own.
        response.extensions_mut().insert(self);
        response
    }
}
