//! Calls of tools as real models' own templates write them, read back from their own tokens.

use lime_text::{AnswerParser, AnswerPart, AnswerReading, CallStyle, ChatTemplate, Tokenizer};
use serde_json::{Map, Value, json};

use crate::places::shared;

const ARGUMENTS: &str = r#"{"city": "Zürich", "days": 2, "deep": {"a": [1, 2.5, null], "b": "<x> \" ] }"}}"#;

/// What the model of `name` is shown as its own answer, in its tokens, and read as answers are.
fn read_back(name: &str, style: CallStyle, calls: usize) {
    let Some(folder) = shared(&format!("tokenizers/{name}")) else { return };
    let template = ChatTemplate::open(&folder).unwrap().unwrap();
    let tokenizer = Tokenizer::open(&folder).unwrap();
    let form = template.answers();
    assert_eq!((form.calls, form.told), (style, true), "{name}");
    let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    let function = json!({"name": "get_weather", "description": "the weather", "parameters": parameters});
    let tools = json!([{"type": "function", "function": function}]);
    let arguments: Value = serde_json::from_str(ARGUMENTS).unwrap();
    let call = |number: usize| json!({"id": format!("call0000{number}"), "type": "function", "function": {"name": "get_weather", "arguments": arguments}});
    let calls: Vec<Value> = (0..calls).map(call).collect();
    let user = json!({"role": "user", "content": "Weather?"});
    let render = |messages: Value, prompt| template.render(&messages, prompt, Some(&tools), &Map::new()).unwrap();
    let prompt = render(json!([user]), true);
    let whole = render(json!([user, {"role": "assistant", "content": "", "tool_calls": calls}]), false);
    let answer = whole.strip_prefix(&prompt).unwrap();

    let marks = form.marks(true).filter_map(|mark| tokenizer.token_id(mark));
    let marks = marks.filter(|mark| tokenizer.is_special(*mark)).collect();
    let mut decoding = tokenizer.decode_stream(true).showing(marks);
    let reading = AnswerReading {
        calls: Some(form.calls),
        tools: vec!["get_weather".into()],
        thoughts: form.thoughts,
        ..AnswerReading::default()
    };
    let mut parser = AnswerParser::new(&reading);
    let mut parts = Vec::new();
    for token in tokenizer.encode(answer, false).unwrap() {
        parts.extend(parser.push(&decoding.push(token)));
    }
    parts.extend(parser.push(&decoding.finish()));
    parts.extend(parser.finish());
    assert_eq!(parts.len(), calls.len(), "{name}: {answer:?}: {parts:?}");
    for part in parts {
        let AnswerPart::Call(call) = part else { panic!("{name}: {answer:?}: {part:?}") };
        assert_eq!(
            (call.name.as_str(), serde_json::from_str::<Value>(&call.arguments).unwrap()),
            ("get_weather", arguments.clone())
        );
    }
}

#[test]
fn llama_calls_as_its_template_writes() {
    read_back("llama-3", CallStyle::Llama3, 1);
}

#[test]
fn qwen_calls_as_its_template_writes() {
    read_back("qwen3", CallStyle::Hermes, 2);
}

#[test]
fn mistral_calls_as_its_template_writes() {
    read_back("mistral-v0.3", CallStyle::Mistral, 2);
}
