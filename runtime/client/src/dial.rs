//! How a server is reached: by TCP, or by what somebody else opens (a way through a cluster).

use std::{fmt, io, pin::Pin, sync::Arc, time::Duration};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// How long a server may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to a server.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<C: AsyncRead + AsyncWrite + Send + Unpin> Connection for C {}

type Opening = Pin<Box<dyn Future<Output = io::Result<Box<dyn Connection>>> + Send>>;

/// Opens connections.
#[derive(Clone)]
pub struct Dial(Arc<dyn Fn() -> Opening + Send + Sync>);

impl Dial {
    /// Opens each connection by `open`.
    pub fn new<F, C>(open: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<C>> + Send + 'static,
        C: Connection + 'static,
    {
        Self(Arc::new(move || {
            let opening = open();
            Box::pin(async move { Ok(Box::new(opening.await?) as Box<dyn Connection>) })
        }))
    }

    /// To `HOST:PORT`.
    pub(crate) fn tcp(authority: String) -> Self {
        Self::new(move || {
            let authority = authority.clone();
            async move {
                let stream = TcpStream::connect(&authority).await?;
                stream.set_nodelay(true)?;
                Ok(stream)
            }
        })
    }

    /// The same way with TLS, to a server called `name`.
    pub(crate) fn secured(self, name: ServerName<'static>, config: Arc<ClientConfig>) -> Self {
        let connector = TlsConnector::from(config);
        Self::new(move || {
            let (opening, name, connector) = ((self.0)(), name.clone(), connector.clone());
            async move { connector.connect(name, opening.await?).await }
        })
    }

    /// A connection, if there is one soon.
    pub(crate) async fn open(&self) -> io::Result<Box<dyn Connection>> {
        tokio::time::timeout(PATIENCE, (self.0)()).await.map_err(io::Error::from)?
    }
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dial")
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::{
        ask,
        ask::{Input, Question},
        error::ClientError,
        server::Server,
    };

    /// A server at the other end of a pipe, which answers every request by `answer`.
    fn piped(answer: &'static str) -> Server {
        let dial = Dial::new(move || async move {
            let (ours, mut theirs) = tokio::io::duplex(4096);
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = theirs.read(&mut request).await;
                let _ = theirs.write_all(answer.as_bytes()).await;
            });
            Ok(ours)
        });
        Server::over(dial, "m.llm", Some("key".into()))
    }

    #[tokio::test]
    async fn a_server_is_spoken_to_over_any_way() {
        let server = piped(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n\
             data: {\"choices\":[{\"text\":\"he\"}]}\n\n\
             data: {\"choices\":[{\"text\":\"llo\",\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
        );
        let input = Input::Text("x".into());
        let question = Question { model: "m".into(), input, max_tokens: 2, temperature: 0.0, seed: None };
        let mut shown = String::new();
        let answer = ask(&server, &question, |piece| shown.push_str(piece)).await.unwrap();
        assert_eq!((answer.text.as_str(), shown.as_str(), answer.finish_reason.as_str()), ("hello", "hello", "stop"));
    }

    #[tokio::test]
    async fn refusals_and_silence_keep_their_kinds() {
        let body = r#"{"error":{"message":"not yet","code":"model_loading"}}"#;
        let answer = format!(
            "HTTP/1.1 503 X\r\nretry-after: 7\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        let refusal = piped(answer.leak()).get_text("/metrics").await.unwrap_err();
        assert!(
            matches!(&refusal, ClientError::Refused { status: 503, code: Some(code), retry_after: Some(7), .. } if code == "model_loading"),
            "{refusal:?}"
        );
        let nobody = Dial::new(|| async { Err::<tokio::io::DuplexStream, _>(io::Error::other("no pod")) });
        let away = Server::over(nobody, "m.llm", None).get_text("/").await.unwrap_err();
        assert!(matches!(&away, ClientError::Away { url, .. } if url == "http://m.llm"), "{away:?}");
        assert!(matches!(piped("").get_text("/").await.unwrap_err(), ClientError::BrokeOff { .. }));
    }
}
