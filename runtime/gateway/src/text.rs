//! Text to tokens and back, as the served model does it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use lime_plan::Plan;
use lime_text::TextError;
use lime_text::{ChatTemplate, GenerationConfig, ServedText, TextFaults, Tokenizer, plain_prompt, template_messages};
use serde_json::{Map, Value};

use crate::template_process::TemplateProcess;

/// How long a template may take. Real ones take milliseconds.
const RENDERING: Duration = Duration::from_secs(10);

/// The model as far as text goes: no weights.
pub(crate) struct TextModel {
    pub(crate) tokenizer: Tokenizer,
    template: Option<Template>,
    pub(crate) generation: GenerationConfig,
    /// Tokens that end an answer.
    pub(crate) end_tokens: Arc<[u32]>,
    /// Tokens that the model has rows for.
    pub(crate) vocabulary: u32,
}

/// Where the model's template runs.
enum Template {
    Here(Box<ChatTemplate>),
    Apart(TemplateProcess),
}

/// A conversation as one text.
pub(crate) struct ChatText {
    pub(crate) text: String,
    /// Whether the tokenizer has to add what a text begins with: a template has it already.
    pub(crate) special: bool,
}

impl TextModel {
    /// Opens the model in `dir`, to be served as `plan` says. With `program`, templates run in a process of its own.
    pub(crate) fn open(dir: &Path, plan: &Plan, program: Option<PathBuf>) -> Result<Self, TextFaults> {
        let ServedText { tokenizer, template, generation } = ServedText::open(dir)?;
        for unapplied in &generation.unapplied {
            tracing::warn!("{unapplied}");
        }
        let template = match (template, program) {
            (None, _) => None,
            (Some(here), None) => Some(Template::Here(Box::new(here))),
            (Some(_), Some(program)) => {
                let process = TemplateProcess::start(program, dir.to_owned(), RENDERING);
                Some(Template::Apart(process.map_err(|fault| TextFaults(vec![fault]))?))
            }
        };
        let end_tokens = tokenizer.eos().into();
        Ok(Self { template, generation, end_tokens, tokenizer, vocabulary: plan.model.vocabulary })
    }

    /// Whether conversations are rendered as the model was trained on them.
    pub(crate) fn has_template(&self) -> bool {
        self.template.is_some()
    }

    /// The text of a conversation up to where the answer begins. A model without a chat template gets the texts alone,
    /// a newline between them, and goes on writing from there.
    pub(crate) fn chat_text(&self, messages: &Value, variables: &Map<String, Value>) -> Result<ChatText, TextError> {
        let text = match &self.template {
            Some(Template::Here(template)) => template.render(&template_messages(messages)?, true, None, variables)?,
            Some(Template::Apart(process)) => process.render(template_messages(messages)?, variables)?,
            None => return Ok(ChatText { text: plain_prompt(messages)?, special: true }),
        };
        Ok(ChatText { text, special: false })
    }

    /// The tokens of a text that begins a sequence; with `special`, as the model expects a whole text to begin.
    pub(crate) fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, TextError> {
        let mut tokens = self.tokenizer.encode(text, special)?;
        // An empty prompt of a model that needs no first token still has to begin somewhere.
        if special && tokens.is_empty() {
            tokens.extend(self.tokenizer.bos().or(self.end_tokens.first().copied()));
        }
        Ok(tokens)
    }
}
