//! What clients write in ways of their own, and is meant.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use lime_gateway::Options;
use lime_text::Tokenizer;
use serde_json::{Value, json};

use crate::{
    CHAT, TEXT, babbling,
    client::{get, post, send},
    fake::{Setup, babble, bard},
    reciting, reciting_by, start,
};

const JSON: (&str, &str) = ("content-type", "application/json");

fn text_of(answer: &Value) -> &str {
    answer["choices"][0]["text"].as_str().unwrap()
}

#[tokio::test]
async fn fields_that_nobody_knows_are_ignored_unless_asked_otherwise() {
    let body = json!({"model": "bard", "prompt": "x", "max_tokens": 2, "cache_prompt": true, "max_token": 7});
    let (_served, addr) = babbling().await;
    assert_eq!(post(addr, TEXT, &body).await.status, 200);
    let options = Options { strict: true, ..Setup::default().options };
    let (_served, addr) = start(Setup { options, ..Setup::default() }, babble(vec![300])).await;
    let refused = post(addr, TEXT, &body).await;
    let error = refused.json()["error"].clone();
    assert_eq!((refused.status.as_u16(), &error["code"]), (400, &json!("unknown_parameter")));
    let known = json!({"model": "bard", "prompt": "x", "max_tokens": 2, "user": "me", "min_p": 0.1, "best_of": 1});
    assert_eq!(post(addr, TEXT, &known).await.status, 200);
}

#[tokio::test]
async fn lengths_are_bounds() {
    let (_served, addr) = babbling().await;
    let ask = |most: Value| json!({"model": "bard", "prompt": "x", "max_tokens": most, "ignore_eos": true});
    let bounded = post(addr, TEXT, &ask(json!(1_000_000_000_000_u64))).await.json();
    assert_eq!(bounded["choices"][0]["finish_reason"], "length");
    assert_eq!(bounded["usage"]["total_tokens"], 256);
    assert_eq!(post(addr, TEXT, &ask(json!(-1))).await.json()["usage"]["total_tokens"], 256);
    assert_eq!(post(addr, TEXT, &ask(json!(5.0))).await.json()["usage"]["completion_tokens"], 5);
    let chat =
        json!({"model": "bard", "messages": [{"role": "user", "content": "?"}], "max_tokens": -1, "ignore_eos": true});
    assert_eq!(post(addr, CHAT, &chat).await.json()["usage"]["total_tokens"], 256);
}

#[tokio::test]
async fn stops_may_be_many_and_tokens() {
    let (_served, addr) = reciting("Once more unto the breach").await;
    let stops: Vec<String> = (0..14).map(|number| format!("zounds{number}")).chain(["breach".to_owned()]).collect();
    let body = json!({"model": "bard", "prompt": "x", "max_tokens": 50, "stop": stops});
    assert_eq!(text_of(&post(addr, TEXT, &body).await.json()), "Once more unto the ");
    let tokens = Tokenizer::open(bard()).unwrap().encode("Once more unto the breach", false).unwrap();
    let body = json!({"model": "bard", "prompt": "x", "max_tokens": 50, "stop_token_ids": [tokens[2]], "return_token_ids": true});
    let answer = post(addr, TEXT, &body).await.json();
    assert_eq!(
        (&answer["choices"][0]["token_ids"], &answer["choices"][0]["finish_reason"]),
        (&json!(tokens[..3]), &json!("stop"))
    );
    assert!("Once more unto the breach".starts_with(text_of(&answer)));
    // No stop before its time.
    let body = json!({"model": "bard", "prompt": "x", "max_tokens": 50, "stop": "o", "min_tokens": tokens.len()});
    assert_eq!(text_of(&post(addr, TEXT, &body).await.json()), "Once more unto the breach");
}

