//! A service whose message limits follow the plan in force when a stream opens.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use tonic::{
    codegen::{Service, http},
    server::NamedService,
};

use crate::state::Worker;

/// Builds the service anew for each stream: that costs an allocation and happens a few times an epoch.
pub(super) struct Limited<S> {
    worker: Arc<Worker>,
    build: fn(Arc<Worker>) -> S,
}

impl<S> Limited<S> {
    pub(super) fn new(worker: Arc<Worker>, build: fn(Arc<Worker>) -> S) -> Self {
        Self { worker, build }
    }
}

impl<S> Clone for Limited<S> {
    fn clone(&self) -> Self {
        Self { worker: self.worker.clone(), build: self.build }
    }
}

impl<S, B> Service<http::Request<B>> for Limited<S>
where
    S: Service<http::Request<B>, Error = Infallible>,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = S::Future;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        (self.build)(self.worker.clone()).call(request)
    }
}

impl<S: NamedService> NamedService for Limited<S> {
    const NAME: &'static str = S::NAME;
}
