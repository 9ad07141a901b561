//! Plans that are replaced under their answers.

use std::{sync::Arc, time::Duration};

use lime_gateway::{Event, Orders};
use lime_plan::{Plan, PlanInForce, ServingLimits};
use lime_ring::Peer;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    TEXT, babbling,
    client::{get, post, post_open},
    eventually,
    fake::{self, Served},
    figure,
};

fn ask(prompt: &str, max_tokens: u32) -> Value {
    json!({"model": "bard", "prompt": prompt, "max_tokens": max_tokens, "seed": 5, "temperature": 0.8, "stream": true})
}

fn text_of(events: &[Value]) -> String {
    events.iter().map(|event| event["choices"][0]["text"].as_str().unwrap()).collect()
}

/// A plan with `slots` slots and room for sequences of `context` tokens.
fn plan(slots: u32, context: u32) -> Plan {
    fake::plan(ServingLimits { max_context_tokens: context, max_concurrent_requests: slots, prefill_chunk_tokens: 8 })
}

fn give(served: &Served, generation: u64, plan: Plan) {
    let peer = Peer { device: "device-0".into(), uri: format!("http://127.0.0.1:{}", 10 + generation) };
    let name = format!("plan-{generation}");
    let orders = Orders { name, generation, digest: format!("digest-{generation}"), ..Orders::new(plan, vec![peer]) };
    served.orders.send_replace(orders);
}

#[tokio::test]
async fn streams_go_on_by_the_new_plan_and_new_requests_are_served_by_it() {
    let (mut served, addr) = babbling().await;
    let prompts = ["a rose", "by any other name", "would smell"];
    let mut undisturbed = Vec::new();
    for prompt in prompts {
        undisturbed.push(text_of(&post_open(addr, TEXT, &ask(prompt, 120)).await.events().await));
    }
    let mut streams = Vec::new();
    for prompt in prompts {
        let mut stream = post_open(addr, TEXT, &ask(prompt, 120)).await;
        stream.event().await.unwrap();
        streams.push(stream);
    }
    // The new plan's workers do not answer at once.
    served.ring.with(|state| state.up = false);
    give(&served, 3, plan(2, 200));
    eventually("taken up", || async { get(addr, "/ready").await.json()["plan"]["name"] == "plan-3" }).await;
    let told = get(addr, "/ready").await.json();
    assert_eq!(told["plan"], json!({"name": "plan-3", "generation": 3, "digest": "digest-3"}));
    assert_eq!(told["status"], "recovering");
    let waiting =
        tokio::spawn(async move { text_of(&post_open(addr, TEXT, &ask("as sweet", 9)).await.events().await) });
    sleep(Duration::from_millis(60)).await;
    assert!(!waiting.is_finished(), "it waits in the queue");
    served.ring.with(|state| state.up = true);
    for (stream, expected) in streams.iter_mut().zip(&undisturbed) {
        let rest = text_of(&stream.events().await);
        assert!(expected.ends_with(&rest) && rest.len() + 20 > expected.len(), "{rest:?} of {expected:?}");
    }
    assert!(!waiting.await.unwrap().is_empty());
    assert_eq!(served.ring.with(|state| state.plans.len()), 1);
    assert_eq!(figure(addr, "lime_plans_taken_total").await, 1.0);
    let metrics = get(addr, "/metrics").await.text;
    assert!(metrics.contains("lime_plan_info{plan=\"plan-3\",generation=\"3\"} 1"), "{metrics}");
    let mut happened = Vec::new();
    while let Ok(event) = served.events.try_recv() {
        happened.push(event);
    }
    assert!(happened.contains(&Event::PlanTaken { name: "plan-3".into(), generation: 3 }), "{happened:?}");
    // A request is measured against the plan that is in force.
    assert_eq!(get(addr, "/v1/models").await.json()["data"][0]["max_model_len"], 200);
    let full = json!({"model": "bard", "prompt": "x", "max_tokens": 210, "ignore_eos": true});
    assert_eq!(post(addr, TEXT, &full).await.json()["usage"]["total_tokens"], 200);
}

#[tokio::test]
async fn a_request_without_room_in_the_new_plan_fails_with_the_numbers_and_others_go_on() {
    let (served, addr) = babbling().await;
    let short = text_of(&post_open(addr, TEXT, &ask("a rose", 30)).await.events().await);
    served.ring.with(|state| state.pass_time = Duration::from_millis(3));
    let mut long = post_open(addr, TEXT, &ask("by any other name", 200)).await;
    let mut other = post_open(addr, TEXT, &ask("a rose", 30)).await;
    let first = other.event().await.unwrap();
    give(&served, 1, plan(4, 64));
    let rest = text_of(&other.events().await);
    let first: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(format!("{}{rest}", text_of(&[first])), short);
    let mut last = String::new();
    while let Some(event) = long.event().await {
        last = event;
    }
    let error = serde_json::from_str::<Value>(&last).unwrap()["error"].clone();
    assert_eq!(error["code"], "context_reduced");
    assert!(error["message"].as_str().unwrap().contains("64 tokens"), "{error}");
    assert_eq!(post(addr, TEXT, &json!({"model": "bard", "prompt": "x", "max_tokens": 5})).await.status, 200);
}

