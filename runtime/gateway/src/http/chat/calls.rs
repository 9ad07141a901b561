//! Calls as a grammar: in the model's own form, with arguments that keep to the tools' schemas.

use lime_grammar::{Form, Part};
use lime_text::CallMarks;
use serde_json::{Value, json};

use super::tools::{Choice, Tools};
use crate::{
    http::{
        error::ApiError,
        form::{AnswerGrammar, AskedForm},
    },
    text::TextModel,
};

/// The grammar of an answer to a request that offers `tools`: of its calls where one must come (`begun`: the prompt has its beginning) or
/// where arguments are to keep to their schemas, and of what else the answer may be.
pub(super) fn grammar(
    model: &TextModel,
    tools: &Tools,
    begun: bool,
    form: Option<AskedForm>,
) -> Result<Option<AnswerGrammar>, ApiError> {
    let strict = tools.strict.contains(&true);
    let must = tools.choice != Choice::Auto;
    if must && !begun || !must && !strict && form.is_none() {
        return form.map(|form| form.compiled(model)).transpose();
    }
    let promised = strict || form.is_some();
    let content = form.map(AskedForm::part).transpose()?;
    let mut calls = Calls { model, tools, loose: vec![false; tools.names.len()] };
    let compiled = |calls: &Calls<'_>| {
        let form = if must { calls.rest() } else { calls.free(content.clone()) };
        model.grammars()?.compile(&form)
    };
    if let Ok(grammar) = compiled(&calls) {
        return Ok(Some(AnswerGrammar::new(grammar)));
    }
    calls.loosen()?;
    match compiled(&calls) {
        Ok(grammar) => Ok(Some(AnswerGrammar::new(grammar))),
        // Who promised nothing has calls as the model writes them.
        Err(_) if !promised => Ok(None),
        Err(fault) => Err(ApiError::grammar("tools", &fault)),
    }
}

/// Calls of a request's tools, as its model writes them.
struct Calls<'a> {
    model: &'a TextModel,
    tools: &'a Tools,
    /// Tools whose schemas cannot be kept to: their arguments are an object.
    loose: Vec<bool>,
}

