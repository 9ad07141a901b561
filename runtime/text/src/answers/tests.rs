use proptest::prelude::*;

use super::*;

fn reading(calls: CallStyle, thoughts: bool) -> AnswerReading {
    AnswerReading { calls: Some(calls), tools: vec!["f".into(), "g".into()], thoughts, ..AnswerReading::default() }
}

fn parts(reading: &AnswerReading, pieces: &[&str]) -> Vec<AnswerPart> {
    let mut parser = AnswerParser::new(reading);
    let mut parts: Vec<AnswerPart> = pieces.iter().flat_map(|piece| parser.push(piece)).collect();
    parts.extend(parser.finish());
    joined(parts)
}

fn content(text: &str) -> AnswerPart {
    AnswerPart::Content(text.into())
}

fn reasoning(text: &str) -> AnswerPart {
    AnswerPart::Reasoning(text.into())
}

fn called(name: &str, arguments: &str) -> AnswerPart {
    AnswerPart::Call(ToolCall { name: name.into(), arguments: arguments.into() })
}

#[test]
fn each_family_is_read_in_its_own_form() {
    use CallStyle::{Hermes, Json, Llama3, Mistral};
    let table: Vec<(CallStyle, &str, Vec<AnswerPart>)> = vec![
        (Hermes, "Hello.\n", vec![content("Hello.\n")]),
        (
            Hermes,
            "Let me see.\n\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": \"a\"}}\n</tool_call>\n<tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>\n",
            vec![content("Let me see."), called("f", r#"{"x": "a"}"#), called("g", "{}")],
        ),
        (Hermes, "<tool_call>{\"name\": \"f\"}", vec![called("f", "{}")]),
        (
            Hermes,
            "<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": \"</tool_call>\"}}</tool_call>",
            vec![called("f", r#"{"x": "</tool_call>"}"#)],
        ),
        (
            Hermes,
            "<tool_call>\n<function=f>\n<parameter=x>\na\nb\n</parameter>\n<parameter=n>3</parameter>\n</function>\n</tool_call>",
            vec![called("f", r#"{"x":"a\nb","n":3}"#)],
        ),
        (Hermes, "<tool_call>f(x)</tool_call> so", vec![content("<tool_call>f(x)</tool_call> so")]),
        (Hermes, "a <tool_call>{\"name\": ", vec![content("a <tool_call>{\"name\": ")]),
        (Hermes, "a < b <tool", vec![content("a < b <tool")]),
        (
            Mistral,
            "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"x\": 1}}, {\"name\": \"g\", \"arguments\": {}}]",
            vec![called("f", r#"{"x": 1}"#), called("g", "{}")],
        ),
        (
            Mistral,
            "Well. [TOOL_CALLS]f{\"x\": 1}[TOOL_CALLS]g[CALL_ID]abcdefghi[ARGS]{}",
            vec![content("Well."), called("f", r#"{"x": 1}"#), called("g", "{}")],
        ),
        (Mistral, "[TOOL_CALLS] what now", vec![content("[TOOL_CALLS] what now")]),
        (Mistral, "[TOOL_CALLS] [1]", vec![content("[TOOL_CALLS] [1]")]),
        (Llama3, "{\"name\": \"f\", \"parameters\": {\"x\": 1}}", vec![called("f", r#"{"x": 1}"#)]),
        (
            Llama3,
            "<|python_tag|>{\"name\": \"f\", \"parameters\": {}}; {\"name\": \"g\", \"parameters\": {}}\n",
            vec![called("f", "{}"), called("g", "{}")],
        ),
        (Llama3, "<|python_tag|>print(1)", vec![content("<|python_tag|>print(1)")]),
        (Llama3, "Here: <|python_tag|>{\"name\": \"f\"}", vec![content("Here:"), called("f", "{}")]),
        (Llama3, "{\"name\": \"Bob\", \"parameters\": {}}", vec![content("{\"name\": \"Bob\", \"parameters\": {}}")]),
        (Llama3, " {\"a\": 1} and", vec![content(" {\"a\": 1} and")]),
        (Llama3, "{\"name\": \"f\", ", vec![content("{\"name\": \"f\", ")]),
        (Json, "{\"name\": \"f\", \"arguments\": {}}\n{\"name\": \"g\"}", vec![called("f", "{}"), called("g", "{}")]),
        (
            Json,
            "```json\n{\"name\": \"f\", \"arguments\": {}}\n```\nDone.",
            vec![called("f", "{}"), content("\nDone.")],
        ),
        (Json, "```json\n{\"a\": 1}\n```", vec![content("```json\n{\"a\": 1}\n```")]),
        (Json, "{\"name\": \"f\"} then prose", vec![called("f", "{}"), content(" then prose")]),
        (Json, "", vec![]),
        (Json, "  \n", vec![content("  \n")]),
    ];
    for (style, text, expected) in table {
        assert_eq!(parts(&reading(style, false), &[text]), expected, "{style:?}: {text}");
    }
}

#[test]
fn thoughts_are_told_apart() {
    let thinking = AnswerReading { thinking: true, ..reading(CallStyle::Hermes, true) };
    let plain = reading(CallStyle::Hermes, true);
    for (reading, text, expected) in [
        (&plain, "<think>\nHm.\n</think>\n\nYes.", vec![reasoning("Hm."), content("Yes.")]),
        (&thinking, "\nHm. \n</think>\n\nYes.", vec![reasoning("Hm."), content("Yes.")]),
        (&plain, "<think>\n\n</think>\n\nYes.", vec![content("Yes.")]),
        (&plain, "Yes <think> no", vec![content("Yes <think> no")]),
        (&plain, " <thin", vec![content(" <thin")]),
        (&thinking, "Hm </thin", vec![reasoning("Hm </thin")]),
        (
            &plain,
            "<think>use <tool_call></think><tool_call>{\"name\": \"f\"}</tool_call>",
            vec![reasoning("use <tool_call>"), called("f", "{}")],
        ),
    ] {
        assert_eq!(parts(reading, &[text]), expected, "{text}");
    }
}

#[test]
fn a_call_that_the_prompt_begins_is_read_whole() {
    for style in [CallStyle::Hermes, CallStyle::Mistral, CallStyle::Llama3, CallStyle::Json] {
        let close = match style {
            CallStyle::Hermes => "}\n</tool_call>",
            CallStyle::Mistral => "}]",
            CallStyle::Llama3 | CallStyle::Json => "}",
        };
        for (tool, rest) in [(Some("f"), ""), (None, " \"f\", \"arguments\":")] {
            let reading = AnswerReading { begun: style.beginning(tool), ..reading(style, false) };
            assert_eq!(
                parts(&reading, &[&format!("{rest} {{\"x\": 1}}{close}")]),
                [called("f", r#"{"x": 1}"#)],
                "{style:?}"
            );
        }
        let begun = style.beginning(Some("f"));
        let reading = AnswerReading { begun: begun.clone(), ..reading(style, false) };
        assert_eq!(parts(&reading, &[" no"]), [content(&format!("{begun} no"))], "nothing is lost");
    }
    let begun = format!("\n</think>\n\n{}", CallStyle::Hermes.beginning(Some("f")));
    let reading = AnswerReading { begun, thinking: true, ..reading(CallStyle::Hermes, true) };
    assert_eq!(parts(&reading, &[" {}}</tool_call>"]), [called("f", "{}")]);
}

/// Texts of marks, parts of marks, JSON and anything else.
fn texts() -> impl Strategy<Value = String> {
    let bits = prop::sample::select(vec![
        "<tool_call>",
        "</tool_call>",
        "<tool_",
        "call>",
        "[TOOL_CALLS]",
        "[TOOL",
        "[ARGS]",
        "<|python_tag|>",
        "<|python",
        "<think>",
        "</think>",
        "</thi",
        "{\"name\": \"f\", \"arguments\": {\"x\": 1}}",
        "{\"name\": \"g\", \"parameters\": {}}",
        "{\"name\": \"f\", \"arguments\": {\"x\": [-2.5e+3, true, null]}}",
        "-",
        "2.",
        "e",
        "[{\"name\": \"f\"}]",
        "{\"name\": ",
        "f{}",
        "f",
        "{",
        "}",
        "[",
        "]",
        "\"",
        "\\",
        "é",
        " ",
        "\n",
        ";",
        "```",
        "```json\n",
        "<function=f>",
        "<parameter=x>",
        "</parameter>",
        "</function>",
    ]);
    prop::collection::vec(bits, 0..14).prop_map(|bits| bits.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn pieces_do_not_matter_and_nothing_is_lost(
        text in texts(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        style in prop::sample::select(vec![CallStyle::Hermes, CallStyle::Mistral, CallStyle::Llama3, CallStyle::Json]),
        thoughts in any::<bool>(),
    ) {
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).filter(|place| text.is_char_boundary(*place)).collect();
        places.extend([0, text.len()]);
        places.sort_unstable();
        let pieces: Vec<&str> = places.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
        let reading = reading(style, thoughts);
        let whole = parts(&reading, &[&text]);
        prop_assert_eq!(&parts(&reading, &pieces), &whole, "{:?}", pieces);
        let characters: Vec<String> = text.chars().map(String::from).collect();
        let characters: Vec<&str> = characters.iter().map(String::as_str).collect();
        prop_assert_eq!(&parts(&reading, &characters), &whole);
        if !thoughts && whole.iter().all(|part| matches!(part, AnswerPart::Content(_))) {
            prop_assert_eq!(whole.into_iter().map(|part| match part { AnswerPart::Content(text) => text, _ => String::new() }).collect::<String>(), text);
        }
    }
}
