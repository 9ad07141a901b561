//! A gateway that goes on by another plan, whose workers have certificates of another authority.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use lime_gateway::{Event, GatewayConfig, Orders};
use lime_plan::Plan;
use lime_ring::Peer;
use lime_tests::{certificates::Authority, fixtures, ring::Workers};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    sync::{mpsc, watch},
    time::timeout,
};

use crate::{bard_plan, join};

/// Streams an answer; `begun` is called when some of it has come. Gives its text, and the events after that.
async fn stream(addr: std::net::SocketAddr, begun: impl AsyncFnOnce() -> Result<()>) -> Result<(String, usize)> {
    let body = json!({
        "model": "bard", "prompt": "ROMEO:", "max_tokens": 110, "temperature": 0.7, "seed": 3, "ignore_eos": true, "stream": true,
    });
    let (body, mut begun) = (body.to_string(), Some(begun));
    let mut socket = TcpStream::connect(addr).await?;
    let head =
        "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n";
    socket.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).await?;
    let (mut text, mut count, mut lines) = (String::new(), 0, BufReader::new(socket).lines());
    while let Some(line) = timeout(Duration::from_secs(60), lines.next_line()).await.context("the stream stalls")?? {
        let Some(data) = line.strip_prefix("data: ") else { continue };
        if data == "[DONE]" {
            return Ok((text, count));
        }
        let event: Value = serde_json::from_str(data)?;
        text.push_str(event["choices"][0]["text"].as_str().with_context(|| format!("no text: {data}"))?);
        count += 1;
        if let Some(begun) = (count == 7).then(|| begun.take()).flatten() {
            begun().await?;
            count = 0;
        }
    }
    bail!("the stream ended early: {text:?}")
}

fn orders(generation: u64, plan: Plan, workers: &Workers) -> Orders {
    let peer = |(device, uri): (&lime_plan::DevicePlan, String)| Peer { device: device.name.clone(), uri };
    let peers = plan.devices.iter().zip(workers.uris()).map(peer).collect();
    Orders { generation, ..Orders::new(plan, peers) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_joins_the_workers_of_a_new_plan_with_the_certificate_that_it_has_by_then() -> Result<()> {
    let (old, new) = (Authority::new()?, Authority::new()?);
    let (old_member, new_member) = (join(&old.worker()?)?, join(&new.worker()?)?);
    let front = join(&old.gateway()?)?;
    let before = Workers::start_over(&old_member.transport, &fixtures::bard(), 2).await?;
    let after = Workers::start_over(&new_member.transport, &fixtures::bard(), 3).await?;
    let (publish, receiver) = watch::channel(orders(1, bard_plan(2, 2)?, &before));
    let (events, mut happened) = mpsc::unbounded_channel();
    let config = GatewayConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        orders: receiver,
        transport: front.transport.clone(),
        model: fixtures::bard(),
        template_program: None,
        served_name: "bard".into(),
        access: lime_gateway::Access::default(),
        queue_limit: 8,
    };
    let gateway = lime_gateway::start(config, lime_gateway::Options::default(), events).await?;
    while !matches!(happened.recv().await.context("the gateway ended")?, Event::Ready { .. }) {}
    let (undisturbed, _) = stream(gateway.addr(), async || Ok(())).await?;
    let replan = async || {
        new.gateway()?.publish(front.folder.path())?;
        publish.send_replace(orders(2, bard_plan(3, 1)?, &after));
        before.stop().await
    };
    let (text, events_after) = stream(gateway.addr(), replan).await?;
    assert_eq!(text, undisturbed);
    assert!(events_after > 20, "the plan was replaced in the middle: {events_after}");
    let mut taken = 0;
    while let Ok(event) = happened.try_recv() {
        taken += u32::from(matches!(event, Event::PlanTaken { generation: 2, .. }));
    }
    assert_eq!(taken, 1);
    gateway.stop().await;
    after.stop().await
}
