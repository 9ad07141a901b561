//! Forms made of parts, as a program writes them: the calls of a family of models, with the schemas of the tools.

use serde_json::Value;

use crate::{error::GrammarError, schema};

/// Bytes of the schemas of all parts, as text.
const MOST: usize = 1 << 20;

/// A part of a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// These characters.
    Text(String),
    /// A token by its number: one that is a mark and has no text.
    Mark(u32),
    /// JSON that a schema describes.
    Json(Value),
    /// What an expression matches.
    Regex(String),
    /// One or more characters among which none of these stands.
    Without(Vec<String>),
    /// Any characters up to these, and these.
    Until(String),
    /// One after the other.
    All(Vec<Part>),
    /// One of them.
    Either(Vec<Part>),
    /// It, or nothing.
    Perhaps(Box<Part>),
    /// Once or more.
    Repeated(Box<Part>),
}

/// The parts in Lark's notation.
pub(crate) fn lark(part: &Part) -> Result<String, GrammarError> {
    let mut written = Written::default();
    let start = written.part(part)?;
    Ok(format!("start: {start}\n{}", written.rules))
}

#[derive(Default)]
struct Written {
    rules: String,
    count: usize,
    bytes: usize,
}

impl Written {
    /// A rule or a terminal of its own; gives its name.
    fn named(&mut self, kind: &str, body: &str) -> String {
        self.count += 1;
        let name = format!("{kind}{}", self.count);
        self.rules.push_str(&format!("{name}: {body}\n"));
        name
    }

    fn part(&mut self, part: &Part) -> Result<String, GrammarError> {
        Ok(match part {
            Part::Text(text) => quoted(text),
            Part::Mark(token) => format!("<[{token}]>"),
            Part::Json(schema) => {
                self.bytes += schema.to_string().len();
                if self.bytes > MOST {
                    return Err(GrammarError::Large { what: "schemas", found: self.bytes, most: MOST });
                }
                let schema = schema::checked(schema)?;
                self.named("json", &format!("%json {schema}"))
            }
            Part::Regex(expression) => self.named("REGEX", &format!("/{}/", expression.replace('/', "\\/"))),
            Part::Without(texts) => {
                let none = texts.iter().map(|text| format!(" & ~/(?s:.*){}(?s:.*)/", escaped(text)));
                let body = format!("/(?s:.+)/{}", none.collect::<String>());
                self.named("PROSE", &body)
            }
            // What is read greedily would take the beginning of the mark with it, and not come to its end.
            Part::Until(mark) => {
                self.count += 1;
                let name = format!("until{}", self.count);
                self.rules.push_str(&format!("{name}[suffix={}]: /(?s:.*)/\n", quoted(mark)));
                name
            }
            Part::All(parts) => {
                let body = self.each(parts)?.join(" ");
                self.named("all", &body)
            }
            Part::Either(parts) => {
                let body = self.each(parts)?.join(" | ");
                self.named("either", &body)
            }
            Part::Perhaps(part) => format!("({})?", self.part(part)?),
            Part::Repeated(part) => format!("({})+", self.part(part)?),
        })
    }

    fn each(&mut self, parts: &[Part]) -> Result<Vec<String>, GrammarError> {
        parts.iter().map(|part| self.part(part)).collect()
    }
}

pub(crate) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// The text as an expression for itself.
fn escaped(text: &str) -> String {
    let plain = |character: char| character.is_alphanumeric() || !character.is_ascii();
    let one =
        |character| if plain(character) { character.to_string() } else { format!("\\x{{{:x}}}", u32::from(character)) };
    text.chars().map(one).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parts_are_written_as_rules() {
        let call = Part::All(vec![Part::Text("<call>\"\n".into()), Part::Json(json!({"type": "null"})), Part::Mark(7)]);
        let either = Part::Either(vec![Part::Repeated(call.into()), Part::Without(vec!["</a>".into()])]);
        let part = Part::All(vec![either, Part::Until("<call>".into())]);
        let written = lark(&part).unwrap();
        for line in [
            "start: all6",
            "all2: \"<call>\\\"\\n\" json1 <[7]>",
            r"PROSE3: /(?s:.+)/ & ~/(?s:.*)\x{3c}\x{2f}a\x{3e}(?s:.*)/",
            "either4: (all2)+ | PROSE3",
            "until5[suffix=\"<call>\"]: /(?s:.*)/",
        ] {
            assert!(written.contains(line), "{line} in {written}");
        }
    }
}
