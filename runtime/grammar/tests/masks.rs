//! What may come next: exactly what a form has a place for, whichever way one came there, and bounded work for whoever asks for it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::time::{Duration, Instant};

use common::{END, End, OTHER_END, THOUGHT, bytes, compiled, drawn, grammars, text};
use lime_grammar::{Form, GrammarError, Part};
use serde_json::{Value, json};

fn forms() -> Vec<Form> {
    let person = json!({
        "type": "object", "additionalProperties": false, "required": ["name", "tags"],
        "properties": {
            "name": {"type": "string", "maxLength": 6}, "age": {"type": "integer", "minimum": 0, "maximum": 130},
            "tags": {"type": "array", "maxItems": 3, "items": {"enum": ["yes", "no", "é日"]}},
        },
    });
    vec![
        Form::JsonObject,
        Form::JsonSchema(person),
        Form::Regex(r"[a-c]{2,4}(-\d+)?".into()),
        Form::Choice(vec!["yes".into(), "no".into(), "now".into()]),
        Form::Lark("start: sum\nsum: NUM (\"+\" NUM)*\nNUM: /[0-9]{1,3}/".into()),
        Form::Lark("start: text NUM\ntext[max_tokens=3]: /[a-c]*/\nNUM: /[0-9]{1,3}/".into()),
    ]
}

#[test]
fn what_may_come_is_the_same_whichever_way_one_came_there() {
    let (grammars, mut random) = (grammars(), fastrand::Rng::with_seed(7));
    for form in forms() {
        let grammar = compiled(&grammars, &form);
        for _ in 0..20 {
            let (tokens, _) = drawn(grammar.matcher(), &mut random, 60);
            let (mut straight, mut looking) = (grammar.matcher(), grammar.matcher());
            for (at, token) in tokens.iter().enumerate() {
                // Looking ahead, at what was drawn and at what was not, and at what is forced, changes nothing.
                let mut guesses = tokens[at..tokens.len().min(at + 5)].to_vec();
                if random.bool() {
                    let place = random.usize(..guesses.len());
                    guesses[place] = random.u32(..OTHER_END + 3);
                }
                let sets = looking.ahead(&guesses).unwrap();
                let forced = looking.forced();
                assert_eq!(straight.allowed(), looking.allowed(), "{form:?} after {:?}", text(&tokens[..at]));
                let mut stepped = straight.clone();
                for (guess, set) in guesses.iter().zip(&sets) {
                    stepped.advance(*guess).unwrap();
                    assert_eq!(stepped.allowed(), set, "{form:?} after {:?} and {guess}", text(&tokens[..at]));
                }
                let looks = !matches!(&form, Form::Lark(grammar) if grammar.contains("max_tokens"));
                if let Some(guess) =
                    guesses.get(sets.len()).filter(|_| looks).filter(|guess| stepped.allowed().contains(**guess))
                {
                    assert!(stepped.advance(*guess).is_ok() && stepped.is_over(), "it would have been the last");
                }
                let next = bytes(*token);
                assert!(forced.starts_with(&next) || next.starts_with(&forced), "{forced:?} was forced, {next:?} came");
                straight.advance(*token).unwrap();
                looking.advance(*token).unwrap();
            }
        }
    }
}

#[test]
fn answers_have_their_form() {
    let (grammars, mut random) = (grammars(), fastrand::Rng::with_seed(3));
    let is_form = |form: &Form, text: &str| match form {
        Form::JsonObject | Form::JsonSchema(_) => {
            serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object())
        }
        Form::Choice(choices) => choices.iter().any(|choice| choice == text),
        Form::Regex(_) => text.split('-').next().is_some_and(|head| (2..=4).contains(&head.len())),
        Form::Lark(grammar) if grammar.contains("max_tokens") => {
            text.trim_start_matches(['a', 'b', 'c']).parse::<u32>().is_ok()
        }
        Form::Parts(_) => false,
        Form::Lark(_) => text.split('+').all(|number| (1..=3).contains(&number.len()) && number.parse::<u32>().is_ok()),
    };
    for form in forms() {
        let grammar = compiled(&grammars, &form);
        let mut whole = 0;
        for _ in 0..50 {
            let (tokens, end) = drawn(grammar.matcher(), &mut random, 200);
            if end != End::Cut {
                whole += 1;
                assert!(is_form(&form, &text(&tokens)), "{form:?}: {:?}", text(&tokens));
            }
        }
        assert!(whole > 10, "{form:?}: {whole} came to an end");
    }
}