#[tokio::test]
async fn bodies_are_mended_and_unpacked() {
    let (_served, addr) = babbling().await;
    let plain = r#"{"model": "bard", "prompt": "a \ud83d b", "max_tokens": 1, "echo": true}"#;
    let marked = [b"\xef\xbb\xbf", plain.as_bytes()].concat();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(plain.as_bytes()).unwrap();
    let packed = gzip.finish().unwrap();
    for (headers, body) in [
        (vec![JSON], plain.as_bytes().to_vec()),
        (vec![JSON], marked),
        (vec![JSON, ("content-encoding", "gzip")], packed.clone()),
    ] {
        let answer = send(addr, "POST", TEXT, &headers, body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert!(text_of(&answer.json()).starts_with("a \u{fffd} b"), "{}", answer.text);
    }
    let unknown = send(addr, "POST", TEXT, &[JSON, ("content-encoding", "br")], packed.clone()).await;
    assert_eq!(
        (unknown.status.as_u16(), &unknown.json()["error"]["code"]),
        (415, &json!("unsupported_content_encoding"))
    );
    let wrong = send(addr, "POST", TEXT, &[JSON, ("content-encoding", "deflate")], packed).await;
    assert_eq!((wrong.status.as_u16(), &wrong.json()["error"]["code"]), (400, &json!("invalid_body")));
    // As long as no request may be, and short as it is sent.
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    bomb.write_all(&vec![b' '; 64 << 20]).unwrap();
    let bomb = send(addr, "POST", TEXT, &[JSON, ("content-encoding", "gzip")], bomb.finish().unwrap()).await;
    assert_eq!((bomb.status.as_u16(), &bomb.json()["error"]["code"]), (400, &json!("context_length_exceeded")));
}

#[tokio::test]
async fn paths_are_read_as_they_were_meant() {
    let (_served, addr) = babbling().await;
    for path in ["//v1/models", "/v1/models/", "/models", "/v1/v1/models", "/health/"] {
        assert_eq!(get(addr, path).await.status, 200, "{path}");
    }
    let body = json!({"model": "bard", "prompt": "x", "max_tokens": 1});
    for path in ["/completions", "/v1//completions/", "//completions"] {
        assert_eq!(post(addr, path, &body).await.status, 200, "{path}");
    }
    let head = send(addr, "HEAD", "/v1/models", &[], "").await;
    assert_eq!((head.status.as_u16(), head.text.as_str()), (200, ""));
    assert_eq!(get(addr, "/modelsx").await.status, 404);
    // Counted under the name that they have.
    let figures = get(addr, "/metrics").await.text;
    assert!(figures.contains("lime_http_requests_total{route=\"/v1/completions\",status=\"200\"} 3"), "{figures}");
}

#[tokio::test]
async fn the_best_of_several_answers_are_given() {
    let (_served, addr) = babbling().await;
    let ask = |n: u32, drawn: u32| json!({"model": "bard", "prompt": "x", "max_tokens": 4, "seed": 3, "n": n, "best_of": drawn});
    let answer = post(addr, TEXT, &ask(2, 4)).await.json();
    assert_eq!((answer["choices"].as_array().unwrap().len(), &answer["usage"]["completion_tokens"]), (2, &json!(16)));
    assert_eq!((&answer["choices"][1]["index"], &answer["choices"][1]["logprobs"]), (&json!(1), &Value::Null));
    // All are as likely here: the first are taken, as they would be alone.
    let alone = post(addr, TEXT, &ask(2, 2)).await.json();
    assert_eq!(answer["choices"], alone["choices"]);
}

#[tokio::test]
async fn draws_are_told_of_min_p_and_of_what_was_said() {
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let note = seen.clone();
    let next: crate::fake::NextToken = std::sync::Arc::new(move |_, sampling| {
        note.lock().unwrap().push(sampling.clone());
        300 + sampling.draw as u32
    });
    let (_served, addr) = start(Setup::default(), next).await;
    let body = json!({"model": "bard", "prompt": [9, 7, 9], "max_tokens": 3, "min_p": 0.25, "repetition_penalty": 1.5, "min_tokens": 2});
    assert_eq!(post(addr, TEXT, &body).await.status, 200);
    let seen = seen.lock().unwrap();
    let repeated: Vec<&[u32]> = seen.iter().map(|sampling| sampling.repeated.as_slice()).collect();
    assert_eq!(repeated, [&[7, 9][..], &[7, 9, 300], &[7, 9, 300, 301]]);
    assert!(seen.iter().all(|sampling| (sampling.min_p, sampling.repetition_penalty) == (0.25, 1.5)));
    let held_back: Vec<bool> =
        seen.iter().map(|sampling| sampling.bias.iter().any(|bias| bias.value == -f32::MAX)).collect();
    assert_eq!(held_back, [true, true, false]);
}

#[tokio::test]
async fn a_last_message_can_be_gone_on_with() {
    let template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
    let (_folder, _served, addr) = reciting_by(template, "x").await;
    let messages = json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": "It is "}]);
    let render = async |fields: Value| {
        let mut body = json!({"messages": messages});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        post(addr, "/apply-template", &body).await.json()["prompt"].clone()
    };
    assert_eq!(render(json!({})).await, "<user>q</s><assistant>It is </s><assistant>");
    assert_eq!(render(json!({"add_generation_prompt": false})).await, "<user>q</s><assistant>It is </s>");
    assert_eq!(render(json!({"continue_final_message": true})).await, "<user>q</s><assistant>It is ");
    let both =
        json!({"model": "bard", "messages": messages, "continue_final_message": true, "add_generation_prompt": true});
    assert_eq!(post(addr, CHAT, &both).await.json()["error"]["param"], "continue_final_message");
}
