//! Visits against an API server that fails: a mock of ours, which answers as each test says.

// Helpers of tests stand outside of what the lint takes for tests.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use clap::Parser as _;
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use kube::{
    Client, Resource as _,
    client::Body,
    runtime::{
        controller::Action,
        events::{Recorder, Reporter},
        reflector::{self, store::Writer},
    },
};
use lime_api::LimeDeployment;
use lime_operator::{
    build::Kind, client, context::Context, leader::Leadership, reconcile, settings::Settings, world::World,
};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

type Log = Arc<Mutex<Vec<(Method, String)>>>;

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    settings: Settings,
}

/// An API server that answers with `answer(method, path)`: a code, and a body of its own or the one that was sent.
fn server(answer: impl Fn(&Method, &str) -> (u16, Option<Value>) + Send + 'static) -> (Client, Log) {
    let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let log = Log::default();
    let seen = log.clone();
    tokio::spawn(async move {
        while let Some((request, send)) = handle.next_request().await {
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            seen.lock().unwrap().push((method.clone(), path.clone()));
            let sent = request.into_body().collect().await.unwrap().to_bytes();
            let (code, body) = answer(&method, &path);
            let body = body.unwrap_or_else(|| match serde_json::from_slice::<Value>(&sent) {
                Ok(mut echo) if code < 300 => {
                    echo["metadata"]["resourceVersion"] = "7".into();
                    // A status comes back with the rest of its object, as the API server does it.
                    if path.ends_with("/status") && echo["spec"].is_null() {
                        echo["spec"] = json!({ "model": { "source": "file:///models/m" } });
                    }
                    echo
                }
                _ => json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": if code == 404 { "NotFound" } else { "Test" }, "message": "no", "code": code }),
            });
            let response = Response::builder().status(code).header("content-type", "application/json");
            send.send_response(response.body(Body::from(body.to_string().into_bytes())).unwrap());
        }
    });
    (Client::new(service, "llm"), log)
}

/// A context whose API server answers so.
fn context(
    leadership: Leadership,
    answer: impl Fn(&Method, &str) -> (u16, Option<Value>) + Send + 'static,
) -> (Arc<Context>, Log) {
    let (client, log) = server(answer);
    let owned: BTreeMap<_, _> =
        Kind::ALL.into_iter().map(|kind| (kind, Writer::new(kind.resource()).as_reader())).collect();
    let world = World {
        deployments: reflector::store().0,
        plans: reflector::store().0,
        profiles: reflector::store().0,
        nodes: reflector::store().0,
        pods: reflector::store().0,
        jobs: reflector::store().0,
        all_pods: reflector::store().0,
        leases: reflector::store().0,
        heard: lime_operator::heartbeats::Heartbeats::default(),
        missing: lime_operator::missing::Missing::default(),
        owned,
    };
    let settings = Cli::parse_from(["test"]).settings;
    let recorder = Recorder::new(client.clone(), Reporter { controller: "test".into(), instance: None });
    (Arc::new(Context::new(client, world, settings, leadership, recorder)), log)
}

fn deployment() -> Arc<LimeDeployment> {
    let mut deployment: LimeDeployment = serde_json::from_value(json!({
        "apiVersion": lime_api::API_VERSION, "kind": "LimeDeployment",
        "metadata": { "name": "m", "namespace": "llm", "generation": 1 },
        "spec": { "model": { "source": "file:///models/m" } },
    }))
    .unwrap();
    deployment.meta_mut().uid = Some("uid-m".into());
    Arc::new(deployment)
}

fn writes(log: &Log) -> Vec<String> {
    let log = log.lock().unwrap();
    log.iter().filter(|(method, _)| *method != Method::GET).map(|(_, path)| path.clone()).collect()
}

/// Absent things are absent, writes succeed.
fn healthy(method: &Method, _: &str) -> (u16, Option<Value>) {
    if method == Method::GET { (404, None) } else { (200, None) }
}

#[tokio::test]
async fn a_replica_without_the_lease_asks_and_writes_nothing() {
    let (context, log) = context(Leadership::default(), healthy);
    reconcile::reconcile(deployment(), context).await.unwrap();
    assert!(log.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_first_visit_inspects_and_writes_one_status() {
    let (context, log) = context(Leadership::always(), healthy);
    reconcile::reconcile(deployment(), context.clone()).await.unwrap();
    let written = writes(&log);
    assert_eq!(written.len(), 2, "{written:?}");
    assert!(written[0].contains("/jobs/m-inspect-"), "{written:?}");
    assert!(written[1].ends_with("/limedeployments/m/status"), "{written:?}");
}

#[tokio::test]
async fn what_another_operator_looks_after_is_left_alone_while_that_one_lives() {
    let named = || {
        let mut deployment = (*deployment()).clone();
        let operator = Some("elsewhere".to_owned());
        deployment.status = Some(lime_api::LimeDeploymentStatus { operator, ..Default::default() });
        Arc::new(deployment)
    };
    let lease = |holder: &str| {
        let spec = json!({ "holderIdentity": holder, "renewTime": "2020-01-01T00:00:00.000000Z" });
        json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {}, "spec": spec })
    };
    // Its clock is years behind: what counts is that it is seen to be renewed.
    for (holder, left_alone) in [("theirs", true), ("", false)] {
        let answer =
            move |method: &Method, path: &str| match path.contains("/namespaces/elsewhere/leases/lime-operator") {
                true => (200, Some(lease(holder))),
                false => healthy(method, path),
            };
        let (context, log) = context(Leadership::always(), answer);
        reconcile::reconcile(named(), context).await.unwrap();
        let written = writes(&log);
        assert_eq!(written.iter().all(|path| path.contains("/events")), left_alone, "{holder:?}: {written:?}");
        assert!(!written.is_empty(), "somebody is told");
    }
    // With no Lease at all there is nobody.
    let (context, log) = context(Leadership::always(), healthy);
    reconcile::reconcile(named(), context).await.unwrap();
    assert!(writes(&log).iter().any(|path| path.ends_with("/limedeployments/m/status")));
}

