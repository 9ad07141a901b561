//! Clients that keep no rule: they trust anybody's certificate and show what they like.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Result;
use lime_ring::{SERVER_NAME, status};
use lime_tests::certificates::{Authority, Member, Validity};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{join, lone_worker};

/// A handshake with the worker, which is trusted, showing the certificate of `shown`; then the worker's first word.
async fn knock(
    addr: SocketAddr,
    trusted: &Member,
    shown: Option<&Member>,
    version: &'static SupportedProtocolVersion,
) -> io::Result<usize> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.authority.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match shown {
        None => config.with_no_client_auth(),
        Some(member) => {
            let chain = vec![CertificateDer::from_pem_slice(member.certificate.as_bytes()).unwrap()];
            config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(member.key.as_bytes()).unwrap()).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(addr).await?;
    let name = ServerName::try_from(SERVER_NAME).unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    Ok(stream.fill_buf().await?.len())
}

#[tokio::test]
async fn only_a_living_member_of_this_ring_is_let_in() -> Result<()> {
    let (ring, other) = (Authority::new()?, Authority::new()?);
    let joined = join(&ring.worker()?)?;
    let (worker, peer) = lone_worker(&joined.transport).await?;
    let (addr, server) = (worker.addr(), ring.worker()?);
    assert!(knock(addr, &server, Some(&ring.gateway()?), &TLS13).await? > 0, "a member is");
    let shown = [
        ("nobody's", None),
        ("another ring's", Some(other.gateway()?)),
        ("another ring's worker's", Some(other.worker()?)),
        ("an expired", Some(ring.sign("gateway.lime.internal", Validity::Past)?)),
        ("a future", Some(ring.sign("gateway.lime.internal", Validity::Future)?)),
    ];
    for (what, member) in shown {
        let refused = knock(addr, &server, member.as_ref(), &TLS13).await;
        let error = refused.expect_err(what).to_string();
        assert!(error.contains("alert"), "{what}: {error}");
    }
    let old = knock(addr, &server, Some(&ring.gateway()?), &TLS12).await.expect_err("TLS 1.2").to_string();
    assert!(old.contains("ProtocolVersion"), "{old}");
    assert_eq!(status(&joined.transport, &peer).await?.phase, "idle");
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn noise_and_silence_do_no_harm() -> Result<()> {
    let joined = join(&Authority::new()?.worker()?)?;
    let (worker, peer) = lone_worker(&joined.transport).await?;
    // As the kubelet's probes do: opened, and closed at once.
    for _ in 0..20 {
        drop(TcpStream::connect(worker.addr()).await?);
    }
    // Open and silent, more than there may be handshakes of a host's worth of fools.
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(TcpStream::connect(worker.addr()).await?);
    }
    // Less than any of them is given to speak.
    let member = timeout(Duration::from_millis(2500), status(&joined.transport, &peer)).await;
    assert_eq!(member.expect("a member is let in at once")?.phase, "idle");
    for noise in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0; 4096],
        &[0x16; 64],
        &[0x16, 3, 1, 0xff, 0xff],
    ] {
        let mut stream = TcpStream::connect(worker.addr()).await?;
        stream.write_all(noise).await?;
        stream.shutdown().await?;
        // An alert or nothing, and then the end.
        let mut answer = Vec::new();
        let ended = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await?;
        assert!(ended.is_err() || answer.len() < 64, "{answer:?}");
    }
    assert_eq!(status(&joined.transport, &peer).await?.phase, "idle");
    drop(silent);
    worker.stop().await?;
    Ok(())
}