#[tokio::test]
async fn what_cannot_be_followed_is_refused_and_the_old_plan_stays() {
    let (served, addr) = babbling().await;
    give(&served, 5, plan(4, 200));
    eventually("taken up", || async { get(addr, "/ready").await.json()["plan"]["generation"] == 5 }).await;
    let other = plan(4, 100).changed(|plan| plan.model.parameters += 1).unwrap();
    for (generation, refused) in [(4, plan(4, 100)), (7, other)] {
        give(&served, generation, refused);
        sleep(Duration::from_millis(30)).await;
        assert_eq!(get(addr, "/ready").await.json()["plan"]["generation"], 5, "{generation}");
    }
    // The same plan elsewhere, and the same again under another generation.
    give(&served, 8, plan(4, 200));
    eventually("heard", || async { get(addr, "/ready").await.json()["plan"]["generation"] == 8 }).await;
    assert_eq!(served.ring.with(|state| state.plans.len()), 1);
    assert_eq!(post(addr, TEXT, &json!({"model": "bard", "prompt": "x", "max_tokens": 5})).await.status, 200);
}

#[tokio::test]
async fn a_plan_that_comes_while_the_first_one_is_brought_up_is_followed() {
    let served = fake::serve(fake::Setup::default(), fake::Controls::new(fake::babble((300..900).collect()))).await;
    served.ring.with(|state| state.up = false);
    let addr = served.handle.addr();
    sleep(Duration::from_millis(100)).await;
    give(&served, 1, plan(2, 100));
    eventually("taken up", || async { get(addr, "/ready").await.json()["plan"]["generation"] == 1 }).await;
    served.ring.with(|state| state.up = true);
    eventually("ready", || async { get(addr, "/ready").await.status == 200 }).await;
}

#[tokio::test]
async fn a_plan_file_is_followed_through_whatever_it_is_replaced_by() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let in_force = |generation: u64| PlanInForce {
        name: format!("plan-{generation}"),
        generation,
        workers: [("device-0".to_owned(), format!("http://127.0.0.1:{generation}"))].into(),
        plan: plan(1, 64 + u32::try_from(generation).unwrap()),
    };
    let text = |generation| in_force(generation).to_json().unwrap();
    // As the kubelet does it: the file is a link into a folder that is a link, and that one is swapped.
    let swap = |content: &str, version: &str| {
        std::fs::create_dir(at(version)).unwrap();
        std::fs::write(at(version).join("plan.json"), content).unwrap();
        std::os::unix::fs::symlink(version, at("..tmp")).unwrap();
        std::fs::rename(at("..tmp"), at("..data")).unwrap();
    };
    let plaintext = lime_ring::Transport::Plaintext;
    let open = |name: &str| lime_gateway::PlanFile::open(&at(name), &plaintext).map(|(_, orders)| orders.name);
    assert!(open("plan.json").unwrap_err().to_string().contains("cannot be read"));
    swap(&text(1), "..1");
    std::os::unix::fs::symlink("..data/plan.json", at("plan.json")).unwrap();
    let (file, first) = lime_gateway::PlanFile::open(&at("plan.json"), &plaintext).unwrap();
    assert_eq!(
        (first.name.as_str(), first.generation, first.workers[0].uri.as_str()),
        ("plan-1", 1, "http://127.0.0.1:1")
    );
    assert_eq!(first.digest, PlanInForce::digest(&text(1)));
    let (publish, mut orders) = tokio::sync::watch::channel(first);
    let following = tokio::spawn(file.follow(publish));
    let mut comes = async |generation: u64| {
        let came =
            tokio::time::timeout(Duration::from_secs(10), orders.wait_for(|it| it.generation == generation)).await;
        Arc::clone(&came.unwrap().unwrap().plan)
    };
    swap(&text(2), "..2");
    assert_eq!(*comes(2).await, in_force(2).plan);
    let secured = text(3).replace("http://", "https://");
    let broken = text(3).replace("\"segments\":1", "\"segments\":0");
    assert_ne!(broken, text(3));
    for (version, damaged) in
        [("..3", &text(3)[..1000]), ("..4", "garbage"), ("..5", &broken), ("..6", secured.as_str())]
    {
        swap(damaged, version);
        sleep(Duration::from_millis(1200)).await;
    }
    std::fs::remove_file(at("..data")).unwrap();
    sleep(Duration::from_millis(1200)).await;
    swap(&text(7), "..7");
    assert_eq!(*comes(7).await, in_force(7).plan);
    drop(orders);
    tokio::time::timeout(Duration::from_secs(10), following).await.unwrap().unwrap().unwrap();
}
