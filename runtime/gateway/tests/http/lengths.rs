//! What is too long: refused soon, and without the memory that it would take.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use hyper::body::Bytes;
use lime_gateway::Options;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    CHAT, TEXT, babbling,
    client::{Answer, post, send},
    eventually,
    fake::{Served, Setup, babble},
    start,
};

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

async fn with(change: impl FnOnce(&mut Options)) -> (Served, SocketAddr) {
    let mut setup = Setup::default();
    change(&mut setup.options);
    start(setup, babble((300..900).collect())).await
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

fn code(answer: &Answer) -> (u16, Value) {
    (answer.status.as_u16(), answer.json()["error"]["code"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_prompts_of_eight_megabytes_are_refused_at_once() {
    let (_served, addr) = babbling().await;
    let text = "word ".repeat(1_580_000);
    let chat = json!({"model": "bard", "messages": [{"role": "user", "content": text}]});
    let bodies = [json!({"model": "bard", "prompt": text}), chat].map(|body| Bytes::from(body.to_string()));
    drop(text);
    let rest = resident_bytes();
    let over = Arc::new(AtomicBool::new(false));
    let watching = over.clone();
    let peak = std::thread::spawn(move || {
        let mut peak = 0;
        while !watching.load(Ordering::Relaxed) {
            peak = resident_bytes().max(peak);
            std::thread::sleep(Duration::from_millis(2));
        }
        peak
    });
    let begun = Instant::now();
    let asking = (0..16).map(|number| {
        let body = bodies[number % 2].clone();
        tokio::spawn(async move { send(addr, "POST", [TEXT, CHAT][number % 2], &JSON, body).await })
    });
    for answer in asking.collect::<Vec<_>>() {
        let answer = answer.await.unwrap();
        assert_eq!(code(&answer), (400, json!("context_length_exceeded")));
        let error = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(error.contains("maximum context length is 256 tokens"), "{error}");
    }
    // A second on a quiet machine; the work that is avoided takes minutes here.
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    over.store(true, Ordering::Relaxed);
    let peak = peak.join().unwrap().saturating_sub(rest);
    println!("sixteen prompts took {took:?} and {} KiB over rest", peak >> 10);
    assert!(peak < 300 << 20, "{} MiB over rest", peak >> 20);
}

#[tokio::test]
async fn what_cannot_fit_is_told_by_its_length() {
    let (_served, addr) = babbling().await;
    let chat = |content: &str| json!({"model": "bard", "messages": [{"role": "user", "content": content}]});
    let text = |prompt: Value| json!({"model": "bard", "prompt": prompt});
    let words = "word ".repeat(100_000);
    let (short, ids) = ("word ".repeat(4000), vec![7; 300]);
    let table = [
        (CHAT, chat(&words)),
        (TEXT, text(json!(words))),
        (TEXT, text(json!(["x", words]))),
        (CHAT, chat(&short)),
        (TEXT, text(json!(short))),
        (TEXT, text(json!(ids))),
        (TEXT, text(json!([[7], ids]))),
    ];
    for (path, body) in table {
        let answer = post(addr, path, &body).await;
        assert_eq!(code(&answer), (400, json!("context_length_exceeded")), "{}", answer.text);
    }
    // What fits is served, however long its tokens are: these have ten bytes each.
    let names = "CORIOLANUS".repeat(250);
    let served = post(addr, TEXT, &json!({"model": "bard", "prompt": names, "max_tokens": 1})).await;
    assert_eq!(served.status, 200, "{}", served.text);
}

#[tokio::test]
async fn more_prompts_than_there_is_room_for_are_not_read() {
    let (_served, addr) = babbling().await;
    let answer = post(addr, TEXT, &json!({"model": "bard", "prompt": vec!["x"; 50_000]})).await;
    assert_eq!(code(&answer), (400, json!("invalid_value")));
    assert!(answer.text.contains("at most 8 sequences"), "{}", answer.text);
}

#[tokio::test]
async fn bodies_of_a_million_values_are_not_parsed() {
    let (_served, addr) = babbling().await;
    let prefix = r#"{"model": "bard", "messages": "#;
    let many = format!("{prefix}[{}1]}}", "1,".repeat(300_000));
    let strings = format!("{prefix}[{}\"\"]}}", "\"\",".repeat(300_000));
    let lists = format!("{prefix}[{}[]]}}", "[],".repeat(300_000));
    let objects = format!("{prefix}[{}{{}}]}}", "{\"\":1},".repeat(150_000));
    for body in [many, strings, lists, objects] {
        let answer = send(addr, "POST", CHAT, &JSON, body).await;
        assert_eq!(code(&answer), (400, json!("too_many_values")));
    }
    let deep = send(addr, "POST", CHAT, &JSON, "[".repeat(60_000)).await;
    assert_eq!(code(&deep), (400, json!("invalid_json")));
}

#[tokio::test]
async fn unfinished_bodies_take_no_more_than_their_budget() {
    let (_served, addr) = with(|options| options.body_budget = 4 << 20).await;
    let head = "host: localhost\r\ncontent-type: application/json\r\ncontent-length: 1300000";
    let head = format!("POST {TEXT} HTTP/1.1\r\n{head}\r\n\r\n");
    let mut open = Vec::new();
    for _ in 0..6 {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        // All but the last byte.
        stream.write_all(&vec![b' '; 1_299_999]).await.unwrap();
        open.push(stream);
    }
    let long = json!({"model": "bard", "prompt": "word ".repeat(180_000)}).to_string();
    eventually("used up", || async {
        let answer = send(addr, "POST", TEXT, &JSON, long.clone()).await;
        let busy = answer.status == 503;
        if busy {
            assert_eq!(answer.json()["error"]["code"], "server_busy");
            assert!(answer.headers.contains_key("retry-after"));
        }
        busy
    })
    .await;
    let short = json!({"model": "bard", "prompt": "x", "max_tokens": 1});
    assert_eq!(post(addr, TEXT, &short).await.status, 200, "short requests have a part of their own");
    drop(open);
    eventually("given back", || async { send(addr, "POST", TEXT, &JSON, long.clone()).await.status == 400 }).await;
}

#[tokio::test]
async fn a_body_is_heard_out_and_asked_for_only_where_it_can_be_taken() {
    let (_served, addr) = babbling().await;
    // Clients that speak first and listen then get an answer, not a reset.
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let head = "host: localhost\r\ncontent-type: application/json\r\nconnection: close";
    stream
        .write_all(format!("POST {TEXT} HTTP/1.1\r\n{head}\r\ncontent-length: 20000000\r\n\r\n").as_bytes())
        .await
        .unwrap();
    stream.write_all(&vec![b' '; 20_000_000]).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    // Those that wait to be asked are not.
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let head = format!("{head}\r\nexpect: 100-continue\r\ncontent-length: 20000000");
    stream.write_all(format!("POST {TEXT} HTTP/1.1\r\n{head}\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[tokio::test]
async fn a_tokenizer_that_takes_too_long_is_waited_for_no_more() {
    let mut setup = Setup { queue: 60, ..Setup::default() };
    setup.options.reading_timeout = Duration::from_millis(1);
    let (_served, addr) = start(setup, babble((300..900).collect())).await;
    // Sixty-four prompts of 250 tokens.
    let prompts = vec!["CORIOLANUS".repeat(250); 64];
    let answer = post(addr, TEXT, &json!({"model": "bard", "prompt": prompts, "max_tokens": 1})).await;
    assert_eq!(code(&answer), (400, json!("tokenizing_timeout")), "{}", answer.text);
}
