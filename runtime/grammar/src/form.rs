//! What a request asks of its answer's text.

use llguidance::api::TopLevelGrammar;
use serde_json::Value;

use crate::{
    error::GrammarError,
    part::{self, Part, quoted},
    schema,
};

/// Bytes of a JSON schema, as text.
const MOST_SCHEMA: usize = 256 << 10;
const MOST_EXPRESSION: usize = 16 << 10;
const MOST_CHOICES: usize = 64 << 10;
const MOST_GRAMMAR: usize = 64 << 10;
/// Brackets within brackets of an expression or a grammar: they are read by functions that call themselves.
const DEEPEST_BRACKETS: usize = 64;

/// The form of a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// Any JSON object.
    JsonObject,
    /// JSON that a schema describes.
    JsonSchema(Value),
    /// What an expression matches, from its first byte to its last.
    Regex(String),
    /// One of these.
    Choice(Vec<String>),
    /// A grammar in Lark's notation, as llguidance reads it.
    Lark(String),
    /// What a program puts together.
    Parts(Part),
}

impl Form {
    /// The library's own form of it, within bounds.
    pub(crate) fn written(&self) -> Result<TopLevelGrammar, GrammarError> {
        match self {
            Self::JsonObject => of_schema(&serde_json::json!({"type": "object"})),
            Self::JsonSchema(schema) => of_schema(schema),
            Self::Regex(expression) => {
                bounded("an expression", expression.len(), MOST_EXPRESSION)?;
                shallow("an expression", expression)?;
                Ok(TopLevelGrammar::from_regex(expression))
            }
            Self::Choice(choices) => {
                let bytes = choices.iter().map(|choice| choice.len() + 1).sum();
                bounded("a choice", bytes, MOST_CHOICES)?;
                if choices.is_empty() {
                    return Err(GrammarError::Form("a choice of nothing".into()));
                }
                let quoted: Vec<String> = choices.iter().map(|choice| quoted(choice)).collect();
                Ok(TopLevelGrammar::from_lark(format!("start: {}", quoted.join(" | "))))
            }
            Self::Lark(grammar) => {
                bounded("a grammar", grammar.len(), MOST_GRAMMAR)?;
                shallow("a grammar", grammar)?;
                Ok(TopLevelGrammar::from_lark(grammar.clone()))
            }
            Self::Parts(part) => Ok(TopLevelGrammar::from_lark(part::lark(part)?)),
        }
    }
}

fn of_schema(schema: &Value) -> Result<TopLevelGrammar, GrammarError> {
    bounded("a schema", schema.to_string().len(), MOST_SCHEMA)?;
    Ok(TopLevelGrammar::from_json_schema(schema::checked(schema)?))
}

const fn bounded(what: &'static str, found: usize, most: usize) -> Result<(), GrammarError> {
    if found <= most { Ok(()) } else { Err(GrammarError::Large { what, found, most }) }
}

/// Counts brackets wherever they stand, in texts and classes too: who needs so many of those is refused as well.
fn shallow(what: &'static str, text: &str) -> Result<(), GrammarError> {
    let mut depth = 0usize;
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST_BRACKETS {
            return Err(GrammarError::Deep { what, most: DEEPEST_BRACKETS });
        }
    }
    Ok(())
}
