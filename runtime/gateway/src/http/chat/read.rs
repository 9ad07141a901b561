//! Reading a request for a chat completion.

use std::sync::Arc;

use lime_text::{AnswerReading, TextError};
use serde_json::{Map, Value};

use super::{
    calls,
    logprobs::logprobs,
    messages::{messages, text_bytes},
    tools::{self, Choice, Tools},
};
use crate::{
    answer::AnswerForm,
    http::{
        encoder::Encoder,
        error::ApiError,
        fields::{Fields, wrong_value},
        form::{self, AnswerGrammar, FORMS},
        job::{Job, check_choices, room},
        params::{COMMON, Common, PROMISES, max_tokens},
        prediction,
    },
    text::{Opening, Rendering, TextModel},
};

/// Every name that is known here.
pub(in crate::http) const KNOWN: [&[&str]; 5] = [&COMMON, &FORMS, &OWN, &IGNORED, &PROMISES];
/// Names that only a chat completion knows.
const OWN: [&str; 14] = [
    "messages",
    "max_completion_tokens",
    "top_logprobs",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "functions",
    "modalities",
    "audio",
    "prediction",
    "chat_template_kwargs",
    "reasoning_effort",
    "add_generation_prompt",
    "continue_final_message",
];
/// Names that change nothing here.
const IGNORED: [&str; 8] = [
    "function_call",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_retention",
    "verbosity",
    "web_search_options",
];
/// What `chat_template_kwargs` may not say: what the conversation and the way of rendering it are.
const NOT_VARIABLES: [&str; 8] = [
    "messages",
    "conversation",
    "tools",
    "documents",
    "add_generation_prompt",
    "continue_final_message",
    "chat_template",
    "tokenize",
];
/// Where a prompt that ends so leaves its model thinking.
const THINKING: &str = "<think>";
/// Where its thoughts end.
const THOUGHT: &str = "</think>";

/// Reads and tokenizes.
pub(in crate::http) fn read(fields: Fields<'_>, encoder: &Encoder<'_>) -> Result<Job, ApiError> {
    let extent = encoder.extent;
    refuse_unsupported(fields)?;
    let common = Common::read(fields, encoder.text)?;
    check_choices(1, common.drawn, extent.sequences)?;
    let logprobs = logprobs(fields)?;
    let asked = match fields.get("max_completion_tokens") {
        Some(_) => max_tokens(fields, "max_completion_tokens", 1)?,
        None => max_tokens(fields, "max_tokens", 1)?,
    };
    let (text, special, answer) = render(fields, encoder)?;
    let special = fields.flag("add_special_tokens")?.unwrap_or(special);
    let prompt = encoder.prompt("messages", &text, special, String::new())?;
    let room = room(extent.context, prompt.tokens.len(), asked, "messages")?;
    // The model's own bound is for requests that name none.
    let own_bound = encoder.text.generation.max_new_tokens.unwrap_or(u32::MAX);
    let max_tokens = if asked.is_some() { room } else { room.min(own_bound) };
    let prediction = prediction::read(fields, encoder)?;
    let grammar = grammar(fields, encoder.text, !answer.reading.begun.is_empty())?;
    let thinks = answer.reading.thinking && answer.reading.begun.is_empty();
    let grammar = grammar.map(|grammar| if thinks { grammar.after(THOUGHT) } else { grammar });
    let (prompts, max_tokens) = (vec![prompt], vec![max_tokens]);
    let answer = Arc::new(answer);
    Ok(Job { prompts, common, max_tokens, logprobs, prediction, answer, grammar, scoring: None })
}

