//! Text to tokens and back, as the served model does it.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use lime_grammar::{GrammarError, Grammars, TokenText};
use lime_plan::Plan;
use lime_text::TextError;
use lime_text::{
    AnswerFormat, CallStyle, ChatTemplate, Continuation, GenerationConfig, ServedText, TextFaults, Tokenizer,
    plain_prompt, short_call_ids, template_messages, tools_in_words,
};
use serde_json::{Map, Value};

use crate::{
    schedule::Pooling,
    template_process::{Conversation, TemplateProcess},
};

/// How long a template may take. Real ones take milliseconds.
const RENDERING: Duration = Duration::from_secs(10);

/// The model as far as text goes: no weights.
pub(crate) struct TextModel {
    pub(crate) tokenizer: Tokenizer,
    template: Option<Template>,
    pub(crate) generation: GenerationConfig,
    /// The form of its answers.
    pub(crate) answers: AnswerFormat,
    /// Tokens that end an answer.
    pub(crate) end_tokens: Arc<[u32]>,
    /// Tokens that the model has rows for.
    pub(crate) vocabulary: u32,
    /// Which states its embeddings are made of.
    pub(crate) pooling: Pooling,
    /// Its tokens as grammars read them, once one was asked for.
    grammars: OnceLock<Result<Grammars, GrammarError>>,
}

/// Where the model's template runs.
enum Template {
    Here(Box<ChatTemplate>),
    Apart(TemplateProcess),
}

/// What is to be rendered.
#[derive(Clone, Debug)]
pub(crate) struct Rendering {
    pub(crate) messages: Value,
    /// The tools that the model may call.
    pub(crate) tools: Option<Value>,
    /// The template's own variables.
    pub(crate) variables: Map<String, Value>,
    pub(crate) opening: Opening,
}

/// Where a rendered conversation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// Where an answer begins.
    Answer,
    /// In the last message, which is to be gone on with.
    LastMessage,
    /// After the last message.
    Nothing,
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
        let answers = template.as_ref().map(ChatTemplate::answers).unwrap_or_default();
        let template = match (template, program) {
            (None, _) => None,
            (Some(here), None) => Some(Template::Here(Box::new(here))),
            (Some(_), Some(program)) => {
                let process = TemplateProcess::start(program, dir.to_owned(), RENDERING);
                Some(Template::Apart(process.map_err(|fault| TextFaults(vec![fault]))?))
            }
        };
        let end_tokens = tokenizer.eos().into();
        let vocabulary = plan.model.vocabulary;
        let pooling = pooling(dir);
        let grammars = OnceLock::new();
        Ok(Self { template, generation, answers, end_tokens, tokenizer, vocabulary, pooling, grammars })
    }

    /// What makes grammars of its answers. The first to ask waits until its tokens are laid out.
    pub(crate) fn grammars(&self) -> Result<&Grammars, GrammarError> {
        let lay_out = || {
            if !self.tokenizer.adds_by_token() {
                let what = "what one adds to a text depends on those around it";
                return Err(GrammarError::Tokens(what.into()));
            }
            Grammars::new((0..self.vocabulary).map(|token| self.token_text(token)).collect(), &self.end_tokens)
        };
        self.grammars.get_or_init(lay_out).as_ref().map_err(Clone::clone)
    }

    fn token_text(&self, token: u32) -> TokenText {
        match self.tokenizer.text_of(token) {
            None => TokenText::Nothing,
            Some(name) if self.tokenizer.is_special(token) => TokenText::Mark(name),
            Some(_) => TokenText::Text(self.tokenizer.token_bytes(token)),
        }
    }

    /// Whether conversations are rendered as the model was trained on them.
    pub(crate) fn has_template(&self) -> bool {
        self.template.is_some()
    }

    /// The text of a conversation up to where the answer begins. A model without a chat template gets the texts alone,
    /// a newline between them, and goes on writing from there.
    pub(crate) fn chat_text(&self, rendering: &Rendering) -> Result<ChatText, TextError> {
        let mut messages = template_messages(&rendering.messages)?;
        let mut tools = rendering.tools.clone();
        if !self.answers.told {
            messages = tools_in_words(&messages, &tools.take().unwrap_or_default());
        } else if self.answers.calls == CallStyle::Mistral {
            short_call_ids(&mut messages);
        }
        let Some(template) = &self.template else {
            return Ok(ChatText { text: plain_prompt(&messages)?, special: true });
        };
        let going_on = rendering.opening == Opening::LastMessage;
        let conversation = Conversation {
            messages: if going_on { Continuation::of(messages)?.messages } else { messages },
            tools,
            variables: rendering.variables.clone(),
            generation_prompt: rendering.opening == Opening::Answer,
        };
        let text = match template {
            Template::Here(template) => conversation.render(template)?,
            Template::Apart(process) => process.render(&conversation)?,
        };
        Ok(ChatText { text: if going_on { Continuation::cut(&text)? } else { text }, special: false })
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

/// As the model's makers say it in the form of sentence-transformers; where they do not, the last token's state is the one that has seen the whole text.
fn pooling(dir: &Path) -> Pooling {
    const FILE: &str = "1_Pooling/config.json";
    const LARGEST: u64 = 64 << 10;
    let Ok(bytes) = lime_files::read_bounded(&dir.join(FILE), LARGEST, "it is optional") else { return Pooling::Last };
    let config: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    if config["pooling_mode_mean_tokens"] == true { Pooling::Mean } else { Pooling::Last }
}
