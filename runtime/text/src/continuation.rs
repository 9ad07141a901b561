//! A last message that is to be gone on with, not answered.

use serde_json::Value;

use crate::error::TextError;

/// Stands where the message ends; no model's text has it.
const END: &str = "LIME_GOES_ON_HERE_5f1d";

/// A conversation whose last message is the beginning of the answer, as transformers' `continue_final_message` has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Continuation {
    /// What is to be rendered, without a prompt for an answer.
    pub messages: Value,
}

impl Continuation {
    /// Of a conversation in the form that templates read.
    ///
    /// # Errors
    /// Where the last message has no text.
    pub fn of(mut messages: Value) -> Result<Self, TextError> {
        let last = messages.as_array_mut().and_then(|list| list.last_mut()).and_then(|last| last.get_mut("content"));
        let Some(Value::String(content)) = last else {
            let reason = "the last message has no text to go on with".to_owned();
            return Err(TextError::Template { reason });
        };
        content.push(' ');
        content.push_str(END);
        Ok(Self { messages })
    }

    /// What was rendered, up to where the message ends.
    ///
    /// # Errors
    /// Where the template leaves the last message out, or changes it.
    pub fn cut(rendered: &str) -> Result<String, TextError> {
        let Some(place) = rendered.rfind(END) else {
            let reason = "it does not render the last message as it is, so that nothing can go on with it".to_owned();
            return Err(TextError::Template { reason });
        };
        // The space is ours; a template that trims has more of them gone.
        let text = &rendered[..place];
        Ok(text.strip_suffix(' ').unwrap_or(text).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_conversation_ends_where_its_last_message_does() {
        let messages = json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": "It is "}]);
        let continuation = Continuation::of(messages).unwrap();
        let content = continuation.messages[1]["content"].as_str().unwrap();
        assert_eq!(Continuation::cut(&format!("<u>q<a>{content}<end>\n")).unwrap(), "<u>q<a>It is ");
        assert!(Continuation::cut("<u>q").is_err());
        assert!(Continuation::of(json!([{"role": "user", "content": null}])).is_err());
        assert!(Continuation::of(json!([])).is_err());
    }
}