#[test]
fn marks_are_no_text_and_each_end_ends() {
    let grammars = grammars();
    let grammar = compiled(&grammars, &Form::Regex("(?s).*".into()));
    let allowed = grammar.matcher().allowed().clone();
    assert!(allowed.contains(u32::from(b'a')) && allowed.contains(END) && allowed.contains(OTHER_END));
    assert!(!allowed.contains(END + 2) && !allowed.contains(END + 3), "a mark without text, and no token");
    let mut matcher = compiled(&grammars, &Form::Choice(vec!["no".into(), "now".into()])).matcher();
    "no".bytes().for_each(|byte| matcher.advance(byte.into()).unwrap());
    assert_eq!(matcher.allowed().iter().collect::<Vec<_>>(), [u32::from(b'w'), END, OTHER_END]);
    assert!(!matcher.is_over());
    matcher.advance(u32::from(b'w')).unwrap();
    assert!(matcher.is_over());
    assert!(matches!(matcher.advance(u32::from(b'w')), Err(GrammarError::Misplaced { token: 119, .. })));
}

#[test]
fn thoughts_come_before_what_has_a_form() {
    let grammars = grammars();
    let grammar = compiled(&grammars, &Form::Choice(vec!["yes".into()]));
    let mut matcher = grammar.matcher_after(THOUGHT);
    let say = |matcher: &mut lime_grammar::Matcher, text: &str| {
        text.bytes().for_each(|byte| matcher.advance(byte.into()).unwrap());
    };
    assert!(
        matcher.allowed().contains(7) && !matcher.allowed().contains(END),
        "an answer does not end before its text"
    );
    say(&mut matcher, "hm</thin");
    let guesses: Vec<u32> = "k>yes".bytes().map(u32::from).collect();
    assert_eq!(matcher.ahead(&guesses).unwrap().len(), 1, "what may come after the mark is not guessed ahead of it");
    say(&mut matcher, "k>\n\n");
    assert!(matcher.allowed().contains(u32::from(b'\n')) && !matcher.allowed().contains(u32::from(b'n')));
    say(&mut matcher, "yes");
    assert!(matcher.is_over());
}

/// Prose, and calls between marks whose arguments keep to a schema: as a family of models writes them.
#[test]
fn parts_stand_where_they_may() {
    let grammars = grammars();
    let call = Part::All(vec![
        Part::Until("<call>".into()),
        Part::Json(
            json!({"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"], "additionalProperties": false}),
        ),
        Part::Text("</call>".into()),
    ]);
    let calls = Part::Perhaps(Part::Repeated(call.into()).into());
    let free = Form::Parts(Part::All(vec![calls, Part::Perhaps(Part::Without(vec!["<call>".into()]).into())]));
    let grammar = compiled(&grammars, &free);
    let takes = |text: &str| {
        let mut matcher = grammar.matcher();
        let fits =
            text.bytes().all(|byte| matcher.allowed().contains(byte.into()) && matcher.advance(byte.into()).is_ok());
        fits && (matcher.is_over() || matcher.allowed().contains(END))
    };
    for text in ["", "a < b, <call", "x <call>{\"x\": 1}</call>", "<call>{\"x\":1}</call> and <call>{\"x\":-2}</call>y"]
    {
        assert!(takes(text), "{text}");
    }
    for text in ["<call>", "<call>{\"y\": 1}</call>", "a <call>no</call>", "<call>{\"x\": 1}"] {
        assert!(!takes(text), "{text}");
    }
    let marked = Form::Parts(Part::All(vec![Part::Mark(END + 2), Part::Text("f".into())]));
    let mut matcher = compiled(&grammars, &marked).matcher();
    assert_eq!(matcher.allowed().iter().collect::<Vec<_>>(), [END + 2]);
    matcher.advance(END + 2).unwrap();
    matcher.advance(u32::from(b'f')).unwrap();
    assert!(matcher.is_over());
}

