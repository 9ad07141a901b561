//! One request, one trace: what a collector hears of the gateway and of every worker, which are processes of their own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::{Arc, Mutex},
};

use common::{Running, client, wish};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
    trace::v1::Span,
};
use serde_json::json;
use tonic::{Request, Response, Status};

/// What a client that traces its own work sends.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A collector that keeps everything, with the service that each span is of.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<(String, Span)>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut kept = self.0.lock().unwrap();
        for of_process in request.into_inner().resource_spans {
            let resource = of_process.resource.unwrap_or_default();
            let service = resource.attributes.iter().find(|it| it.key == "service.name").unwrap();
            let service = text(service.value.as_ref().unwrap().value.as_ref().unwrap());
            let spans = of_process.scope_spans.into_iter().flat_map(|scope| scope.spans);
            kept.extend(spans.map(|span| (service.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Listens for as long as the test runs; gives where.
    fn start(&self) -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let collector = self.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
                let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(collector));
                server.serve_with_incoming(incoming).await.unwrap();
            });
        });
        format!("http://{address}")
    }

    fn spans(&self) -> Vec<(String, Span)> {
        self.0.lock().unwrap().clone()
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    }
}

fn attribute(span: &Span, name: &str) -> String {
    let found = span.attributes.iter().find(|it| it.key == name).unwrap_or_else(|| panic!("no {name} in {span:?}"));
    text(found.value.as_ref().unwrap().value.as_ref().unwrap())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Asks for a completion with further header lines, and reads the whole answer.
fn ask(address: &str, headers: &str) -> String {
    let body =
        json!({ "model": "bard", "prompt": "ROMEO:\n", "max_tokens": 20, "seed": 11, "temperature": 0.8 }).to_string();
    let mut socket = TcpStream::connect(address).unwrap();
    write!(
        socket,
        "POST /v1/completions HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n{headers}\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    body[body.find("\"text\"").unwrap()..].split("\",").next().unwrap().to_owned()
}

#[test]
fn a_collector_hears_of_the_gateway_and_of_every_worker_in_one_trace() {
    let collector = Collector::default();
    let url = collector.start();
    let folder = tempfile::tempdir().unwrap();
    let file = wish(folder.path(), &[3000, 3500, 4000]);
    let mut up =
        Running::start(&["up", "-v", "--port", "0", "-f", &file, "--otlp-endpoint", &url, "--trace-ratio", "0"]);
    let address = client::address(&up.wait_for("serving bard at"));
    let untraced = ask(&address, "");
    let traced = ask(&address, &format!("traceparent: 00-{TRACE}-{PARENT}-01\r\n"));
    assert_eq!(traced, untraced, "to be watched changes no answer");
    ask(&address, &format!("traceparent: 00-{}-{PARENT}-00\r\n", TRACE.replace('4', "5")));
    // Whoever ends sends what is still to be sent.
    up.signal("INT");
    assert_eq!(up.end().0, Some(0));
    let spans = collector.spans();
    let traces: BTreeSet<String> = spans.iter().map(|(_, span)| hex(&span.trace_id)).collect();
    assert_eq!(traces, BTreeSet::from([TRACE.to_owned()]), "the others were not asked for");

    let whole: Vec<&Span> =
        spans.iter().map(|(_, span)| span).filter(|span| hex(&span.parent_span_id) == PARENT).collect();
    let [whole] = whole[..] else { panic!("{whole:?}") };
    assert_eq!(whole.name, "/v1/completions");
    assert_eq!(attribute(whole, "http.response.status_code"), "200");
    assert_eq!(attribute(whole, "gen_ai.request.model"), "bard");
    assert_eq!(attribute(whole, "gen_ai.usage.output_tokens"), "20");
    let parts: Vec<&(String, Span)> = spans.iter().filter(|(_, span)| span.parent_span_id == whole.span_id).collect();
    assert_eq!(parts.len() + 1, spans.len(), "everything else is a part of it");
    let of_gateway: BTreeSet<&str> =
        parts.iter().filter(|(service, _)| service == "lime-gateway").map(|(_, span)| span.name.as_str()).collect();
    assert_eq!(of_gateway, BTreeSet::from(["until the first token", "the other tokens"]));
    let of_workers = || parts.iter().filter(|(service, _)| service == "lime-worker").map(|(_, span)| span);
    let devices: BTreeSet<String> = of_workers().map(|span| attribute(span, "lime.device")).collect();
    assert_eq!(devices, ["d0", "d1", "d2"].map(str::to_owned).into());
    for span in of_workers() {
        assert_eq!(span.name, "pass");
        assert!(span.start_time_unix_nano >= whole.start_time_unix_nano, "{span:?}");
        assert!(span.end_time_unix_nano <= whole.end_time_unix_nano, "{span:?}");
    }
    // The prompt's pass and that of the sixteenth token, each by two segments on every device and at the head.
    let passes: BTreeSet<String> = of_workers().map(|span| attribute(span, "lime.pass")).collect();
    assert_eq!(passes.len(), 2, "{passes:?}");
}

#[test]
fn a_collector_that_is_away_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let file = wish(folder.path(), &[16384]);
    let mut up = Running::start(&["up", "-v", "--port", "0", "-f", &file, "--otlp-endpoint", "http://127.0.0.1:9"]);
    let address = client::address(&up.wait_for("serving bard at"));
    ask(&address, "");
    up.signal("INT");
    assert_eq!(up.end().0, Some(0));
    let wrong = common::failure(&["up", "-f", &file, "--otlp-endpoint", "127.0.0.1:4317"]);
    assert!(wrong.contains("http://HOST:4317"), "{wrong}");
}
