//! What a member of a ring says when it does not let another side pass for a worker.

use anyhow::Result;
use lime_ring::{ConnectError, Peer, SERVER_NAME, Transport, connect, status};
use lime_tests::certificates::{Authority, Validity};

use crate::{join, lone_worker};

#[tokio::test]
async fn members_know_one_another_whatever_the_address() -> Result<()> {
    let ring = Authority::new()?;
    let (worker, peer) = lone_worker(&join(&ring.worker()?)?.transport).await?;
    for member in [ring.worker()?, ring.gateway()?] {
        assert_eq!(status(&join(&member)?.transport, &peer).await?.phase, "idle");
    }
    let by_name = Peer { uri: peer.uri.replace("127.0.0.1", "localhost"), ..peer };
    assert_eq!(status(&join(&ring.gateway()?)?.transport, &by_name).await?.epoch, 0);
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_no_worker_of_the_ring_is_refused_with_the_reason() -> Result<()> {
    let (ring, other) = (Authority::new()?, Authority::new()?);
    let gateway = join(&ring.gateway()?)?.transport;
    let table = [
        (other.worker()?, "another ring"),
        (ring.gateway()?, SERVER_NAME),
        (ring.sign("worker.lime.internal.example", Validity::Now)?, SERVER_NAME),
        (ring.sign(SERVER_NAME, Validity::Past)?, "has expired"),
        (ring.sign(SERVER_NAME, Validity::Future)?, "not valid yet"),
    ];
    for (server, reason) in table {
        let (worker, peer) = lone_worker(&join(&server)?.transport).await?;
        let error = connect(&gateway, &peer.uri).await.unwrap_err();
        let said = error.to_string();
        assert!(matches!(error, ConnectError::Refused { .. }), "{said}");
        assert!(said.contains(reason) && said.contains(&peer.uri), "{reason}: {said}");
        worker.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_client_hears_why_a_worker_does_not_let_it_in() -> Result<()> {
    let (ring, other) = (Authority::new()?, Authority::new()?);
    let (worker, peer) = lone_worker(&join(&ring.worker()?)?.transport).await?;
    // It trusts this ring, and shows what it has.
    let mut expired = ring.sign("gateway.lime.internal", Validity::Past)?;
    let error = connect(&join(&expired)?.transport, &peer.uri).await.unwrap_err().to_string();
    assert!(error.contains("our certificate") && error.contains("expired"), "{error}");
    // Both authorities in one file, as in the middle of a change of them.
    let stranger = other.gateway()?;
    expired = stranger.clone();
    expired.authority.push_str(&ring.gateway()?.authority);
    let error = connect(&join(&expired)?.transport, &peer.uri).await.unwrap_err().to_string();
    assert!(error.contains("our certificate") && error.contains("another ring"), "{error}");
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn plain_text_and_tls_do_not_mix() -> Result<()> {
    let secured = join(&Authority::new()?.worker()?)?.transport;
    let (worker, peer) = lone_worker(&secured).await?;
    let plain = Peer { uri: peer.uri.replace("https", "http"), ..peer.clone() };
    status(&Transport::Plaintext, &plain).await.unwrap_err();
    for (transport, wrong, advice) in
        [(&Transport::Plaintext, &peer, "start this process with --tls"), (&secured, &plain, "write https://")]
    {
        let error = status(transport, wrong).await.unwrap_err().to_string();
        assert!(error.contains(advice), "{error}");
    }
    assert_eq!(status(&secured, &peer).await?.phase, "idle", "it goes on after all that");
    worker.stop().await?;

    let (worker, peer) = lone_worker(&Transport::Plaintext).await?;
    let error = connect(&secured, &peer.uri.replace("http", "https")).await.unwrap_err().to_string();
    assert!(error.contains("does not speak TLS"), "{error}");
    worker.stop().await?;
    Ok(())
}
