//! `prediction`: what a client expects the answer to be like. It is guessed ahead, and changes nothing else.

use std::sync::Arc;

use serde_json::Value;

use super::{
    encoder::Encoder,
    error::ApiError,
    fields::{Fields, wrong_type, wrong_value},
};

/// Its tokens; none where there is no prediction.
pub(super) fn read(fields: Fields<'_>, encoder: &Encoder<'_>) -> Result<Arc<[u32]>, ApiError> {
    let Some(prediction) = fields.object("prediction")? else { return Ok(Arc::from([])) };
    if prediction.get("type").is_some_and(|kind| kind != "content") {
        return Err(wrong_value("prediction.type", "it must be \"content\""));
    }
    let wrong = |value: &Value| wrong_type("prediction.content", "a string or an array of text parts", value);
    let text = match prediction.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(parts @ Value::Array(list)) => {
            let texts = list.iter().map(|part| part.get("text")?.as_str());
            texts.collect::<Option<String>>().ok_or_else(|| wrong(parts))?
        }
        Some(other) => return Err(wrong(other)),
        None => return Err(wrong_type("prediction.content", "a string or an array of text parts", &Value::Null)),
    };
    // An answer has no more than the context: what is longer could not come true.
    encoder.extent.check_text("prediction", text.len())?;
    let tokens = encoder.text.encode(&text, false).map_err(|fault| wrong_value("prediction", fault))?;
    Ok(tokens.into())
}
