//! Text to tokens and back, as the served model does it.

use std::{path::Path, sync::Arc};

use lime_model::{ChatTemplate, GenerationConfig, ModelError, Tokenizer, plain_prompt, template_messages};
use lime_planner::Plan;
use serde_json::{Map, Value};

/// The model as far as text goes: no weights.
pub(crate) struct TextModel {
    pub(crate) tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    pub(crate) generation: GenerationConfig,
    /// Tokens that end an answer.
    pub(crate) end_tokens: Arc<[u32]>,
    /// Tokens that the model has rows for.
    pub(crate) vocabulary: u32,
}

impl TextModel {
    /// Opens the model in `dir`, to be served as `plan` says.
    pub(crate) fn open(dir: &Path, plan: &Plan) -> Result<Self, ModelError> {
        let tokenizer = Tokenizer::open(dir)?;
        let end_tokens = tokenizer.eos().into();
        Ok(Self {
            template: ChatTemplate::open(dir)?,
            generation: GenerationConfig::load(dir)?,
            end_tokens,
            tokenizer,
            vocabulary: plan.model.vocabulary,
        })
    }

    /// The text of a conversation up to where the answer begins. A model without a chat template gets the texts alone,
    /// a newline between them, and goes on writing from there.
    pub(crate) fn chat_text(&self, messages: &Value, variables: &Map<String, Value>) -> Result<ChatText, ModelError> {
        match &self.template {
            Some(template) => {
                let text = template.render(&template_messages(messages)?, true, None, variables)?;
                Ok(ChatText { text, special: false })
            }
            None => Ok(ChatText { text: plain_prompt(messages)?, special: true }),
        }
    }

    /// The tokens of a text that begins a sequence; with `special`, as the model expects a whole text to begin.
    pub(crate) fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, ModelError> {
        let mut tokens = self.tokenizer.encode(text, special)?;
        // An empty prompt of a model that needs no first token still has to begin somewhere.
        if special && tokens.is_empty() {
            tokens.extend(self.tokenizer.bos().or(self.end_tokens.first().copied()));
        }
        Ok(tokens)
    }
}

/// A conversation as one text.
pub(crate) struct ChatText {
    pub(crate) text: String,
    /// Whether the tokenizer has to add what a text begins with: a template has it already.
    pub(crate) special: bool,
}
