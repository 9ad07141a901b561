//! Requests that begin alike, as clients and operators see it.

use serde_json::{Value, json};

use crate::{
    TEXT, babbling,
    client::{post, post_open},
    fake::{Setup, babble},
    figure, start,
};
use lime_gateway::{Options, PrefixCache};

fn body(prompt: &[u32]) -> Value {
    json!({"model": "bard", "prompt": prompt, "max_tokens": 5, "seed": 3})
}

fn prompt(last: u32) -> Vec<u32> {
    (0..150).map(|at| 300 + at).chain([last]).collect()
}

fn cached(answer: &Value) -> u64 {
    answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
}

#[tokio::test]
async fn usage_and_figures_tell_what_was_not_computed() {
    let (_served, addr) = babbling().await;
    let first = post(addr, TEXT, &body(&prompt(1))).await.json();
    let second = post(addr, TEXT, &body(&prompt(2))).await.json();
    assert_eq!((cached(&first), cached(&second)), (0, 128));
    let mut streamed = body(&prompt(3));
    (streamed["stream"], streamed["stream_options"]) = (json!(true), json!({"include_usage": true}));
    let events = post_open(addr, TEXT, &streamed).await.events().await;
    assert_eq!(cached(events.last().unwrap()), 128);
    // Several prompts, several answers each: a prompt counts once, with what was there for its first answer.
    let mut several = body(&[]);
    (several["prompt"], several["n"]) = (json!([prompt(4), [7, 8, 9]]), json!(2));
    let answer = post(addr, TEXT, &several).await.json();
    assert_eq!((cached(&answer), &answer["usage"]["prompt_tokens"]), (128, &json!(154)));
    let figures = ["lime_prefix_pages", "lime_prefix_pages_kept_total", "lime_prefix_pages_reused_total"];
    let [pages, kept, reused] = figures.map(|name| figure(addr, name));
    assert_eq!((pages.await, kept.await, reused.await), (2.0, 2.0, 8.0));
}

#[tokio::test]
async fn without_the_cache_and_with_a_ring_that_keeps_nothing_answers_are_the_same() {
    let (_served, addr) = babbling().await;
    let options = Options { prefix_cache: PrefixCache::Off, ..Setup::default().options };
    let (_off, plain) = start(Setup { options, ..Setup::default() }, babble((300..900).collect())).await;
    let (forgetful, forgets) = babbling().await;
    forgetful.ring.with(|state| state.keeps_nothing = true);
    for last in 1..4 {
        let answers =
            [addr, plain, forgets].map(|addr| async move { post(addr, TEXT, &body(&prompt(last))).await.json() });
        let [kept, plain, forgotten] = answers;
        let (kept, plain, forgotten) = tokio::join!(kept, plain, forgotten);
        assert_eq!((&kept["choices"], &forgotten["choices"]), (&plain["choices"], &plain["choices"]));
        assert_eq!([&plain, &forgotten, &kept].map(cached), [0, 0, if last == 1 { 0 } else { 128 }]);
    }
    assert_eq!(figure(plain, "lime_prefix_pages_kept_total").await, 0.0);
    assert_eq!(figure(forgets, "lime_prefix_pages").await, 0.0);
    assert_eq!(forgetful.ring.with(|state| state.epochs.len()), 1, "no ring was lost over it");
}
