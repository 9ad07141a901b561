//! The chat template: from a conversation to the text that the model was trained to continue.
//!
//! Templates are Jinja programs that come with a model. They run in a sandbox without files or modules, within a
//! budget of steps, and render as transformers' `apply_chat_template` does.

use std::{collections::BTreeMap, path::Path};

use minijinja::{Environment, Error, ErrorKind, syntax::SyntaxConfig, value::Serde};
use serde_json::{Map, Value};

use crate::{
    answers::AnswerFormat,
    error::TextError,
    special::Names,
    template_conversation::prepared,
    template_dates::strftime_now,
    template_files::{DEFAULT, sources},
    template_filters, template_methods,
    template_source::adapted,
};

/// Steps that any rendering may take, and more for each byte of the conversation: a template that reads a
/// conversation a hundred times stays far below, one that loops for ever is stopped in about a second.
const FUEL: u64 = 2_000_000;
const FUEL_PER_BYTE: u64 = 32;
const RECURSION_LIMIT: usize = 200;

const TOOL_USE: &str = "tool_use";

/// A model's chat template, compiled.
pub struct ChatTemplate {
    environment: Environment<'static>,
    special: Map<String, Value>,
    answers: AnswerFormat,
}

impl ChatTemplate {
    /// Opens the template of a model folder: `chat_template.jinja`, `chat_template.json` or the one in
    /// `tokenizer_config.json`.
    /// `None` where the model has none; see [`plain_prompt`](crate::plain_prompt) for what to do then.
    ///
    /// # Errors
    /// A file that cannot be read, or a template that does not compile.
    pub fn open(dir: impl AsRef<Path>) -> Result<Option<Self>, TextError> {
        let dir = dir.as_ref();
        Self::open_beside(dir, &Names::load(dir)?)
    }

    /// As [`ChatTemplate::open`], with what the neighbours say.
    pub(crate) fn open_beside(dir: &Path, names: &Names) -> Result<Option<Self>, TextError> {
        let sources = sources(dir, &names.config)?;
        if sources.is_empty() {
            return Ok(None);
        }
        Self::compile(sources, names.special.clone()).map(Some)
    }

    /// Compiles one template. `special` holds the texts of `bos_token`, `eos_token` and so on.
    ///
    /// # Errors
    /// A template that does not compile.
    pub fn from_source(source: &str, special: Map<String, Value>) -> Result<Self, TextError> {
        Self::compile(BTreeMap::from([(DEFAULT.to_owned(), source.to_owned())]), special)
    }

    /// Renders a conversation.
    ///
    /// `messages` is a list of objects with `role`, `content` and whatever the template knows besides. With
    /// `add_generation_prompt` the text ends where the assistant's answer begins. `extra` are the template's own
    /// variables, such as `enable_thinking`.
    ///
    /// # Errors
    /// What the template says of a conversation that it does not accept, in its own words; or a template that takes
    /// too many steps.
    pub fn render(
        &self,
        messages: &Value,
        add_generation_prompt: bool,
        tools: Option<&Value>,
        extra: &Map<String, Value>,
    ) -> Result<String, TextError> {
        let messages = prepared(messages)?;
        let name = if tools.is_some() && self.has(TOOL_USE) { TOOL_USE } else { DEFAULT };
        if !self.has(name) {
            let reason = "none of the model's templates is named \"default\": add a chat_template.jinja".to_owned();
            return Err(TextError::Template { reason });
        }
        let size = (messages.to_string().len() + tools.map_or(0, |tools| tools.to_string().len())) as u64;
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(FUEL + FUEL_PER_BYTE * size));
        let mut variables = self.special.clone();
        variables.extend(extra.clone());
        variables.extend([
            ("messages".to_owned(), messages),
            ("tools".to_owned(), tools.cloned().unwrap_or(Value::Null)),
            ("documents".to_owned(), Value::Null),
            ("add_generation_prompt".to_owned(), Value::Bool(add_generation_prompt)),
        ]);
        let rendered = environment.get_template(name).and_then(|template| template.render(Serde(&variables)));
        rendered.map_err(|fault| TextError::Template { reason: explain(&fault) })
    }

    /// The form of the answers to what it renders.
    pub const fn answers(&self) -> AnswerFormat {
        self.answers
    }

    fn has(&self, name: &str) -> bool {
        self.environment.templates().any(|(known, _)| known == name)
    }

    fn compile(sources: BTreeMap<String, String>, special: Map<String, Value>) -> Result<Self, TextError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|fault| TextError::Template { reason: explain(&fault) })?);
        environment.set_recursion_limit(RECURSION_LIMIT);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_unknown_method_callback(template_methods::call);
        template_filters::add_to(&mut environment);
        environment.add_function("strftime_now", |format: &str| strftime_now(format));
        environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        let answers = AnswerFormat::of_sources(sources.values().map(String::as_str));
        for (name, source) in sources {
            let source = adapted(&source);
            let added = environment.add_template_owned(name, source);
            added.map_err(|fault| TextError::Template { reason: format!("does not compile: {fault}") })?;
        }
        Ok(Self { environment, special, answers })
    }
}

/// The template's own words where it raised an exception, else what went wrong and where.
fn explain(fault: &Error) -> String {
    if fault.kind() == ErrorKind::OutOfFuel {
        return "took too many steps and was stopped: the template is wrong, or the conversation far too long".into();
    }
    match (fault.kind(), fault.detail()) {
        (ErrorKind::InvalidOperation, Some(detail)) => detail.to_owned(),
        _ => fault.to_string(),
    }
}
