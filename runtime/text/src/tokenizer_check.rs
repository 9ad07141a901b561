//! What a foreign tokenizer may make of a text, looked at before it is loaded.
//!
//! Tokenizers run in the process that serves everybody, so none may make much of little: replacements that double a text
//! again and again, special tokens around a text by the million. Both can be read off the file. (Templates are programs,
//! of which nothing can be read off; they run in a process of their own.)

use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

/// Times that all steps of a kind together may lengthen a text. Honest ones replace a space by three bytes.
const MOST_GROWTH: f64 = 256.0;
/// Steps of a kind, each of which looks at the whole text.
const MOST_STEPS: usize = 64;
/// Steps within steps.
const DEEPEST: usize = 8;
/// Special tokens around a text, and texts within it.
const MOST_AROUND: usize = 4096;
const MOST_TEXTS: usize = 4;

#[derive(Deserialize)]
struct File {
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    post_processor: Option<Value>,
    decoder: Option<Value>,
    #[serde(rename = "model")]
    _model: Option<IgnoredAny>,
}

/// Refuses a `tokenizer.json` whose rules could take memory or time without bounds.
pub(crate) fn check(bytes: &[u8]) -> Result<(), String> {
    let file: File = serde_json::from_slice(bytes).map_err(|fault| format!("not a tokenizer: {fault}"))?;
    let lists = ["normalizers", "pretokenizers", "processors", "decoders"];
    let kinds = [file.normalizer, file.pre_tokenizer, file.post_processor, file.decoder];
    for (kind, list) in kinds.iter().zip(lists) {
        let name = &list[..list.len() - 1];
        let Some(first) = kind else { continue };
        let (mut growth, mut steps, mut around, mut texts) = (1.0, 0, 0, 1);
        let mut left = vec![(first, 0)];
        while let Some((step, depth)) = left.pop() {
            steps += 1;
            if steps > MOST_STEPS || depth > DEEPEST {
                return Err(format!(
                    "its {name} has more than {MOST_STEPS} steps, or more than {DEEPEST} within each other"
                ));
            }
            left.extend(step.get(list).and_then(Value::as_array).into_iter().flatten().map(|step| (step, depth + 1)));
            growth *= growth_of(step);
            let template = template_size(step);
            around += template.0;
            texts *= template.1.max(1);
        }
        if growth > MOST_GROWTH {
            return Err(format!("its {name} can make a text {growth} times as long; {MOST_GROWTH} times is allowed"));
        }
        if around > MOST_AROUND || texts > MOST_TEXTS {
            return Err(format!(
                "its {name} puts {around} special tokens around a text and repeats it {texts} times; {MOST_AROUND} and \
                 {MOST_TEXTS} are allowed"
            ));
        }
    }
    Ok(())
}

/// How many times as long a step can make a text. By its fields: older files have steps without a type.
fn growth_of(step: &Value) -> f64 {
    let length = |value: &Value| value.as_str().map_or(0, str::len) as f64;
    if let Some(content) = step.get("content").filter(|_| step.get("pattern").is_some()) {
        let pattern = step.pointer("/pattern/String").map_or(0.0, length);
        // An expression may match between any two characters.
        return if pattern > 0.0 { (length(content) / pattern).max(1.0) } else { length(content) + 1.0 };
    }
    // Added once, but a text may be one character.
    step.get("prepend").map_or(1.0, |prepend| length(prepend).max(1.0))
}

/// The special tokens that a template adds to a single text, and how often it has the text itself.
fn template_size(step: &Value) -> (usize, usize) {
    let Some(pieces) = step.get("single").and_then(Value::as_array) else { return (0, 0) };
    let (mut tokens, mut texts) = (0usize, 0);
    for piece in pieces {
        match piece.pointer("/SpecialToken/id").and_then(Value::as_str) {
            None => texts += 1,
            Some(id) => {
                let token = step.get("special_tokens").and_then(|all| all.get(id));
                let ids = token.and_then(|token| token.get("ids")?.as_array()).map_or(1, Vec::len);
                tokens = tokens.saturating_add(ids);
            }
        }
    }
    (tokens, texts)
}