/// The conversation as the text that the model goes on from, whether the tokenizer has to add what a text begins with, and how the
/// answer is to be read.
pub(in crate::http) fn render(
    fields: Fields<'_>,
    encoder: &Encoder<'_>,
) -> Result<(String, bool, AnswerForm), ApiError> {
    let tools = tools::read(fields)?;
    let messages = messages(fields)?;
    encoder.extent.check_messages("messages", text_bytes(&messages))?;
    let rendering = Rendering {
        messages,
        tools: tools.as_ref().map(|tools| tools.list.clone()),
        variables: variables(fields)?,
        opening: opening(fields)?,
    };
    let chat = encoder.text.chat_text(&rendering).map_err(|fault| match fault {
        // Templates refuse conversations in their own words: the client's to mend.
        TextError::Template { .. } => ApiError::template(&fault),
        other => wrong_value("messages", other),
    })?;
    let answer = answer_form(encoder.text, &chat.text, rendering.opening, tools);
    Ok((chat.text + &answer.reading.begun, chat.special, answer))
}

/// The grammar of the answer, if it has one.
fn grammar(fields: Fields<'_>, text: &TextModel, begun: bool) -> Result<Option<AnswerGrammar>, ApiError> {
    let form = form::read(fields)?;
    match tools::read(fields)? {
        Some(tools) => calls::grammar(text, &tools, begun, form),
        None => form.map(|form| form.compiled(text)).transpose(),
    }
}

/// How the answer to `prompt` is to be read, and what of it the prompt is to have already.
fn answer_form(model: &TextModel, prompt: &str, opening: Opening, tools: Option<Tools>) -> AnswerForm {
    let thoughts = model.answers.thoughts;
    let thinking = thoughts && opening == Opening::Answer && prompt.trim_end().ends_with(THINKING);
    let mut reading = AnswerReading { thoughts, thinking, ..AnswerReading::default() };
    let Some(tools) = tools else { return AnswerForm::new(model, reading, false) };
    let call = match &tools.choice {
        Choice::Auto => None,
        Choice::Any => Some(model.answers.calls.beginning(None)),
        Choice::Named(name) => Some(model.answers.calls.beginning(Some(name))),
    };
    if let Some(call) = call.filter(|_| opening == Opening::Answer) {
        // Who must call has thought enough.
        reading.begun = if thinking { format!("\n{THOUGHT}\n\n{call}") } else { call };
    }
    let single = !tools.parallel || matches!(tools.choice, Choice::Named(_));
    reading.calls = Some(model.answers.calls);
    reading.tools = tools.names;
    AnswerForm::new(model, reading, single)
}

/// Where the prompt ends.
fn opening(fields: Fields<'_>) -> Result<Opening, ApiError> {
    let prompt = fields.flag("add_generation_prompt")?;
    match (fields.flag("continue_final_message")?.unwrap_or(false), prompt) {
        (true, Some(true)) => Err(wrong_value(
            "continue_final_message",
            "it goes on with the last message, 'add_generation_prompt' with another",
        )),
        (true, _) => Ok(Opening::LastMessage),
        (false, Some(false)) => Ok(Opening::Nothing),
        (false, _) => Ok(Opening::Answer),
    }
}

/// The template's own variables.
fn variables(fields: Fields<'_>) -> Result<Map<String, Value>, ApiError> {
    let mut variables = fields.object("chat_template_kwargs")?.cloned().unwrap_or_default();
    if let Some(name) = NOT_VARIABLES.into_iter().find(|name| variables.contains_key(*name)) {
        let path = format!("chat_template_kwargs.{name}");
        let what = "it is no variable of a template: the request's own fields say it, or this server does";
        return Err(ApiError::unsupported(&path, what));
    }
    // A template that knows no such variable does not look at it.
    if let Some(effort) = fields.text("reasoning_effort")? {
        variables.entry("reasoning_effort").or_insert_with(|| effort.into());
    }
    Ok(variables)
}

fn refuse_unsupported(fields: Fields<'_>) -> Result<(), ApiError> {
    if fields.get("functions").is_some_and(|functions| functions.as_array().is_none_or(|list| !list.is_empty())) {
        return Err(ApiError::unsupported("functions", "write them as 'tools'"));
    }
    if fields.get("audio").is_some() {
        return Err(ApiError::unsupported("audio", "this server answers with text, drawn token by token"));
    }
    if fields.get("modalities").is_some_and(|modalities| *modalities != serde_json::json!(["text"])) {
        return Err(ApiError::unsupported("modalities", "this server answers with text alone"));
    }
    Ok(())
}
