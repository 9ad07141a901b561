//! Texts and tokens as the served model has them: `/tokenize`, `/detokenize` and `/apply-template`. Nothing is drawn.

use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    App, SharedApp, asking, chat,
    encoder::Encoder,
    error::ApiError,
    fields::{Fields, whole, wrong_type, wrong_value},
};

/// Text to tokens.
pub(super) const TOKENIZE: &str = "/v1/tokenize";
/// Tokens to text.
pub(super) const DETOKENIZE: &str = "/v1/detokenize";
/// What is known of the tokenizer.
pub(super) const INFO: &str = "/v1/tokenizer_info";
/// A conversation to the text that the model goes on from.
pub(super) const TEMPLATE: &str = "/v1/apply-template";

/// `POST /tokenize`: of a `prompt` (or `content`), or of a conversation.
pub(super) async fn tokenize(State(app): State<SharedApp>, request: Request) -> Response {
    answer(app, request, |fields, encoder| {
        let chat = fields.get("messages").is_some();
        let (name, text, special) = if chat {
            let (text, special, _) = chat::read::render(fields, encoder)?;
            ("messages", text, special)
        } else {
            let name = if fields.get("content").is_some() { "content" } else { "prompt" };
            (name, required(fields, name)?.to_owned(), name == "prompt")
        };
        // Each under the name that one of the others gives it.
        let special = fields.flag("add_special_tokens")?.or(fields.flag("add_special")?).unwrap_or(special);
        encoder.extent.check_text(name, text.len())?;
        let tokens = encoder.text.tokenizer.encode(&text, special).map_err(|fault| wrong_value(name, fault))?;
        let mut answer = json!({"count": tokens.len(), "max_model_len": encoder.extent.context, "tokens": tokens});
        if fields.flag("return_token_strs")?.unwrap_or(false) {
            let written =
                |token: &u32| String::from_utf8_lossy(&encoder.text.tokenizer.token_bytes(*token)).into_owned();
            answer["token_strs"] = tokens.iter().map(written).collect();
        }
        Ok(answer)
    })
    .await
}

/// `GET /tokenizer_info`: what begins and ends a text, as evaluations ask it that tokenize here.
pub(super) async fn tokenizer_info(State(app): State<SharedApp>) -> Response {
    let tokenizer = &app.text.tokenizer;
    let name = |token: Option<u32>| token.and_then(|token| tokenizer.text_of(token));
    let eos = name(app.text.end_tokens.first().copied());
    let context = app.status.plan().context;
    Json(json!({"bos_token": name(tokenizer.bos()), "eos_token": eos, "model_max_length": context})).into_response()
}

/// `POST /detokenize`: of `tokens`.
pub(super) async fn detokenize(State(app): State<SharedApp>, request: Request) -> Response {
    answer(app, request, |fields, encoder| {
        let expected = "an array of token ids";
        let missing =
            || ApiError::invalid("tokens", "missing_required_parameter", "Missing required parameter: 'tokens'.");
        let tokens = fields.get("tokens").ok_or_else(missing)?;
        let list = tokens.as_array().ok_or_else(|| wrong_type("tokens", expected, tokens))?;
        let token = |value: &Value| {
            let id = whole(value).ok_or_else(|| wrong_type("tokens", expected, value))?;
            u32::try_from(id).map_err(|_| wrong_value("tokens", format!("{id} is no token id")))
        };
        let tokens: Vec<u32> = list.iter().map(token).collect::<Result<_, _>>()?;
        let skip_special = fields.flag("skip_special_tokens")?.unwrap_or(false);
        let text = encoder.text.tokenizer.decode(&tokens, skip_special);
        // Under the name that vLLM gives it, and that of llama.cpp.
        Ok(json!({"prompt": text, "content": text}))
    })
    .await
}

/// `POST /apply-template`: of a conversation.
pub(super) async fn apply_template(State(app): State<SharedApp>, request: Request) -> Response {
    answer(app, request, |fields, encoder| Ok(json!({"prompt": chat::read::render(fields, encoder)?.0}))).await
}

/// These need no model to be named; one that is must be the one that is served.
async fn answer(
    app: SharedApp,
    request: Request,
    face: impl FnOnce(Fields<'_>, &Encoder<'_>) -> Result<Value, ApiError> + Send + 'static,
) -> Response {
    let hearing = asking::hear(&app, request, |app: &App, fields, encoder| match fields.text("model")? {
        Some(model) if model != app.served_name => Err(ApiError::unknown_model(model, &app.served_name)),
        _ => face(fields, encoder),
    });
    hearing.await.map_or_else(IntoResponse::into_response, |answer| Json(answer).into_response())
}

fn required<'a>(fields: Fields<'a>, name: &str) -> Result<&'a str, ApiError> {
    let missing =
        || ApiError::invalid(name, "missing_required_parameter", format!("Missing required parameter: '{name}'."));
    fields.text(name)?.ok_or_else(missing)
}
