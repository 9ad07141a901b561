//! A worker's health over plain HTTP, for who has no certificate of the ring: the kubelet. It says whether the compute thread gets on,
//! takes no orders, and tells nothing else.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    time::{sleep, timeout},
};

use crate::vitals::Vitals;

/// A question takes less.
const PATIENCE: Duration = Duration::from_secs(1);
/// Questions at once.
const QUESTIONS: usize = 64;

/// Answers any question until the future is dropped.
pub(crate) async fn answer(listener: TcpListener, vitals: Arc<Vitals>) {
    let room = Arc::new(Semaphore::new(QUESTIONS));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Such as a want of file descriptors, which does not pass at once.
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let vitals = Arc::clone(&vitals);
        tokio::spawn(async move {
            let said = service_fn(|_| std::future::ready(Ok::<_, Infallible>(response(vitals.stuck()))));
            let connection = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), said);
            // Who is slow, or gone, asks again.
            let _ = timeout(PATIENCE, connection).await;
            drop(place);
        });
    }
}

fn response(stuck: Option<String>) -> Response<Full<Bytes>> {
    let (status, text) = match stuck {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(stuck) => (StatusCode::SERVICE_UNAVAILABLE, format!("stuck: {stuck}\n")),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
}