#[test]
fn what_is_no_form_says_what_is_wrong_with_it() {
    let grammars = grammars();
    let refused = |form: Form| match grammars.compile(&form) {
        Err(fault) => fault.to_string(),
        Ok(_) => panic!("{form:?} was taken"),
    };
    let mut deep = json!({"type": "string"});
    for _ in 0..70 {
        deep = json!({"type": "array", "items": deep});
    }
    for (form, expected) in [
        (Form::JsonSchema(json!({"type": "object", "minProperties": 3, "maxProperties": 1})), "nsatisfiable"),
        (Form::JsonSchema(json!({"not": {}})), "not"),
        (Form::JsonSchema(json!({"type": "array", "uniqueItems": true})), "uniqueItems"),
        (Form::JsonSchema(json!({"$ref": "https://example.org/schema"})), "$ref"),
        (Form::JsonSchema(json!(false)), "nothing keeps to"),
        (Form::JsonSchema(json!({"a": {"b": [{"c": "x".repeat(300_000)}]}})), "262144"),
        (Form::Regex("(".into()), "regex"),
        (Form::Regex("(".repeat(65)), "64"),
        (Form::Regex("a".repeat(20_000)), "16384"),
        (Form::Choice(vec![]), "nothing"),
        (Form::Lark("begin: \"a\"".into()), "start"),
        (Form::Lark(format!("start: {}\"a\"", "(".repeat(60_000))), "64"),
    ] {
        let fault = refused(form.clone());
        assert!(fault.contains(expected), "{expected}: {fault}");
        assert!(!fault.contains("backtrace"), "{fault}");
    }
    assert!(refused(Form::JsonSchema(deep)).contains("64"));
}

/// Whoever asks for much is refused, or served within bounds: no grammar holds up the answers of others.
#[test]
fn hostile_forms_cost_little() {
    let grammars = grammars();
    let any_of = |count: usize| -> Vec<Value> { (0..count).map(|n| json!({"const": n})).collect() };
    let all_of: Vec<Value> = (0..24).map(|n| json!({"anyOf": [{"minimum": n}, {"maximum": n}]})).collect();
    let pattern = json!({"type": "string", "pattern": "^(a|b|ab|ba)*(a|b){0,200}(c|d){0,300}$"});
    for form in [
        Form::Regex("(a{1,1000}){1,1000}".into()),
        Form::Regex("(.*a){50}".into()),
        Form::Regex("((a|b)*c(d|e)*){0,400}".into()),
        Form::JsonSchema(json!({"anyOf": any_of(5000)})),
        Form::JsonSchema(json!({"type": "number", "allOf": all_of})),
        Form::JsonSchema(pattern),
        Form::JsonSchema(json!({"type": "string", "minLength": 100_000_000})),
        Form::JsonSchema(json!({"type": "array", "minItems": 1_000_000_000, "items": {}})),
        Form::JsonSchema(json!({"$ref": "#"})),
        Form::JsonSchema(
            json!({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}),
        ),
        Form::Lark("start: start start | \"a\" | \"\"".into()),
        Form::Lark("start: a\na: a a a | b\nb: \"x\"? b? \"x\"?".into()),
        Form::Choice((0..8000).map(|n| n.to_string()).collect()),
    ] {
        let begun = Instant::now();
        if let Ok(grammar) = grammars.compile(&form) {
            let mut matcher = grammar.matcher();
            let mut random = fastrand::Rng::with_seed(1);
            for _ in 0..20 {
                let allowed: Vec<u32> = matcher.allowed().iter().collect();
                let Some(token) = allowed.get(random.usize(..allowed.len().max(1))) else { break };
                if *token == END || matcher.advance(*token).is_err() || matcher.is_over() {
                    break;
                }
            }
        }
        let took = begun.elapsed();
        println!("{took:?} {:.80}", format!("{form:?}"));
        assert!(took < Duration::from_secs(5), "{took:?}: {:.200}", format!("{form:?}"));
    }
}
