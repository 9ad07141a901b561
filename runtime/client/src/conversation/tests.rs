//! A conversation with a server at the other end of a pipe.

use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
};

use super::*;
use crate::dial::Dial;

/// Every request's body, as JSON.
type Asked = Arc<Mutex<Vec<Value>>>;

/// A server that answers `yes` to everything, or, to the word `wait`, begins and says no more.
fn server() -> (Server, Asked, mpsc::Receiver<()>) {
    let asked = Asked::default();
    let (begun, begins) = mpsc::channel(8);
    let heard = asked.clone();
    let dial = Dial::new(move || {
        let (heard, begun) = (heard.clone(), begun.clone());
        async move {
            let (ours, mut theirs) = tokio::io::duplex(1 << 16);
            tokio::spawn(async move {
                let mut request = Vec::new();
                let body = loop {
                    let mut part = [0; 4096];
                    let read = theirs.read(&mut part).await.unwrap_or_default();
                    request.extend_from_slice(&part[..read]);
                    let text = String::from_utf8_lossy(&request).into_owned();
                    let body =
                        text.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str::<Value>(body).ok());
                    if body.is_some() || read == 0 {
                        break body.unwrap_or_default();
                    }
                };
                let waits = body["messages"]
                    .as_array()
                    .and_then(|all| all.last())
                    .is_some_and(|last| last["content"] == "wait");
                heard.lock().unwrap().push(body);
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
                let first = "data: {\"choices\":[{\"delta\":{\"content\":\"yes\"}}]}\n\n";
                let end = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
                let _ = theirs.write_all(format!("{head}{first}").as_bytes()).await;
                if waits {
                    let _ = begun.send(()).await;
                    // Until the client hangs up.
                    let _ = theirs.read(&mut [0; 16]).await;
                } else {
                    let _ = theirs.write_all(end.as_bytes()).await;
                }
            });
            Ok(ours)
        }
    });
    (Server::over(dial, "m.llm", None), asked, begins)
}

fn manner() -> Manner {
    Manner { model: None, prompt: None, system: None, max_tokens: 8, temperature: 0.7, seed: None }
}

/// What the model was told in each question, as `role: content`.
fn told_in(asked: &Asked) -> Vec<Vec<String>> {
    let line =
        |message: &Value| format!("{}: {}", message["role"].as_str().unwrap(), message["content"].as_str().unwrap());
    let asked = asked.lock().unwrap();
    asked.iter().map(|body| body["messages"].as_array().unwrap().iter().map(line).collect()).collect()
}

#[tokio::test]
async fn turns_are_remembered_and_commands_change_what_is_asked() {
    let (server, asked, _) = server();
    let (say, lines) = mpsc::channel(32);
    let (_interrupt, interrupts) = mpsc::channel(1);
    let folder = std::env::temp_dir().join(format!("lime-chat-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (json, text) = (folder.join("said.json"), folder.join("said.txt"));
    for line in [
        "one",
        "two \\",
        "lines",
        "/system Be brief.",
        "/set temperature 0.25",
        "/set seed 7",
        "/set temperature hot",
        &format!("/save {}", json.display()),
        &format!("/save {}", text.display()),
        "/clear",
        "three",
        "/nonsense",
        "/quit",
        "never said",
    ] {
        say.send(Typed::Line(line.to_owned())).await.unwrap();
    }
    let mut talk = Talk { server: &server, manner: manner(), model: "m".into(), history: History::default() };
    talk.converse(Typing::of(lines), interrupts).await;
    assert_eq!(
        told_in(&asked),
        [
            vec!["user: one"],
            vec!["user: one", "assistant: yes", "user: two \nlines"],
            vec!["system: Be brief.", "user: three"],
        ]
    );
    let last = asked.lock().unwrap().last().unwrap().clone();
    assert_eq!((last["temperature"].as_f64(), last["seed"].as_u64()), (Some(0.25), Some(7)));
    let saved: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!((saved.as_array().unwrap().len(), saved[0]["role"].as_str()), (5, Some("system")));
    assert!(std::fs::read_to_string(&text).unwrap().contains("user: one\n\nassistant: yes\n"));
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn an_interrupt_stops_the_answer_and_not_the_conversation() {
    let (server, asked, mut begins) = server();
    let (say, lines) = mpsc::channel(8);
    let (interrupt, interrupts) = mpsc::channel(1);
    let mut talk = Talk { server: &server, manner: manner(), model: "m".into(), history: History::default() };
    let talking = talk.converse(Typing::of(lines), interrupts);
    let person = async {
        say.send(Typed::Line("wait".into())).await.unwrap();
        begins.recv().await.unwrap();
        interrupt.send(()).await.unwrap();
        say.send(Typed::Line("go on".into())).await.unwrap();
        // At the prompt the first one only warns, the second ends: the line after it is never said.
        while asked.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
        say.send(Typed::Line("/set".into())).await.unwrap();
        while say.capacity() < 8 {
            tokio::task::yield_now().await;
        }
        interrupt.send(()).await.unwrap();
        interrupt.send(()).await.unwrap();
        interrupt.closed().await;
    };
    tokio::join!(talking, person);
    let told = told_in(&asked);
    assert_eq!((told.len(), told[1].last().unwrap().as_str()), (2, "user: go on"));
}
