//! Which wire each side of a connection speaks. Every request names it and so does every answer: members of different wires refuse
//! each other at the first word, both named, and are not left to misread one another.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tonic::{
    body::Body,
    codegen::{
        Service,
        http::{HeaderMap, HeaderValue, Request, Response},
    },
    transport::{Channel, Error},
};
use tower::Layer;

use crate::fault::RingFault;

/// The wire that this build speaks. It is raised by every change that a member of the earlier one would misread or could not do
/// without. What is only added to messages, and may be left out, does not raise it: such builds go on speaking to one another; but what is
/// added to messages with a checksum does, since an earlier build drops it before it compares.
pub const WIRE: u32 = 4;

const WIRE_HEADER: &str = "lime-wire";
const BUILD_HEADER: &str = "lime-build";
const BUILD: &str = env!("CARGO_PKG_VERSION");
/// Most characters of a build's name that are repeated.
const LONGEST: usize = 40;

/// What a member says that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The wire that it speaks; `None` where it does not say, as builds from before there was a number.
    pub wire: Option<u32>,
    /// Its build, for people.
    pub build: Option<String>,
}

impl Version {
    /// What this build is.
    pub fn own() -> Self {
        Self { wire: Some(WIRE), build: Some(BUILD.to_owned()) }
    }

    /// What the headers of a request or an answer say.
    fn of(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let build = text(BUILD_HEADER).map(|build| build.chars().take(LONGEST).collect());
        Self { wire: text(WIRE_HEADER).and_then(|wire| wire.parse().ok()), build }
    }

    /// Whether members of the two can speak to one another.
    pub fn understands(&self, other: &Self) -> bool {
        self.wire.is_some() && self.wire == other.wire
    }

    /// Why a member of this version is refused by one of `other`, which says so of its peer `what`.
    fn refusal(&self, what: &str, other: &Self) -> RingFault {
        let reason = format!(
            "{what} is {self}, this is {other}: all of a ring must speak one wire, so bring them to one version"
        );
        RingFault::version(reason)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.build, self.wire) {
            (Some(build), Some(wire)) => write!(f, "LIME {build} (wire {wire})"),
            (None, Some(wire)) => write!(f, "a LIME of wire {wire}"),
            (_, None) => f.write_str("a LIME that does not say which wire it speaks"),
        }
    }
}

fn sign(headers: &mut HeaderMap) {
    headers.insert(WIRE_HEADER, HeaderValue::from(WIRE));
    headers.insert(BUILD_HEADER, HeaderValue::from_static(BUILD));
}

/// A connection to a member, on which both sides say what they speak.
#[derive(Clone, Debug)]
pub struct Line(Channel);

impl Line {
    pub(crate) const fn new(channel: Channel) -> Self {
        Self(channel)
    }
}

type Answer<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

impl Service<Request<Body>> for Line {
    type Response = Response<Body>;
    type Error = Error;
    type Future = Answer<Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.0.poll_ready(cx))?;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        sign(request.headers_mut());
        let answer = self.0.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            let (own, theirs) = (Version::own(), Version::of(answer.headers()));
            Ok(if own.understands(&theirs) { answer } else { theirs.refusal("it", &own).status().into_http() })
        })
    }
}

/// What makes a server say which wire it speaks, and refuse who speaks another.
#[derive(Clone, Copy, Debug, Default)]
pub struct Versions;

impl<S> Layer<S> for Versions {
    type Service = Versioned<S>;

    fn layer(&self, inner: S) -> Versioned<S> {
        Versioned(inner)
    }
}

/// A server's services behind [`Versions`].
#[derive(Clone, Debug)]
pub struct Versioned<S>(S);

impl<S> Service<Request<Body>> for Versioned<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Answer<S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (own, theirs) = (Version::own(), Version::of(request.headers()));
        if !own.understands(&theirs) {
            let mut refused = theirs.refusal("who asks", &own).status().into_http();
            sign(refused.headers_mut());
            return Box::pin(async move { Ok(refused) });
        }
        let answer = self.0.call(request);
        Box::pin(async move {
            let mut answer = answer.await?;
            sign(answer.headers_mut());
            Ok(answer)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(wire: Option<&str>, build: Option<&str>) -> Version {
        let mut headers = HeaderMap::new();
        for (name, value) in [(WIRE_HEADER, wire), (BUILD_HEADER, build)] {
            if let Some(value) = value {
                headers.insert(name, HeaderValue::from_str(value).unwrap());
            }
        }
        Version::of(&headers)
    }

    #[test]
    fn builds_of_one_wire_understand_each_other_and_no_others() {
        let own = Version::own();
        let (ours, later) = (WIRE.to_string(), (WIRE + 1).to_string());
        let (whole, bare) = (format!("LIME 0.0.1 (wire {ours})"), format!("a LIME of wire {ours}"));
        let other = format!("LIME 9.9.9 (wire {later})");
        let table = [
            (of(Some(&ours), Some("0.0.1")), true, whole.as_str()),
            (of(Some(&ours), None), true, &bare),
            (of(Some(&later), Some("9.9.9")), false, &other),
            (of(Some("one"), Some("9.9.9")), false, "a LIME that does not say which wire it speaks"),
            (of(None, None), false, "a LIME that does not say which wire it speaks"),
        ];
        for (theirs, understood, told) in table {
            assert_eq!((own.understands(&theirs), theirs.to_string().as_str()), (understood, told));
            let refusal = theirs.refusal("it", &own).reason;
            assert!(refusal.contains(told) && refusal.contains(&own.to_string()), "{refusal}");
        }
        let mut signed = HeaderMap::new();
        sign(&mut signed);
        assert_eq!(Version::of(&signed), own);
        let long = "x".repeat(500);
        assert!(of(Some(&ours), Some(&long)).to_string().len() < 100);
    }
}
