//! The API with TLS: real clients, renewal without a restart, and no way round it.

use std::{fs, net::SocketAddr, path::Path, sync::Arc};

use http_body_util::{BodyExt as _, Full};
use hyper::{Request, body::Bytes, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use lime_ring::ServerCertificate;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion,
        pki_types::CertificateDer,
        version::{TLS12, TLS13},
    },
};

use crate::{
    client::get,
    eventually,
    fake::{Controls, Served, Setup, babble, serve},
};

/// A new certificate of `localhost`, with its key, put in the place of the old ones by renaming.
fn renew(folder: &Path) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    for (name, text) in [("tls.crt", cert.pem()), ("tls.key", signing_key.serialize_pem())] {
        fs::write(folder.join("new"), text).unwrap();
        fs::rename(folder.join("new"), folder.join(name)).unwrap();
    }
    cert.der().clone()
}

async fn serving(folder: &Path) -> (Served, SocketAddr) {
    let certificate = ServerCertificate::open(folder.join("tls.crt"), folder.join("tls.key")).unwrap();
    let setup = Setup { certificate: Some(Arc::new(certificate)), ..Setup::default() };
    let served = serve(setup, Controls::new(babble(vec![300]))).await;
    let addr = served.handle.addr();
    (served, addr)
}

/// A connection that believes `known` alone.
async fn connect(
    addr: SocketAddr,
    known: &CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
    protocols: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(known.clone()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let stream = TcpStream::connect(addr).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await
}

fn models() -> Request<Full<Bytes>> {
    Request::get("https://localhost/v1/models").header("host", "localhost").body(Full::default()).unwrap()
}

#[tokio::test]
async fn both_versions_of_http_are_agreed_on() {
    let folder = tempfile::tempdir().unwrap();
    let known = renew(folder.path());
    let (_served, addr) = serving(folder.path()).await;
    let both: &[&[u8]] = &[b"h2", b"http/1.1"];
    let stream = connect(addr, &known, &[&TLS13, &TLS12], both).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(stream.get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_3), "the better of both");
    let (mut sender, connection) = conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(sender.send_request(models()).await.unwrap().status(), 200);

    for protocols in [&[&b"http/1.1"[..]][..], &[]] {
        let stream = connect(addr, &known, &[&TLS12], protocols).await.unwrap();
        let (mut sender, connection) = conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let answer = sender.send_request(models()).await.unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&body).contains("bard"));
    }
}

#[tokio::test]
async fn nobody_gets_round_it() {
    let folder = tempfile::tempdir().unwrap();
    renew(folder.path());
    let (_served, addr) = serving(folder.path()).await;
    // Plain HTTP gets no word of HTTP, of either version.
    for request in ["GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        // At most an alert of TLS.
        assert!(answer.len() <= 7 && !answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer));
    }
    // Another server's certificate is not taken for this one's.
    let other = tempfile::tempdir().unwrap();
    let unknown = renew(other.path());
    assert!(connect(addr, &unknown, &[&TLS13], &[]).await.is_err());
}

#[tokio::test]
async fn a_renewed_certificate_is_used_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let first = renew(folder.path());
    let (_served, addr) = serving(folder.path()).await;
    let stream = connect(addr, &first, &[&TLS13], &[b"http/1.1"]).await.unwrap();
    let (mut sender, connection) = conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);

    // A key that is not the certificate's: as half of a renewal leaves it. The last good pair stays.
    let key = fs::read(folder.path().join("tls.key")).unwrap();
    fs::write(folder.path().join("tls.key"), rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    connect(addr, &first, &[&TLS13], &[]).await.unwrap();
    fs::write(folder.path().join("tls.key"), key).unwrap();
    connect(addr, &first, &[&TLS13], &[]).await.unwrap();

    let second = renew(folder.path());
    connect(addr, &second, &[&TLS13], &[]).await.unwrap();
    assert!(connect(addr, &first, &[&TLS13], &[]).await.is_err(), "the old one is shown to nobody");
    assert_eq!(sender.send_request(models()).await.unwrap().status(), 200, "who is connected stays so");
}

#[tokio::test]
async fn a_handshake_that_does_not_come_has_an_end() {
    let folder = tempfile::tempdir().unwrap();
    let known = renew(folder.path());
    let certificate = ServerCertificate::open(folder.path().join("tls.crt"), folder.path().join("tls.key")).unwrap();
    let mut setup = Setup { certificate: Some(Arc::new(certificate)), ..Setup::default() };
    setup.options.max_connections = Some(2);
    let served = serve(setup, Controls::new(babble(vec![300]))).await;
    let addr = served.handle.addr();
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(TcpStream::connect(addr).await.unwrap());
    }
    // Silent ones make place for one who speaks.
    eventually("a connection", || async { connect(addr, &known, &[&TLS13], &[]).await.is_ok() }).await;
    drop(silent);
    served.handle.stop().await;
}

/// What listens at a port that was free a moment ago.
fn free_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn health_is_told_in_plain_http_beside_it_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    renew(folder.path());
    let certificate = ServerCertificate::open(folder.path().join("tls.crt"), folder.path().join("tls.key")).unwrap();
    let status = free_port();
    let certificate = Some(Arc::new(certificate));
    let setup = Setup { certificate, status_listen: Some(status), keys: vec!["secret".into()], ..Setup::default() };
    let served = serve(setup, Controls::new(babble(vec![300]))).await;
    eventually("ready", || async { get(status, "/ready").await.status == 200 }).await;
    for path in ["/health", "/live", "/metrics"] {
        assert_eq!(get(status, path).await.status, 200, "{path}");
    }
    for path in ["/v1/models", "/v1/chat/completions", "/lime/v1/live", "/", "/page/app.js"] {
        assert_eq!(get(status, path).await.status, 404, "{path}");
    }
    served.handle.stop().await;
    assert!(TcpStream::connect(status).await.is_err(), "it ends with the gateway");
}