#[tokio::test]
async fn errors_are_borne_with_longer_and_longer_waits() {
    let (context, log) = context(Leadership::always(), |_, _| (500, None));
    for _ in 0..3 {
        let error = reconcile::reconcile(deployment(), context.clone()).await.unwrap_err();
        let _ = reconcile::retry(deployment(), &error, context.clone());
    }
    assert_eq!(context.recall("uid-m").failures, 3);
    assert_eq!(writes(&log), Vec::<String>::new());
    let mut registry = Registry::default();
    context.metrics.register(&mut registry, true, &BTreeMap::new(), &BTreeMap::new());
    let figures = lime_metrics::text(&registry);
    assert!(figures.contains("lime_operator_reconcile_errors_total{reason=\"api\"} 3"), "{figures}");
}

#[tokio::test]
async fn a_refused_object_is_remembered_a_failed_write_is_an_error_and_a_conflict_of_the_status_is_none() {
    // Pod security, a quota, a missing right, or a value of the template that nobody knows: said in the conditions, which the next visit
    // writes at once.
    for code in [403, 422] {
        let refused = move |method: &Method, path: &str| match path.contains("/jobs/") {
            true => (code, None),
            false => healthy(method, path),
        };
        let (refusing, _) = context(Leadership::always(), refused);
        let action = reconcile::reconcile(deployment(), refusing.clone()).await.unwrap();
        assert_eq!(action, Action::requeue(Duration::from_secs(1)), "{code}");
        let remembered = refusing.recall("uid-m").refused;
        assert_eq!(remembered.into_values().collect::<Vec<_>>(), ["no"], "{code}");
    }

    let failing = |method: &Method, path: &str| match path.contains("/jobs/") {
        true => (500, None),
        false => healthy(method, path),
    };
    let (failing, log) = context(Leadership::always(), failing);
    let error = reconcile::reconcile(deployment(), failing).await.unwrap_err();
    assert!(error.to_string().contains("API server"), "{error}");
    assert!(writes(&log).iter().all(|path| !path.ends_with("/status")), "the status tells of what was done");

    let conflict = |method: &Method, path: &str| match path.ends_with("/status") {
        true => (409, None),
        false => healthy(method, path),
    };
    let (conflicting, _) = context(Leadership::always(), conflict);
    reconcile::reconcile(deployment(), conflicting).await.unwrap();
}

#[tokio::test]
async fn answers_that_are_no_objects_are_errors() {
    let (context, _) = context(Leadership::always(), |_, _| (200, Some(json!(["garbage", 3]))));
    assert!(reconcile::reconcile(deployment(), context).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_fails_for_the_moment_is_asked_again_and_what_is_refused_is_not() {
    use k8s_openapi::api::core::v1::ConfigMap;
    let get = async |codes: &'static [u16]| {
        let asked = Arc::new(Mutex::new(0));
        let (plain, log) = server(move |_, _| {
            let mut asked = asked.lock().unwrap();
            *asked += 1;
            (codes[*asked - 1], Some(json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" } })))
        });
        let maps: kube::Api<ConfigMap> = kube::Api::namespaced(client::careful(plain, Leadership::default()), "llm");
        let found = maps.get("a").await.is_ok();
        (found, log.lock().unwrap().len())
    };
    assert_eq!(get(&[503, 429, 200]).await, (true, 3));
    assert_eq!(get(&[500, 502, 503, 504, 200]).await, (false, 4));
    assert_eq!(get(&[403]).await, (false, 1));
}

#[tokio::test]
async fn a_replica_that_lost_the_lease_reads_but_a_write_does_not_leave_it() {
    use k8s_openapi::api::core::v1::ConfigMap;
    let (plain, log) = server(|_, _| (200, Some(json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": {} }))));
    let maps: kube::Api<ConfigMap> = kube::Api::namespaced(client::careful(plain, Leadership::default()), "llm");
    maps.get("a").await.unwrap();
    let error = maps.delete("a", &kube::api::DeleteParams::default()).await.unwrap_err();
    assert!(error.to_string().contains("does not hold the Lease"), "{error}");
    assert_eq!(writes(&log), Vec::<String>::new());
}
