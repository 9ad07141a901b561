//! A cut between two workers that are both well: the gateway finds out that it is the way between them, and names both ends.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use lime_gateway::{Event, GatewayConfig, Orders};
use lime_plan::{Dtype, ServingLimits};
use lime_ring::{Peer, Transport};
use lime_tests::{
    fixtures,
    ring::{Workers, card, even_plan},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp},
    sync::{mpsc, watch},
    time::timeout,
};

const SERVING: ServingLimits =
    ServingLimits { max_context_tokens: 64, max_concurrent_requests: 1, prefill_chunk_tokens: 16 };
const PATIENCE: Duration = Duration::from_secs(60);

/// Carries bytes to `to` and back. What is connected while `cuts` counts up says nothing any more, and stays open; who connects
/// afterwards gets through.
async fn cable(to: SocketAddr, cuts: watch::Receiver<u32>) -> Result<SocketAddr> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let here = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = TcpStream::connect(to).await else { return };
            let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
            let mut cut = cuts.clone();
            cut.mark_unchanged();
            tokio::spawn(carry(near_read, far_write, cut.clone()));
            tokio::spawn(carry(far_read, near_write, cut));
        }
    });
    Ok(here)
}

async fn carry(mut from: tcp::OwnedReadHalf, mut to: tcp::OwnedWriteHalf, mut cut: watch::Receiver<u32>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        tokio::select! {
            biased;
            _ = cut.changed() => std::future::pending().await,
            read = from.read(&mut buffer) => match read {
                Ok(count @ 1..) if to.write_all(&buffer[..count]).await.is_ok() => {}
                _ => return,
            },
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ends_of_a_cut_are_named_and_the_ring_comes_back_with_the_link() -> Result<()> {
    let model = fixtures::bard();
    let plan = even_plan(&card(&model)?, 3, 1, SERVING, Dtype::F16)?;
    let workers = Workers::start(&model, 3, 1).await?;
    let (cut, cuts) = watch::channel(0);
    let middle = workers.uris()[1].trim_start_matches("http://").parse()?;
    let uris = [workers.uris()[0].clone(), format!("http://{}", cable(middle, cuts).await?), workers.uris()[2].clone()];
    let peer =
        |(device, uri): (&lime_plan::DevicePlan, &String)| Peer { device: device.name.clone(), uri: uri.clone() };
    let peers = plan.devices.iter().zip(&uris).map(peer).collect();
    let (_publish, orders) = watch::channel(Orders::new(plan, peers));
    let (events, mut happened) = mpsc::unbounded_channel();
    let config = GatewayConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        orders,
        transport: Transport::Plaintext,
        model,
        template_program: None,
        served_name: "bard".into(),
        access: lime_gateway::Access::default(),
        queue_limit: 1,
    };
    let gateway = lime_gateway::start(config, lime_gateway::Options::default(), events).await?;
    let mut until = async |wanted: &dyn Fn(&Event) -> bool| -> Result<Event> {
        let search = async {
            loop {
                let event = happened.recv().await.context("the gateway ended")?;
                if wanted(&event) {
                    return Ok(event);
                }
            }
        };
        timeout(PATIENCE, search).await?
    };
    until(&|event| matches!(event, Event::Ready { .. })).await?;
    cut.send_modify(|cuts| *cuts += 1);
    let lost = until(&|event| matches!(event, Event::WorkerLost { .. })).await?;
    let Event::WorkerLost { reason, .. } = &lost else { anyhow::bail!("{lost:?}") };
    // Either end may be the first to notice.
    let ends = ["from device \"device-0\" to device \"device-1\"", "from device \"device-1\" to device \"device-0\""];
    ensure!(ends.iter().any(|ends| reason.contains(ends)), "{reason}");
    until(&|event| matches!(event, Event::Recovered { .. })).await?;
    gateway.stop().await;
    workers.stop().await
}
