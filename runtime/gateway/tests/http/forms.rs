//! Answers that have a form: whatever the ring would draw, they keep to it, through guesses, mates and the ring's death.

use lime_gateway::{Options, Speculation};
use lime_text::Tokenizer;
use serde_json::{Value, json};

use crate::{
    CHAT, TEXT, babbling,
    client::{post, post_open},
    fake::{Setup, babble, bard},
    start, templated,
};

fn schema() -> Value {
    json!({
        "type": "object", "additionalProperties": false, "required": ["name", "tags"],
        "properties": {
            "name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "minimum": 0, "maximum": 130},
            "tags": {"type": "array", "maxItems": 2, "items": {"enum": ["thee", "thou"]}},
        },
    })
}

fn chat(more: Value) -> Value {
    let mut body = json!({
        "model": "bard", "messages": [{"role": "user", "content": "?"}], "max_tokens": 200, "temperature": 2, "seed": 1,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn content(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap_or_else(|| panic!("{answer}"))
}

#[tokio::test]
async fn json_keeps_to_its_schema() {
    let (_served, addr) = babbling().await;
    for seed in 0..10 {
        let format =
            json!({"type": "json_schema", "json_schema": {"name": "person", "strict": true, "schema": schema()}});
        let answer = post(addr, CHAT, &chat(json!({"response_format": format, "seed": seed}))).await.json();
        assert_eq!(answer["choices"][0]["finish_reason"], "stop", "{answer}");
        let value: Value = serde_json::from_str(content(&answer)).unwrap();
        assert!(value["name"].as_str().unwrap().chars().count() <= 8 && value["tags"].is_array(), "{value}");
        let drawn = answer["usage"]["completion_tokens"].as_u64().unwrap();
        assert!(drawn <= content(&answer).len() as u64, "the end of the text is the end: no token more");
    }
    let object =
        post(addr, CHAT, &chat(json!({"response_format": {"type": "json_object"}, "max_tokens": 40}))).await.json();
    assert!(content(&object).trim_start().starts_with('{'), "{object}");
}

#[tokio::test]
async fn every_face_has_its_way_of_asking() {
    let (_served, addr) = babbling().await;
    let text = |more: Value| {
        let mut body = json!({"model": "bard", "prompt": "x", "max_tokens": 60, "temperature": 1, "seed": 2});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let said = |answer: &Value| answer["choices"][0]["text"].as_str().unwrap().to_owned();
    let date = post(addr, TEXT, &text(json!({"guided_regex": "[0-9]{4}-[0-9]{2}"}))).await.json();
    assert_eq!(said(&date).len(), 7, "{date}");
    for name in ["guided_choice", "structured_outputs"] {
        let wish = if name == "guided_choice" { json!(["aye", "nay"]) } else { json!({"choice": ["aye", "nay"]}) };
        let choice = post(addr, TEXT, &text(json!({name: wish}))).await.json();
        assert!(["aye", "nay"].contains(&said(&choice).as_str()), "{choice}");
    }
    let sum = "start: NUM (\"+\" NUM)+\nNUM: /[0-9]{1,2}/";
    let sum = post(addr, TEXT, &text(json!({"guided_grammar": sum, "max_tokens": 20}))).await.json();
    assert!(said(&sum).chars().all(|character| character.is_ascii_digit() || character == '+'), "{sum}");
    let format = json!({"type": "json_schema", "name": "x", "strict": true, "schema": schema()});
    let response =
        json!({"model": "bard", "input": "?", "max_output_tokens": 200, "text": {"format": format}, "temperature": 2});
    let response = post(addr, "/v1/responses", &response).await.json();
    let value: Value = serde_json::from_str(response["output"][0]["content"][0]["text"].as_str().unwrap()).unwrap();
    assert!(value["tags"].is_array(), "{response}");
    let message = json!({
        "model": "bard", "messages": [{"role": "user", "content": "?"}], "max_tokens": 200, "temperature": 1,
        "output_config": {"format": {"type": "json_schema", "schema": schema()}},
    });
    let message = post(addr, "/v1/messages", &message).await.json();
    let value: Value = serde_json::from_str(message["content"][0]["text"].as_str().unwrap()).unwrap();
    assert!(value["tags"].is_array(), "{message}");
}

#[tokio::test]
async fn what_cannot_be_kept_to_is_refused_by_name() {
    let (_served, addr) = babbling().await;
    for (wish, param) in [
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"schema": {"not": {}}}}}),
            "response_format.json_schema.schema",
        ),
        (json!({"guided_regex": "("}), "guided_regex"),
        (json!({"guided_grammar": "root ::= \"a\""}), "guided_grammar"),
        (json!({"guided_choice": []}), "guided_choice"),
        (json!({"response_format": {"type": "xml"}}), "response_format"),
    ] {
        let refused = post(addr, CHAT, &chat(wish)).await;
        let error = refused.json()["error"].clone();
        assert_eq!((refused.status.as_u16(), &error["param"]), (400, &json!(param)), "{error}");
    }
}

