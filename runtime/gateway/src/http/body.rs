//! Reading a request's body, within a size, a time and a budget.

use axum::{
    body::{BodyDataStream, HttpBody as _},
    extract::Request,
    http::header,
};
use futures::StreamExt as _;
use tokio::time::timeout;

use super::{App, BodyBudget, budget::Gathered, coding::Coding, error::ApiError, extent::Extent, server::Traffic};
use crate::retry_after;

/// Most of a refused body that is heard out: many clients listen only once they have said everything.
const HEARD_OUT: usize = 64 << 20;

/// A body as it was sent.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) gathered: Gathered,
    pub(super) coding: Coding,
}

/// Reads the body of a request where `check` finds nothing against it.
pub(super) async fn read(
    app: &App,
    extent: &Extent,
    request: Request,
    check: Result<(), ApiError>,
) -> Result<Sent, ApiError> {
    let _arriving = request.extensions().get::<Traffic>().map(Traffic::arriving);
    let coding = Coding::of(request.headers());
    let check = check.and_then(|()| coding.as_ref().map(|_| ()).map_err(Clone::clone));
    let waits_to_be_asked = request.headers().contains_key(header::EXPECT);
    let body = request.into_body();
    let announced = body.size_hint().lower();
    let mut parts = body.into_data_stream();
    let reading = async {
        // What the client announces is refused before any of it is kept.
        let fault = match check.and_then(|()| extent.check_body(announced)) {
            Ok(()) => match gather(&mut parts, &app.bodies, |bytes| extent.check_body(bytes), announced as usize).await
            {
                Ok(gathered) => return Ok(gathered),
                Err(fault) => fault,
            },
            Err(fault) if waits_to_be_asked => return Err(fault),
            Err(fault) => fault,
        };
        let mut heard = 0;
        while let Some(Ok(part)) = parts.next().await {
            heard += part.len();
            if heard > HEARD_OUT {
                break;
            }
        }
        Err(fault)
    };
    let gathered = timeout(app.options.body_timeout, reading).await.unwrap_or_else(|_| Err(ApiError::slow_body()))?;
    Ok(Sent { gathered, coding: coding? })
}

/// Gathers a body within a budget; `check` hears how many bytes it has so far.
pub(super) async fn gather(
    parts: &mut BodyDataStream,
    bodies: &BodyBudget,
    check: impl Fn(u64) -> Result<(), ApiError>,
    announced: usize,
) -> Result<Gathered, ApiError> {
    let mut share = bodies.open();
    // No page of it is touched before its bytes come.
    let mut bytes = Vec::with_capacity(announced);
    while let Some(part) = parts.next().await {
        let cut = |fault| ApiError::invalid("", "invalid_body", format!("The request's body was cut short: {fault}."));
        let part = part.map_err(cut)?;
        check((bytes.len() + part.len()) as u64)?;
        share.grow(part.len()).map_err(|_| ApiError::crowded(retry_after::a_little()))?;
        bytes.extend_from_slice(&part);
    }
    Ok(Gathered { bytes, held: share.close() })
}
