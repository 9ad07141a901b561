//! The real thing under a real kill: `lime up`, a streamed answer, SIGKILL to a worker in the middle of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
};

use common::{Running, client, root, signal, wish};

/// A ring of three worker processes, its address and its workers' process numbers.
fn serving(folder: &Path) -> (Running, String, Vec<u32>) {
    let file = wish(folder, &[3000, 3500, 4000]);
    let mut up = Running::start(&["up", "-v", "--port", "0", "-f", &file]);
    let line = up.wait_for("serving bard at");
    let (address, workers) = (client::address(&line), client::workers(&up.heard));
    (up, address, workers)
}

#[test]
fn an_answer_goes_on_when_any_worker_is_killed_in_the_middle_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut up, address, mut workers) = serving(folder.path());
    assert_eq!(workers.len(), 3, "{}", up.heard);
    let stream = |between: &mut dyn FnMut(usize)| client::stream(&address, 200, between).unwrap();
    let undisturbed = stream(&mut |_| {});
    assert!(undisturbed.len() > 200, "{undisturbed:?}");
    assert_eq!(stream(&mut |_| {}), undisturbed, "a seed fixes the answer");
    for worker in &mut workers {
        let process = *worker;
        let mut events_after_the_kill = 0;
        let text = stream(&mut |count| match count {
            7 => signal(process, "KILL"),
            8.. => events_after_the_kill += 1,
            _ => {}
        });
        assert!(events_after_the_kill > 20, "the worker was killed in the middle");
        assert_eq!(text, undisturbed, "after the death of process {process}");
        let line = up.wait_for(": process ");
        *worker = client::workers(&line)[0];
        up.wait_for("the ring is back");
    }
    let mut metrics = TcpStream::connect(&address).unwrap();
    write!(metrics, "GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    metrics.read_to_string(&mut page).unwrap();
    assert!(page.lines().any(|line| line == "lime_recoveries_total 3"), "{page}");
    up.signal("INT");
    assert_eq!(up.end().0, Some(0));
}

#[test]
fn an_answer_goes_on_when_a_worker_hangs_in_the_middle_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut up, address, workers) = serving(folder.path());
    let undisturbed = client::stream(&address, 100, &mut |_| {}).unwrap();
    let stop = |count| {
        if count == 7 {
            signal(workers[1], "STOP");
        }
    };
    let text = client::stream(&address, 100, &mut { stop }).unwrap();
    assert_eq!(text, undisturbed);
    let line = up.wait_for("it has not answered for");
    assert!(line.contains("starting it again"), "{line}");
    up.wait_for("the ring is back");
    common::wait_until_gone(&workers[1..2]);
    up.signal("INT");
    assert_eq!(up.end().0, Some(0));
}

#[test]
fn a_device_whose_worker_fails_too_often_is_done_without() {
    let folder = tempfile::tempdir().unwrap();
    let file = wish(folder.path(), &[16384, 16384]);
    let text = std::fs::read_to_string(&file).unwrap();
    let budget = text.replace("nodes: { minCount: 2 }", "nodes: { minCount: 1 }\n  failure: { maxRestarts: 0 }");
    std::fs::write(&file, budget).unwrap();
    let mut up = Running::start(&["up", "-v", "--port", "0", "-f", &file]);
    let address = client::address(&up.wait_for("serving bard at"));
    let first = client::workers(&up.heard);
    assert_eq!(first.len(), 1, "one of the two is enough: {}", up.heard);
    let undisturbed = client::stream(&address, 100, &mut |_| {}).unwrap();
    let kill = |count| {
        if count == 7 {
            signal(first[0], "KILL");
        }
    };
    let text = client::stream(&address, 100, &mut { kill }).unwrap();
    assert_eq!(text, undisturbed, "the other device goes on with the answer");
    up.wait_for("is looked for");
    let second = client::workers(&up.wait_for(": process "));
    up.wait_for("the ring is back");
    // And where there is none, it ends with every reason.
    signal(second[0], "KILL");
    up.wait_for("there is no plan without");
    for device in ["d0", "d1"] {
        assert!(up.heard.contains(&format!("worker {device} failed once, and maxRestarts is 0")), "{}", up.heard);
    }
    assert_eq!(up.end().0, Some(1));
}

#[test]
fn the_official_client_is_content_with_a_real_ring() {
    let folder = tempfile::tempdir().unwrap();
    let (up, address, _) = serving(folder.path());
    let run = Command::new("bash")
        .arg(root().join("tests/openai/run.sh"))
        .env("LIME_BASE_URL", format!("http://{address}/v1"))
        .stdin(Stdio::null())
        .output();
    match run {
        Ok(output) => {
            let said =
                format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            println!("{said}");
            assert!(output.status.success(), "{said}");
        }
        Err(fault) => println!("skipped: bash cannot be run: {fault}"),
    }
    up.signal("INT");
    assert_eq!(up.end().0, Some(0));
}
