//! What is asked of a prompt alone: how likely its tokens are (`echo` with `logprobs`, as evaluations ask), and embeddings.

use lime_text::Tokenizer;
use serde_json::{Value, json};

use crate::{
    TEXT, babbling,
    client::{post, post_open},
    fake::{Setup, babble, bard, pool, score},
    start,
};

const PROMPT: &str = "But, soft! what light through yonder window breaks? It is the east, and Juliet is the sun.";

fn ask(more: Value) -> Value {
    let mut body = json!({
        "model": "bard", "prompt": PROMPT, "max_tokens": 1, "temperature": 0, "echo": true, "logprobs": 2, "add_special_tokens": false,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn expected(tokens: &[u32]) -> Vec<Option<f32>> {
    (0..tokens.len()).map(|place| (place > 0).then(|| score(&tokens[..place], tokens[place]))).collect()
}

fn scores(logprobs: &Value) -> Vec<Option<f32>> {
    logprobs["token_logprobs"].as_array().unwrap().iter().map(|one| one.as_f64().map(|one| one as f32)).collect()
}

#[tokio::test]
async fn a_prompt_that_is_echoed_tells_how_likely_it_was() {
    let (served, addr) = babbling().await;
    let tokens = Tokenizer::open(bard()).unwrap().encode(PROMPT, false).unwrap();
    assert!(tokens.len() > 20, "it takes several chunks");
    // Twice: what is kept of the first is no help, for every row is asked.
    for _ in 0..2 {
        let answer = post(addr, TEXT, &ask(json!({}))).await.json();
        let logprobs = &answer["choices"][0]["logprobs"];
        let found = scores(logprobs);
        assert_eq!(found[..tokens.len()], expected(&tokens), "{answer}");
        assert_eq!(found.len(), tokens.len() + 1, "and the one that was drawn");
        let texts: Vec<&str> =
            logprobs["tokens"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
        assert!(texts.concat().starts_with(PROMPT));
        assert_eq!(
            (&logprobs["top_logprobs"][0], logprobs["top_logprobs"][1].as_object().unwrap().len()),
            (&Value::Null, 3)
        );
        let offsets: Vec<u64> =
            logprobs["text_offset"].as_array().unwrap().iter().map(|at| at.as_u64().unwrap()).collect();
        assert!(
            offsets.is_sorted() && offsets[0] == 0 && offsets[tokens.len()] == PROMPT.chars().count() as u64,
            "{offsets:?}"
        );
    }
    let none = post(addr, TEXT, &ask(json!({"max_tokens": 0}))).await.json();
    assert_eq!((&none["choices"][0]["text"], &none["choices"][0]["finish_reason"]), (&json!(PROMPT), &json!("length")));
    assert_eq!(scores(&none["choices"][0]["logprobs"]), expected(&tokens));
    assert_eq!(none["usage"]["completion_tokens"], 0);
    let by_ids = post(addr, TEXT, &ask(json!({"prompt": [tokens.clone(), tokens[..1].to_vec()]}))).await.json();
    assert_eq!(scores(&by_ids["choices"][0]["logprobs"])[..tokens.len()], expected(&tokens));
    assert_eq!(scores(&by_ids["choices"][1]["logprobs"])[0], None);
    let events = post_open(addr, TEXT, &ask(json!({"stream": true, "max_tokens": 4}))).await.events().await;
    let told: Vec<Option<f32>> = events
        .iter()
        .filter(|event| event["choices"][0]["logprobs"].is_object())
        .flat_map(|event| scores(&event["choices"][0]["logprobs"]))
        .collect();
    assert_eq!(told[..tokens.len()], expected(&tokens));
    drop(served);
}

/// A ring that dies within the prompt: nothing is told twice, and nothing is missing.
#[tokio::test]
async fn scores_survive_the_ring() {
    let (served, addr) = start(Setup::default(), babble((300..900).collect())).await;
    let tokens = Tokenizer::open(bard()).unwrap().encode(PROMPT, false).unwrap();
    served.ring.with(|state| {
        state.pass_time = std::time::Duration::from_millis(20);
        state.dies_after = Some(1);
    });
    let asked = tokio::spawn(async move { post(addr, TEXT, &ask(json!({}))).await.json() });
    while served.ring.with(|state| state.up) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    served.ring.with(|state| state.up = true);
    let answer = asked.await.unwrap();
    assert_eq!(scores(&answer["choices"][0]["logprobs"])[..tokens.len()], expected(&tokens));
    assert!(served.ring.with(|state| state.epochs.len()) > 1);
}

fn embedding(answer: &Value, index: usize) -> Vec<f64> {
    let numbers = answer["data"][index]["embedding"].as_array().unwrap_or_else(|| panic!("{answer}"));
    numbers.iter().map(|number| number.as_f64().unwrap()).collect()
}

fn direction(tokens: &[u32]) -> Vec<f64> {
    let sums = pool(tokens).map(|sum| sum as f64);
    let length = sums.iter().map(|sum| sum * sum).sum::<f64>().sqrt();
    sums.iter().map(|sum| f64::from((sum / length) as f32)).collect()
}

#[tokio::test]
async fn embeddings_are_of_the_last_state_or_of_all() {
    let tokenizer = Tokenizer::open(bard()).unwrap();
    let texts = [PROMPT, "Ay.", PROMPT];
    let tokens: Vec<Vec<u32>> = texts.iter().map(|text| tokenizer.encode(text, true).unwrap()).collect();
    let mean = tempfile::tempdir().unwrap();
    for file in ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"] {
        let from = bard().join(file);
        if from.exists() {
            std::fs::copy(from, mean.path().join(file)).unwrap();
        }
    }
    std::fs::create_dir(mean.path().join("1_Pooling")).unwrap();
    std::fs::write(mean.path().join("1_Pooling/config.json"), r#"{"pooling_mode_mean_tokens": true}"#).unwrap();
    for (model, of_all) in [(bard(), false), (mean.path().to_owned(), true)] {
        let (_served, addr) = start(Setup { model, ..Setup::default() }, babble((300..900).collect())).await;
        let body = json!({"model": "bard", "input": texts});
        let answer = post(addr, "/v1/embeddings", &body).await.json();
        for (index, tokens) in tokens.iter().enumerate() {
            let rows = if of_all { &tokens[..] } else { &tokens[tokens.len() - 1..] };
            assert_eq!(embedding(&answer, index), direction(rows), "{answer}");
        }
        let all: usize = tokens.iter().map(Vec::len).sum();
        assert_eq!(answer["usage"], json!({"prompt_tokens": all, "total_tokens": all}));
        let ids = json!({"model": "bard", "input": tokens[1], "encoding_format": "base64"});
        let packed = post(addr, "/v1/embeddings", &ids).await.json();
        assert_eq!(packed["data"][0]["embedding"].as_str().unwrap().len(), 24, "{packed}");
    }
}

#[tokio::test]
async fn what_is_no_text_to_embed_is_named() {
    let (_served, addr) = babbling().await;
    for (more, param) in [
        (json!({}), "input"),
        (json!({"input": []}), "input"),
        (json!({"input": {"a": 1}}), "input"),
        (json!({"input": "x", "encoding_format": "int8"}), "encoding_format"),
        (json!({"input": "x", "dimensions": 7}), "dimensions"),
    ] {
        let mut body = json!({"model": "bard"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let refused = post(addr, "/v1/embeddings", &body).await;
        assert_eq!((refused.status.as_u16(), &refused.json()["error"]["param"]), (400, &json!(param)), "{body}");
    }
}
