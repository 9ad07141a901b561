//! A model from strangers: its template may end its own conversation, and nothing else; its files are looked at before
//! anything is served.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use common::{Running, client::address, command, failure, model, wish_from};
use serde_json::{Value, json};

/// What a template can do that no count of its steps shows.
const TEMPLATE: &str = "{% set said = messages[0].content %}\
    {% if messages[0].role == 'system' %}{{ raise_exception('this chat template takes no system message') }}{% endif %}\
    {% if said == 'deep' %}{% set ns = namespace(x=[1]) %}{% for i in range(20000) %}{% set ns.x = [ns.x] %}{% endfor %}\
    {{ ns.x | tojson }}\
    {% elif said == 'wide' %}{{ '{:>4000000000}'.format(3) }}\
    {% elif said == 'doubled' %}{% set ns = namespace(x=[1, 2]) %}{% for i in range(40) %}{% set ns.x = ns.x + ns.x %}\
    {% endfor %}{{ ns.x | tojson }}\
    {% else %}{{ said }}\n{% endif %}";

/// The bundled model with another `tokenizer_config.json`.
fn with_template(folder: &Path, template: &str) {
    for file in ["config.json", "generation_config.json", "tokenizer.json", "model.safetensors"] {
        fs::copy(model().join(file), folder.join(file)).unwrap();
    }
    let config = json!({"chat_template": template, "eos_token": "<|end_of_text|>", "bos_token": "<|begin_of_text|>"});
    fs::write(folder.join("tokenizer_config.json"), config.to_string()).unwrap();
}

/// The status and the body of an answer to one message.
fn say(address: &str, role: &str, content: &str) -> (u16, Value) {
    let body =
        json!({"model": "bard", "max_tokens": 4, "temperature": 0, "messages": [{"role": role, "content": content}]});
    let body = body.to_string();
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(
        socket,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
}

/// The most memory that a process ever had, in MiB.
fn peak(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}

#[test]
fn a_hostile_template_ends_its_own_conversation_alone() {
    let folder = tempfile::tempdir().unwrap();
    let foreign = folder.path().join("model");
    fs::create_dir(&foreign).unwrap();
    with_template(&foreign, TEMPLATE);
    let file = wish_from(folder.path(), &format!("file://{}", foreign.display()), "Raw", &[9000]);
    let mut up = Running::start(&["up", "-v", "--port", "0", "-f", &file]);
    let address = address(&up.wait_for("serving bard at"));
    let (status, first) = say(&address, "user", "ROMEO:");
    assert_eq!(status, 200, "{first}");
    for bomb in ["deep", "wide", "doubled", "deep"] {
        let begun = Instant::now();
        let (status, body) = say(&address, "user", bomb);
        assert_eq!((status, body["error"]["code"].as_str()), (400, Some("chat_template_error")), "{bomb}: {body}");
        assert!(begun.elapsed() < Duration::from_secs(40), "{bomb} took {:?}", begun.elapsed());
        let (status, again) = say(&address, "user", "ROMEO:");
        assert_eq!((status, &again["choices"]), (200, &first["choices"]), "after {bomb}");
    }
    assert!(peak(up.child.id()) < 400, "{} MiB", peak(up.child.id()));

    // A refusal is shown as it is: nobody asks again without the person's system message.
    let url = format!("http://{address}");
    let mut chat = command(&["chat", "--url", &url, "--system", "Be brief", "--max-tokens", "4"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    chat.stdin.take().unwrap().write_all(b"Hark\n").unwrap();
    let output = chat.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{said}");
    assert!(said.contains("takes no system message") && !said.contains("continues your text"), "{said}");
}

#[test]
fn inspection_finds_all_that_serving_would() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    with_template(folder.path(), "{{ messages }}");
    assert!(common::lime(&["inspect", path]).status.success());
    fs::write(folder.path().join("generation_config.json"), r#"{"repetition_penalty": 1.1}"#).unwrap();
    let noted = common::lime(&["inspect", path]);
    let noted = String::from_utf8(noted.stderr).unwrap();
    assert!(noted.contains("asks for repetition_penalty 1.1, which is not applied"), "{noted}");

    with_template(folder.path(), "{% if %}");
    fs::write(folder.path().join("generation_config.json"), r#"{"temperature": "hot"}"#).unwrap();
    fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    let all = failure(&["inspect", path]);
    for fault in ["tokenizer.json is missing", "chat template: does not compile", "\"temperature\" must be a number"] {
        assert_eq!(all.matches(fault).count(), 1, "{fault} once in: {all}");
    }
    with_template(folder.path(), "{{ messages }}");
    let broken = fs::read_to_string(folder.path().join("config.json")).unwrap().replace("hidden_size", "hidden_sighs");
    fs::write(folder.path().join("config.json"), broken).unwrap();
    let config = failure(&["inspect", path]);
    assert_eq!(config.matches("hidden_sighs").count(), 1, "one fault, named once: {config}");
}

#[test]
fn files_that_are_none_are_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    with_template(folder.path(), "{{ messages }}");
    for file in ["config.json", "tokenizer.json", "generation_config.json", "tokenizer_config.json"] {
        let path = folder.path().join(file);
        let kept = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let said = failure(&["inspect", folder.path().to_str().unwrap()]);
        assert!(said.contains(file) && said.contains("it is a pipe, not a regular file"), "{said}");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        let said = failure(&["inspect", folder.path().to_str().unwrap()]);
        assert!(said.contains(file) && said.contains("it is a device"), "{said}");
        fs::remove_file(&path).unwrap();
        fs::write(&path, kept).unwrap();
    }
    let said = failure(&["plan", "-f", "/dev/zero"]);
    assert!(said.contains("/dev/zero") && said.contains("it is a device"), "{said}");
}