impl Calls<'_> {
    /// Of an answer that must call, whose prompt has the call's beginning already.
    fn rest(&self) -> Form {
        let marks = self.marks();
        let mut parts = vec![Part::Perhaps(text(" ").into())];
        match &self.tools.choice {
            Choice::Named(name) => {
                let named = (0..self.tools.names.len()).find(|place| self.tools.names[*place] == *name);
                parts.extend([self.arguments(named.unwrap_or_default()), text("}")]);
            }
            Choice::Any | Choice::Auto => {
                let rest = |place| Part::All(vec![text(&self.after_name(place)), self.arguments(place), text("}")]);
                parts.push(Part::Either((0..self.tools.names.len()).map(rest).collect()));
            }
        }
        let more = self.tools.parallel && !matches!(self.tools.choice, Choice::Named(_));
        let next = match (more, marks.each) {
            (false, _) => vec![close(marks)],
            (true, true) => {
                let call = vec![text(marks.between), self.mark(), open(marks), self.object(), close(marks)];
                vec![close(marks), perhaps_repeated(Part::All(call))]
            }
            (true, false) => {
                vec![perhaps_repeated(Part::All(vec![text(marks.between), self.object()])), close(marks)]
            }
        };
        parts.extend(next);
        Form::Parts(Part::All(parts.into_iter().filter(|part| *part != text("")).collect()))
    }

    /// Of an answer that may call, or be prose; or, with `content`, have that form.
    fn free(&self, content: Option<Part>) -> Form {
        let marks = self.marks();
        let calls = |first: Part| {
            let mut parts = vec![first, open(marks), self.object()];
            if self.tools.parallel && !marks.each {
                parts.push(perhaps_repeated(Part::All(vec![text(marks.between), self.object()])));
            }
            parts.push(close(marks));
            Part::All(parts.into_iter().filter(|part| *part != text("")).collect())
        };
        let (mark, between) = (self.mark(), text(marks.between));
        let several = |call: Part| if marks.each && self.tools.parallel { perhaps_repeated(call) } else { text("") };
        let part = match (content, marks.mark) {
            (Some(content), _) => {
                let next = several(calls(all(vec![between, mark.clone()])));
                Part::Either(vec![all(vec![calls(mark), next]), content])
            }
            // What begins as an object is one.
            (None, "") => {
                // One in a fence would be read as a call too.
                let prose = Part::Regex(r"[^\s{\[`](?s:.*)".into());
                let blank = Part::Perhaps(Part::Regex(r"\s{1,8}".into()).into());
                let called = Part::All(vec![Part::Perhaps(self.tag().into()), calls(text(""))]);
                Part::All(vec![blank, Part::Perhaps(Part::Either(vec![called, prose]).into())])
            }
            (None, _) => {
                let prose = || Part::Perhaps(Part::Without(vec![marks.mark.into()]).into());
                // A mark that is no text ends prose wherever it stands.
                let call = match &mark {
                    Part::Text(mark) => calls(Part::Until(mark.clone())),
                    _ => calls(Part::All(vec![prose(), mark.clone()])),
                };
                let once = if marks.each && self.tools.parallel { Part::Repeated(call.into()) } else { call };
                Part::All(vec![Part::Perhaps(once.into()), prose()])
            }
        };
        Form::Parts(part)
    }

    /// Lets the arguments of those tools be of any shape whose schemas cannot be kept to.
    ///
    /// # Errors
    /// Where one of them is strict.
    fn loosen(&mut self) -> Result<(), ApiError> {
        let Ok(grammars) = self.model.grammars() else { return Ok(()) };
        for place in 0..self.loose.len() {
            let Err(fault) = grammars.compile(&Form::JsonSchema(self.tools.schema(place))) else { continue };
            if self.tools.strict[place] {
                return Err(ApiError::grammar(&format!("tools[{place}].function.parameters"), &fault));
            }
            self.loose[place] = true;
        }
        Ok(())
    }

    fn marks(&self) -> CallMarks {
        self.model.answers.calls.marks()
    }

    /// The mark before calls: a token where it is one without text.
    fn mark(&self) -> Part {
        self.mark_of(self.marks().mark)
    }

    /// What Llama 3 may write before calls.
    fn tag(&self) -> Part {
        let tag = self.model.answers.marks(true).find(|mark| mark.starts_with("<|"));
        tag.map_or_else(|| text(" "), |tag| self.mark_of(tag))
    }

    fn mark_of(&self, mark: &str) -> Part {
        let token = self.model.tokenizer.token_id(mark).filter(|token| self.model.tokenizer.is_special(*token));
        token.map_or_else(|| text(mark), Part::Mark)
    }

    /// One call.
    fn object(&self) -> Part {
        let call = |place| {
            let named = format!("{{\"name\": {}", self.after_name(place));
            Part::All(vec![text(&named), self.arguments(place), text("}")])
        };
        Part::Either((0..self.tools.names.len()).map(call).collect())
    }

    /// From a tool's name to its arguments.
    fn after_name(&self, place: usize) -> String {
        format!("{}, \"{}\": ", Value::from(self.tools.names[place].as_str()), self.marks().arguments)
    }

    fn arguments(&self, place: usize) -> Part {
        if self.loose[place] { Part::Json(json!({"type": "object"})) } else { Part::Json(self.tools.schema(place)) }
    }
}

fn text(text: &str) -> Part {
    Part::Text(text.to_owned())
}

/// Models leave out the line's end before and after an object as often as not.
fn open(marks: CallMarks) -> Part {
    lenient(marks.open)
}

fn close(marks: CallMarks) -> Part {
    lenient(marks.close)
}

fn lenient(written: &str) -> Part {
    let rest = written.trim_start();
    if rest.len() == written.len() {
        return text(written);
    }
    let space = Part::Perhaps(text(&written[..written.len() - rest.len()]).into());
    if rest.is_empty() { space } else { Part::All(vec![space, text(rest)]) }
}

fn perhaps_repeated(part: Part) -> Part {
    Part::Perhaps(Part::Repeated(part.into()).into())
}

fn all(parts: Vec<Part>) -> Part {
    Part::All(parts.into_iter().filter(|part| *part != text("")).collect())
}
