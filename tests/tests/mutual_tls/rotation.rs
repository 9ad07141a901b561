//! New certificates under a running ring.

use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context as _, Result};
use lime_ring::{RingSecurity, SERVER_NAME, Transport, connect};
use lime_tests::{
    certificates::{Authority, Member},
    fixtures,
    ring::{Workers, drive},
};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{bard_plan, join, lone_worker, sequence};

/// The certificate that the worker at `addr` shows to somebody who comes now.
async fn shown(addr: SocketAddr, client: &Member) -> Result<CertificateDer<'static>> {
    let folder = client.folder()?;
    let connector = TlsConnector::from(RingSecurity::open(folder.path())?.client());
    let stream = connector.connect(ServerName::try_from(SERVER_NAME)?, TcpStream::connect(addr).await?).await?;
    let chain = stream.get_ref().1.peer_certificates().context("no certificate")?;
    Ok(chain.first().context("an empty chain")?.clone().into_owned())
}

fn certificate_of(member: &Member) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(member.certificate.as_bytes()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotations_in_mid_stream_drop_nothing_and_serve_whoever_comes_next() -> Result<()> {
    let (mut ring, first) = (Authority::new()?, Authority::new()?.worker()?);
    let member = join(&first)?;
    let mut workers = Workers::start_over(&member.transport, &fixtures::bard(), 2).await?;
    let plan = bard_plan(2, 2)?;
    let addr: SocketAddr = workers.uris()[1].trim_start_matches("https://").parse()?;
    let mut driver = workers.configure(&plan).await?;
    let expected = drive(&mut driver, &[sequence(100)], 16).await?;

    let rotations = Arc::new(AtomicUsize::new(0));
    let counted = rotations.clone();
    let driving = tokio::spawn(async move {
        let mut rounds = 0;
        while counted.load(Ordering::Relaxed) < 6 && rounds < 200 {
            assert!(drive(&mut driver, &[sequence(100)], 16).await? == expected, "round {rounds}");
            rounds += 1;
        }
        anyhow::Ok((driver, expected))
    });
    for rotation in 1..=6 {
        // Every third time the authority is another one too.
        if rotation % 3 == 0 {
            ring = Authority::new()?;
        }
        let new = ring.worker()?;
        new.publish(member.folder.path())?;
        assert_eq!(shown(addr, &ring.gateway()?).await?, certificate_of(&new), "rotation {rotation}");
        rotations.store(rotation, Ordering::Relaxed);
    }
    let (driver, expected) = driving.await??;
    drop(driver);
    // A new epoch, whose streams are new connections, is made of new certificates alone.
    let mut driver = workers.configure(&plan).await?;
    assert!(drive(&mut driver, &[sequence(100)], 16).await? == expected);
    let stale = Authority::new()?.gateway()?;
    connect(&join(&stale)?.transport, &workers.uris()[0]).await.unwrap_err();
    drop(driver);
    workers.stop().await?;
    Ok(())
}

#[tokio::test]
async fn what_makes_no_sense_is_not_taken_and_what_follows_is() -> Result<()> {
    let ring = Authority::new()?;
    let first = ring.worker()?;
    let member = join(&first)?;
    let (worker, _) = lone_worker(&member.transport).await?;
    let client = ring.gateway()?;
    let second = ring.worker()?;
    let half = second.certificate[..second.certificate.len() / 2].to_owned();
    let senseless = [
        Member { certificate: half, ..second.clone() },
        Member { key: first.key.clone(), ..second.clone() },
        Member { authority: Authority::new()?.worker()?.authority, ..second.clone() },
        Member { key: String::new(), ..second.clone() },
    ];
    for member_of_nothing in senseless {
        member_of_nothing.publish(member.folder.path())?;
        assert_eq!(shown(worker.addr(), &client).await?, certificate_of(&first));
    }
    second.publish(member.folder.path())?;
    assert_eq!(shown(worker.addr(), &client).await?, certificate_of(&second));
    fs::remove_file(member.folder.path().join("..data"))?;
    assert_eq!(shown(worker.addr(), &client).await?, certificate_of(&second), "a folder that is gone is no news");
    first.publish(member.folder.path())?;
    assert_eq!(shown(worker.addr(), &client).await?, certificate_of(&first));
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_client_too_takes_its_new_certificate_for_the_next_connection() -> Result<()> {
    let (old, new) = (Authority::new()?, Authority::new()?);
    let client = join(&old.gateway()?)?;
    let server = join(&new.worker()?)?;
    let (worker, peer) = lone_worker(&server.transport).await?;
    connect(&client.transport, &peer.uri).await.unwrap_err();
    new.gateway()?.publish(client.folder.path())?;
    let channel = connect(&client.transport, &peer.uri).await?;
    // Its own files change again; the connection that stands knows nothing of it.
    old.gateway()?.publish(client.folder.path())?;
    let mut control = lime_ring::proto::control_client::ControlClient::new(channel);
    assert_eq!(control.status(lime_ring::proto::StatusRequest {}).await?.into_inner().phase, "idle");
    assert!(matches!(client.transport, Transport::MutualTls(_)));
    worker.stop().await?;
    Ok(())
}
