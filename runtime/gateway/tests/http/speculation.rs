//! Tokens guessed ahead, as clients see them: the same answers, in fewer passes, and told of.

use lime_gateway::{Options, Speculation};
use lime_text::Tokenizer;
use serde_json::{Value, json};

use crate::{
    CHAT, TEXT,
    client::post,
    fake::{NextToken, Setup, babble, bard, recite},
    figure, start,
};

const SAID: &str = "Good morrow, cousin. Is the day so young? But new struck nine. Ay me, sad hours seem long.";

fn setup(speculation: Speculation) -> Setup {
    let plain = Setup::default();
    Setup { options: Options { speculation, ..plain.options }, ..plain }
}

fn recital() -> NextToken {
    let tokenizer = Tokenizer::open(bard()).unwrap();
    recite(tokenizer.encode(SAID, false).unwrap(), tokenizer.eos()[0])
}

fn question(more: Value) -> Value {
    let mut body = json!({"model": "bard", "messages": [{"role": "user", "content": "What ho?"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn an_answer_that_was_predicted_comes_in_few_passes() {
    let (plain, addr) = start(setup(Speculation::Off), recital()).await;
    let prediction = json!({"prediction": {"type": "content", "content": SAID.replace("nine", "ten")}});
    let expected = post(addr, CHAT, &question(prediction.clone())).await.json();
    assert!(expected["usage"].get("completion_tokens_details").is_none(), "nothing was guessed: {expected}");
    let without = plain.ring.with(|state| state.passes.len());
    let (served, addr) = start(setup(Speculation::Window(7)), recital()).await;
    let parts = json!({"prediction": {"content": [{"type": "text", "text": SAID.replace("nine", "ten")}]}});
    for body in [prediction, parts] {
        let before = served.ring.with(|state| state.passes.len());
        let answer = post(addr, CHAT, &question(body)).await.json();
        assert_eq!(answer["choices"], expected["choices"]);
        let usage = &answer["usage"];
        assert_eq!(usage["completion_tokens"], expected["usage"]["completion_tokens"]);
        let told = |name: &str| usage["completion_tokens_details"][name].as_u64().unwrap();
        let (held, wrong) = (told("accepted_prediction_tokens"), told("rejected_prediction_tokens"));
        let passes = served.ring.with(|state| state.passes.len()) - before;
        assert_eq!(held as usize + passes, without, "each guess that held saved a pass");
        assert!(held > 15 && wrong > 0, "{held} held, {wrong} did not");
    }
    let [drafted, accepted] =
        ["drafted", "accepted"].map(|what| format!("lime_speculation_{what}_tokens_total{{source=\"lookup\"}}"));
    let (drafted, accepted) = (figure(addr, &drafted).await, figure(addr, &accepted).await);
    assert!(accepted > 30.0 && drafted > accepted, "{accepted} of {drafted}");
}

#[tokio::test]
async fn a_prediction_must_have_its_form() {
    let (_served, addr) = start(setup(Speculation::Auto), recital()).await;
    for (prediction, param) in [
        (json!("text"), "prediction"),
        (json!({"type": "guess", "content": "x"}), "prediction.type"),
        (json!({"type": "content"}), "prediction.content"),
        (json!({"type": "content", "content": 5}), "prediction.content"),
        (json!({"type": "content", "content": [{"type": "image"}]}), "prediction.content"),
    ] {
        let answer = post(addr, CHAT, &question(json!({"prediction": prediction}))).await;
        assert_eq!(answer.status, 400, "{}", answer.text);
        assert_eq!(answer.json()["error"]["param"], param, "{}", answer.text);
    }
    let empty = question(json!({"prediction": {"type": "content", "content": ""}}));
    assert_eq!(post(addr, CHAT, &empty).await.status, 200);
    assert_eq!(post(addr, CHAT, &question(json!({"prediction": null}))).await.status, 200);
}

/// Requests of all kinds at once, and the ring dies among them.
#[tokio::test]
async fn answers_are_the_same_when_the_ring_dies() {
    let ask = |addr, seed: u64| async move {
        let body = json!({
            "model": "bard", "prompt": "to be or not to be, to be or not to be", "max_tokens": 40, "temperature": seed % 2,
            "seed": seed, "logprobs": 2, "presence_penalty": (seed % 3) as f32 / 2.0, "return_token_ids": true,
        });
        post(addr, TEXT, &body).await.json()["choices"].clone()
    };
    // Few letters, so that the text repeats itself.
    let (_plain, addr) = start(setup(Speculation::Off), babble((300..302).collect())).await;
    let mut expected = Vec::new();
    for seed in 0..4 {
        expected.push(ask(addr, seed).await);
    }
    for how in [Speculation::Auto, Speculation::Window(5)] {
        let (served, addr) = start(setup(how), babble((300..302).collect())).await;
        served.ring.with(|state| state.dies_after = Some(9));
        let dying = tokio::spawn({
            let ring = served.ring.clone();
            async move {
                while ring.with(|state| state.up) {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
                ring.with(|state| state.up = true);
            }
        });
        let found = futures::join!(ask(addr, 0), ask(addr, 1), ask(addr, 2), ask(addr, 3));
        dying.await.unwrap();
        assert_eq!([found.0, found.1, found.2, found.3].as_slice(), expected, "{how}");
    }
}
