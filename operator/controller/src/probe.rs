//! Asks a gateway how its ring is: `GET /ready`, and the latencies of `GET /metrics`.

use std::{collections::BTreeMap, time::Duration};

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, body::Bytes};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::Deserialize;

use crate::{
    links::Ends,
    snapshot::{RingCause, RingReport},
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// Most bytes of an answer that are read.
const LONGEST_ANSWER: usize = 1 << 20;

/// Asks gateways.
#[derive(Clone, Debug)]
pub struct Probe(Client<HttpConnector, Empty<Bytes>>);

impl Default for Probe {
    fn default() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(PATIENCE));
        Self(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Ready {
    status: String,
    reason: Option<String>,
    cause: Option<Cause>,
    plan: Followed,
    requests: u64,
    devices: Vec<LoadedBytes>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cause {
    kind: String,
    from: String,
    to: String,
    device: String,
    what: String,
}

impl Cause {
    /// A cause that is known here; of a gateway that knows more the sentence alone is told.
    fn known(self) -> Option<RingCause> {
        let name = |name: String| -> String { name.chars().take(253).collect() };
        match (self.kind.as_str(), self.what.as_str()) {
            ("link", _) if self.from != self.to => Some(RingCause::Link(Ends::of(&name(self.from), &name(self.to)))),
            ("version", _) => Some(RingCause::Version(name(self.device))),
            ("weights", "diskFull") => Some(RingCause::Weights(name(self.device), "DiskFull")),
            ("weights", "damaged") => Some(RingCause::Weights(name(self.device), "DigestMismatch")),
            ("weights", "source") => Some(RingCause::Weights(name(self.device), "SourceUnreachable")),
            _ => None,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Followed {
    name: String,
    digest: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LoadedBytes {
    device: String,
    percent: i32,
}

impl Probe {
    /// What the gateway at `address` says; `None` if it says nothing.
    pub async fn ask(&self, address: &str, port: u16) -> Option<RingReport> {
        let mut report = self.pulse(address, port).await?;
        let host = host(address);
        if let Some(metrics) = self.get(&format!("http://{host}:{port}/metrics")).await {
            let text = String::from_utf8_lossy(&metrics);
            report.held = held(&text);
            if report.ready {
                report.time_per_token_microseconds = mean_microseconds(&text, "lime_time_per_output_token_seconds");
                report.time_to_first_token_microseconds = mean_microseconds(&text, "lime_time_to_first_token_seconds");
            }
        }
        Some(report)
    }

    /// The same without its figures, which its workers would be asked for.
    pub async fn pulse(&self, address: &str, port: u16) -> Option<RingReport> {
        report(&self.get(&format!("http://{}:{port}/ready", host(address))).await?)
    }

    /// How many answers the gateway at `address` has under way, if it is leaving; `None` if it says nothing, or something else.
    pub async fn leaving(&self, address: &str, port: u16) -> Option<u64> {
        let report = self.pulse(address, port).await?;
        (report.phase == "stopping").then_some(report.requests)
    }

    async fn get(&self, url: &str) -> Option<Vec<u8>> {
        let request = Request::get(url).body(Empty::new()).ok()?;
        let answer = async {
            let response = self.0.request(request).await.ok()?;
            let body = Limited::new(response.into_body(), LONGEST_ANSWER).collect().await.ok()?;
            Some(body.to_bytes().to_vec())
        };
        tokio::time::timeout(PATIENCE, answer).await.ok().flatten()
    }
}

/// An address as URLs want it.
fn host(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}

/// Reads the answer of `/ready`. Nothing in it is believed beyond its form.
fn report(body: &[u8]) -> Option<RingReport> {
    let ready: Ready = serde_json::from_slice(body).ok()?;
    let loaded: BTreeMap<String, i32> =
        ready.devices.into_iter().take(1024).map(|device| (device.device, device.percent.clamp(0, 100))).collect();
    Some(RingReport {
        plan: ready.plan.name.chars().take(253).collect(),
        digest: ready.plan.digest.chars().take(64).collect(),
        ready: ready.status == "ready",
        phase: ready.status.chars().take(40).collect(),
        requests: ready.requests,
        loaded,
        trouble: ready.reason.filter(|it| !it.trim().is_empty()).map(|reason| reason.chars().take(500).collect()),
        cause: ready.cause.and_then(Cause::known),
        ..RingReport::default()
    })
}

/// What each worker says that it holds of its node's memory.
fn held(text: &str) -> BTreeMap<String, lime_plan::Bytes> {
    const PARTS: [&str; 5] = ["pinned_bytes", "prefetch_bytes", "kv_bytes", "activation_bytes", "kept_bytes"];
    let mut sums: BTreeMap<String, lime_plan::Bytes> = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("lime_worker_")) {
        let Some((name, rest)) = line.split_once("{device=\"") else { continue };
        let Some((device, value)) = rest.split_once("\"} ") else { continue };
        let value = value.trim().parse::<f64>().ok().filter(|value| (0.0..9e18).contains(value));
        let (true, Some(value), true) = (PARTS.contains(&name), value, sums.len() < 1024) else { continue };
        let sum = sums.entry(device.chars().take(253).collect()).or_default();
        *sum = lime_plan::Bytes(sum.0.saturating_add(value as u64));
    }
    sums
}

/// The mean of a histogram or summary, in microseconds, rounded up.
fn mean_microseconds(text: &str, name: &str) -> Option<i64> {
    let value = |suffix: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(suffix)?.strip_prefix(' '))?;
        line.trim().parse::<f64>().ok().filter(|value| value.is_finite())
    };
    let (sum, count) = (value("_sum")?, value("_count")?);
    let mean = (sum / count * 1e6).ceil();
    (count > 0.0 && (0.0..1e15).contains(&mean)).then_some(mean as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_nonsense_is_not_believed() {
        let body = br#"{"status":"loading","epoch":2,"plan":{"name":"m-1","generation":7,"digest":"ab"},"devices":[{"device":"a","percent":40},{"device":"b","percent":900}],"reason":"b is away"}"#;
        let found = report(body).unwrap();
        assert!(!found.ready);
        assert_eq!((found.plan.as_str(), found.digest.as_str()), ("m-1", "ab"));
        assert_eq!(found.loaded, BTreeMap::from([("a".into(), 40), ("b".into(), 100)]));
        assert_eq!(found.trouble.as_deref(), Some("b is away"));
        assert!(report(br#"{"status":"ready"}"#).unwrap().ready);
        assert_eq!(report(br#"{"status":"loading","reason":" "}"#).unwrap().trouble, None);
        for nonsense in [&b""[..], b"no", b"[]1", b"{\"devices\":3}"] {
            assert!(report(nonsense).is_none());
        }
    }

    #[test]
    fn causes_are_kinds_and_unknown_ones_are_left_to_the_sentence() {
        let cause = |text: &str| {
            report(format!(r#"{{"status":"recovering","cause":{text}}}"#).as_bytes()).and_then(|report| report.cause)
        };
        let table = [
            (r#"{"kind":"link","from":"b","to":"a"}"#, Some(RingCause::Link(Ends::of("a", "b")))),
            (r#"{"kind":"link","from":"a","to":"a"}"#, None),
            (r#"{"kind":"version","device":"a"}"#, Some(RingCause::Version("a".into()))),
            (r#"{"kind":"weights","device":"a","what":"diskFull"}"#, Some(RingCause::Weights("a".into(), "DiskFull"))),
            (r#"{"kind":"weights","device":"a","what":"moths"}"#, None),
            (r#"{"kind":"weather","more":[1]}"#, None),
            ("null", None),
        ];
        for (text, expected) in table {
            assert_eq!(cause(text), expected, "{text}");
        }
    }

    #[test]
    fn means_come_from_sum_and_count() {
        let text = "# TYPE x histogram\nx_bucket{le=\"1\"} 3\nx_sum 0.3\nx_count 4\ny_sum NaN\ny_count 0\n";
        assert_eq!(mean_microseconds(text, "x"), Some(75_000));
        assert_eq!(mean_microseconds(text, "y"), None);
        assert_eq!(mean_microseconds(text, "z"), None);
    }

    #[test]
    fn workers_say_what_they_hold() {
        let text = "# TYPE lime_worker_kv_bytes gauge\nlime_worker_pinned_bytes{device=\"a\"} 100\n\
                    lime_worker_pinned_bytes{device=\"b\"} 7\nlime_worker_kv_bytes{device=\"a\"} 20\n\
                    lime_worker_streamed_bytes{device=\"a\"} 1000\nlime_worker_kv_bytes{device=\"b\"} -3\n\
                    lime_worker_kv_bytes{device=\"c\"} NaN\nlime_worker_kv_bytes{device=\"d 1\nlime_worker_";
        let of = |bytes| lime_plan::Bytes(bytes);
        assert_eq!(held(text), BTreeMap::from([("a".into(), of(120)), ("b".into(), of(7))]));
    }
}