/// With guesses that hold and that do not, in every slot at once, and with a ring that dies: the same answers.
#[tokio::test]
async fn answers_are_the_same_however_they_come() {
    let wishes = || {
        let format = |schema: Value| json!({"type": "json_schema", "json_schema": {"schema": schema}});
        let wish = move |seed: u64| match seed % 4 {
            0 => json!({"response_format": format(schema()), "seed": seed}),
            1 => json!({"guided_regex": "(thee |thou )+\\.", "seed": seed, "max_tokens": 40}),
            2 => {
                json!({"response_format": {"type": "json_object"}, "seed": seed, "max_tokens": 50, "frequency_penalty": 1})
            }
            _ => json!({"seed": seed, "max_tokens": 40}),
        };
        (0..12).map(move |seed| chat(wish(seed)))
    };
    let all = async |speculation: Speculation, dies: bool| {
        let options = Options { speculation, ..Setup::default().options };
        let setup = Setup { options, queue: 20, ..Setup::default() };
        let (served, addr) = start(setup, babble((300..900).collect())).await;
        served.ring.with(|state| state.dies_after = dies.then_some(9));
        let mut opened = Vec::new();
        for body in wishes() {
            let mut body = body;
            body["stream"] = true.into();
            opened.push(post_open(addr, CHAT, &body).await);
        }
        if dies {
            tokio::time::sleep(std::time::Duration::from_millis(80)).await;
            served.ring.with(|state| state.up = true);
        }
        let mut texts = Vec::new();
        for mut answer in opened {
            let events = answer.events().await;
            let deltas = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str());
            texts.push(deltas.collect::<String>());
        }
        let epochs = served.ring.with(|state| state.epochs.len());
        assert_eq!(epochs > 1, dies, "{epochs} epochs");
        texts
    };
    let expected = all(Speculation::Off, false).await;
    assert!(serde_json::from_str::<Value>(&expected[0]).is_ok(), "{}", expected[0]);
    assert_eq!(all(Speculation::Window(5), false).await, expected);
    assert_eq!(all(Speculation::Window(3), true).await, expected);
}

/// Thoughts are free, and what follows them has the form.
#[tokio::test]
async fn thoughts_come_before_the_form() {
    let folder =
        templated("{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}<think>{% endif %}");
    let tokenizer = Tokenizer::open(bard()).unwrap();
    let mut script = tokenizer.encode("Hm, hm.\n</think>\n\n", false).unwrap();
    script.extend(tokenizer.encode("What light?", false).unwrap());
    let setup = Setup { model: folder.path().to_owned(), ..Setup::default() };
    let (_served, addr) = start(setup, crate::recite(script, tokenizer.eos()[0])).await;
    let answer = post(addr, CHAT, &chat(json!({"guided_choice": ["aye", "nay"]}))).await.json();
    let message = &answer["choices"][0]["message"];
    assert!(["aye", "nay"].contains(&message["content"].as_str().unwrap()), "{answer}");
    assert!(message["reasoning_content"].as_str().unwrap().contains("Hm, hm."), "{answer}");
}
