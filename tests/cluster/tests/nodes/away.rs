//! The API server is away: requests are answered all the same, and when it is back nothing has happened.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::deployed::{Deployed, PATIENCE, condition};
use crate::ring::question;

/// The API server's process, which does not move until this is dropped.
struct Stopped(String);

impl Stopped {
    fn api_server() -> Self {
        let folder = std::env::var("LIME_CLUSTER_DIR").expect("LIME_CLUSTER_DIR is not set: run make test-nodes");
        let state = std::fs::read_to_string(PathBuf::from(folder).join("state.json")).unwrap();
        let state: Value = serde_json::from_str(&state).unwrap();
        let servers = state["servers"].as_array().unwrap();
        let server = servers.iter().find(|server| server["name"] == "kube-apiserver").unwrap();
        let stopped = Self(server["pid"].to_string());
        assert!(stopped.signal("-STOP"), "the API server cannot be stopped");
        stopped
    }

    fn signal(&self, signal: &str) -> bool {
        Command::new("kill").args([signal, &self.0]).status().is_ok_and(|status| status.success())
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // It goes with the cluster, whatever becomes of this.
        let _ = self.signal("-CONT");
    }
}

/// For `LIME_API_AWAY_SECONDS` (15; five minutes have been tried).
pub(crate) fn changes_nothing(bard: &Deployed<'_>) {
    let seconds = std::env::var("LIME_API_AWAY_SECONDS").map_or(15, |text| text.parse().unwrap());
    let plan = bard.served(None);
    let (at, expected) = (bard.endpoint(), bard.ask(&question())["choices"].clone());
    let pods = || {
        let label = format!("lime.dev/deployment={}", bard.name);
        let mut uids: Vec<Value> =
            bard.list(&["pods", "-l", &label]).unwrap().iter().map(|pod| pod["metadata"]["uid"].clone()).collect();
        uids.sort_by_key(Value::to_string);
        uids
    };
    let before = pods();
    let (began, mut answered) = (Instant::now(), 0);
    let stopped = Stopped::api_server();
    while began.elapsed() < Duration::from_secs(seconds) {
        assert_eq!(crate::http::post(&at, &question()).unwrap()["choices"], expected);
        answered += 1;
        std::thread::sleep(Duration::from_secs(1));
    }
    drop(stopped);
    let back = Instant::now();
    let ready = bard.cluster.eventually("the API server answers", PATIENCE, || {
        let it = bard.object()?;
        Ok((condition(&it, "Ready").status == "True").then_some(()))
    });
    ready.unwrap();
    // Longer than an operator's Lease, and than a node that was silent is waited for.
    std::thread::sleep(Duration::from_secs(25));
    assert_eq!(bard.served(None), plan, "the plan stands");
    assert_eq!(pods(), before, "no pod went or came");
    println!(
        "the API server was away for {seconds} s: {answered} of {answered} requests were answered; {:.0} s later all is as it was",
        back.elapsed().as_secs_f64()
    );
}
