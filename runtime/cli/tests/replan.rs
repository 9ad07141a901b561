//! The real thing by another plan: `lime gateway --follow`, streamed answers, and in the middle of them another plan with other
//! workers, while those of the old one are killed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    sync::mpsc,
};

use common::{Running, lime, model, wish};
use lime_plan::{Plan, PlanInForce, testing::cut_layers};
use serde_json::{Value, json};

/// What a client has: the answer's text and its tokens.
type Answer = (String, Vec<u64>);

/// Tokens of an answer before the plan is replaced.
const BEFORE: usize = 7;

fn plan(folder: &Path, kib: &[u32], segments: &str) -> Plan {
    let output = lime(&["plan", "-o", "json", "--segments", segments, "-f", &wish(folder, kib)]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A process that says where it listens.
fn listening(args: &[&str]) -> (Running, String) {
    let mut process = Running::start(args);
    let mut line = String::new();
    BufReader::new(process.child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let said: Value = serde_json::from_str(&line).unwrap_or_else(|fault| panic!("{fault}: {line:?}"));
    (process, said["listening"].as_str().unwrap().to_owned())
}

/// A worker for each device of `plan` with its weights below `folder`, and where they are.
fn workers(folder: &Path, plan: &Plan) -> (Vec<Running>, BTreeMap<String, String>) {
    let start = |name: &str| {
        let (model, store) = (model(), folder.join(format!("store-{name}")));
        let args = ["worker", "--name", name, "--listen", "127.0.0.1:0", "--threads", "1"];
        let from = ["--model", model.to_str().unwrap(), "--store", store.to_str().unwrap()];
        listening(&[&args[..], &from].concat())
    };
    let started = plan.devices.iter().map(|device| {
        let (process, address) = start(&device.name);
        (process, (device.name.clone(), format!("http://{address}")))
    });
    started.unzip()
}

/// Puts a plan in force, in one step.
fn put_in_force(file: &Path, generation: u64, plan: &Plan, workers: &BTreeMap<String, String>) {
    let name = format!("bard-{generation}");
    let in_force = PlanInForce { name, generation, workers: workers.clone(), plan: plan.clone() };
    replace(file, &in_force.to_json().unwrap());
}

fn replace(file: &Path, text: &str) {
    let beside = file.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::rename(&beside, file).unwrap();
}

fn gateway(file: &Path) -> (Running, String) {
    let model = model();
    let (file, model) = (file.to_str().unwrap(), model.to_str().unwrap());
    let (mut gateway, address) =
        listening(&["gateway", "--follow", file, "--model", model, "--served-name", "bard", "--listen", "127.0.0.1:0"]);
    gateway.wait_for("the ring is ready");
    (gateway, address)
}

/// Streams a completion; `begun` hears once some of it has come. Gives the answer, and its events after that moment.
fn stream(address: &str, question: &Value, begun: Option<&mpsc::Sender<()>>) -> (Answer, usize) {
    let socket = common::client::post(address, question);
    let (mut answer, mut count, mut whole) = (Answer::default(), 0_usize, String::new());
    for line in BufReader::new(socket).lines() {
        let line = line.unwrap();
        whole.push_str(&line);
        let Some(data) = line.strip_prefix("data: ") else { continue };
        if data == "[DONE]" {
            return (answer, count.saturating_sub(BEFORE));
        }
        let event: Value = serde_json::from_str(data).unwrap();
        let choice = &event["choices"][0];
        answer.0.push_str(choice["text"].as_str().unwrap_or_else(|| panic!("an event without text: {data}")));
        answer.1.extend(choice["token_ids"].as_array().into_iter().flatten().map(|token| token.as_u64().unwrap()));
        count += 1;
        if let (BEFORE, Some(begun)) = (count, begun) {
            begun.send(()).unwrap();
        }
    }
    panic!("the stream ended early: {whole}");
}

/// Greedy, drawn with a seed, and a short one.
fn questions() -> [Value; 3] {
    let ask = |prompt: &str, tokens: u32, temperature: f32| {
        json!({
            "model": "bard", "prompt": prompt, "max_tokens": tokens, "temperature": temperature, "seed": 11,
            "stream": true, "ignore_eos": true, "return_token_ids": true,
        })
    };
    [ask("ROMEO:\n", 240, 0.0), ask("JULIET:\n", 240, 0.8), ask("To be", 20, 0.5)]
}

#[test]
fn answers_go_on_by_another_plan_while_the_workers_of_the_old_one_are_killed() {
    let folder = tempfile::tempdir().unwrap();
    let questions = questions();
    let alone: Vec<Answer> = {
        let (plan, file) = (plan(folder.path(), &[16384], "1"), folder.path().join("alone.json"));
        let (_workers, addresses) = workers(folder.path(), &plan);
        put_in_force(&file, 1, &plan, &addresses);
        let (_gateway, address) = gateway(&file);
        questions.iter().map(|question| stream(&address, question, None).0).collect()
    };
    assert!(alone.iter().all(|(text, tokens)| text.len() >= 20 && tokens.len() >= 20), "{alone:?}");

    let two = plan(folder.path(), &[5500, 6000], "1");
    let three = plan(folder.path(), &[3000, 3500, 4000], "2");
    assert_eq!((two.devices.len(), three.devices.len()), (2, 3));
    let file = folder.path().join("plan.json");
    let (old_workers, old_addresses) = workers(folder.path(), &two);
    put_in_force(&file, 5, &two, &old_addresses);
    let (mut gateway, address) = gateway(&file);
    let (new_workers, new_addresses) = workers(folder.path(), &three);

    let (begun, begins) = mpsc::channel();
    let asked = questions.iter().take(2).map(|question| {
        let (address, question, begun) = (address.clone(), question.clone(), begun.clone());
        std::thread::spawn(move || stream(&address, &question, Some(&begun)))
    });
    let asked: Vec<_> = asked.collect();
    begins.recv().unwrap();
    begins.recv().unwrap();
    // Half a plan, another plan that is older, and then one that can be followed.
    replace(&file, &fs::read_to_string(&file).unwrap()[..2000]);
    for worker in &old_workers {
        worker.signal("KILL");
    }
    gateway.wait_for("is refused");
    put_in_force(&file, 4, &three, &new_addresses);
    gateway.wait_for("it is older");
    put_in_force(&file, 6, &three, &new_addresses);
    let between = {
        let (address, question) = (address.clone(), questions[2].clone());
        std::thread::spawn(move || stream(&address, &question, None).0)
    };
    for (asked, expected) in asked.into_iter().zip(&alone) {
        let (answer, after) = asked.join().unwrap();
        assert!(after > 20, "the plan was replaced in the middle");
        assert_eq!(&answer, expected);
    }
    assert_eq!(between.join().unwrap(), alone[2]);
    gateway.wait_for("another plan is followed");

    // And once more, by workers that stay: other layers for the same processes.
    drop(old_workers);
    let again = plan(folder.path(), &[4000, 3500, 3000], "1");
    let asked = {
        let (address, question) = (address.clone(), questions[1].clone());
        std::thread::spawn(move || stream(&address, &question, Some(&begun)))
    };
    begins.recv().unwrap();
    put_in_force(&file, 7, &again, &new_addresses);
    assert_eq!(asked.join().unwrap().0, alone[1]);
    gateway.wait_for("another plan is followed");
    gateway.wait_for("the ring is back");
    assert_eq!(stream(&address, &questions[0], None).0, alone[0]);

    // Then by a plan that cuts inside layers.
    let cut = cut_layers(&three);
    assert!(cut.cuts_layers());
    put_in_force(&file, 8, &cut, &new_addresses);
    gateway.wait_for("another plan is followed");
    gateway.wait_for("the ring is back");
    for (question, expected) in questions.iter().zip(&alone) {
        assert_eq!(&stream(&address, question, None).0, expected);
    }
    drop(new_workers);
    gateway.signal("INT");
    assert_eq!(gateway.end().0, Some(0));
}
