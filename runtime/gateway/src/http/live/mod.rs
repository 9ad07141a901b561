//! The plan as it runs, as server-sent events, for a page that somebody looks at.
//!
//! Two events: `plan`, when there is another one, and `state`, whenever something changes and at least every second.

mod figures;
mod plan_event;
mod state_event;

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use futures::stream;
use lime_plan::Plan;
use serde_json::Value;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{sleep, timeout},
};

use super::{SharedApp, error::ApiError};
use crate::{retry_after, status::Phase};
use figures::Figures;

/// Without a change the state is told this often: memory and speed are figures that nobody tells of.
const PERIOD: Duration = Duration::from_secs(1);
/// What changes within this time is told at once: workers tell of their loading many times a second.
const GATHER: Duration = Duration::from_millis(100);
/// Who looks at the same time. A look takes a connection for as long as the page is open, and those are for answers.
const MOST_VIEWERS: usize = 32;

/// What all who look have in common.
#[derive(Debug)]
pub(crate) struct Lookout {
    viewers: Arc<Semaphore>,
    figures: Figures,
}

impl Default for Lookout {
    fn default() -> Self {
        Self { viewers: Arc::new(Semaphore::new(MOST_VIEWERS)), figures: Figures::default() }
    }
}

/// `GET /lime/v1/live`.
pub(super) async fn live(State(app): State<SharedApp>) -> Response {
    let Ok(place) = app.lookout.viewers.clone().try_acquire_owned() else {
        return ApiError::crowded(retry_after::a_little()).into_response();
    };
    let look =
        Look { changes: app.status.changes(), app, plan: None, events: VecDeque::new(), ended: false, _place: place };
    let events = stream::unfold(look, |mut look| async move {
        let (kind, data) = look.next().await?;
        Some((Ok::<Event, Infallible>(Event::default().event(kind).data(data.to_string())), look))
    });
    let mut response = Sse::new(events).into_response();
    // Proxies that gather a response would defeat it.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// One who looks.
struct Look {
    app: SharedApp,
    changes: watch::Receiver<()>,
    /// The plan that was told last.
    plan: Option<Arc<Plan>>,
    events: VecDeque<(&'static str, Value)>,
    ended: bool,
    _place: OwnedSemaphorePermit,
}

impl Look {
    /// The next event; none after the gateway has said that it stops.
    async fn next(&mut self) -> Option<(&'static str, Value)> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        if self.ended {
            return None;
        }
        if self.plan.is_some() {
            // An error would mean that the status is gone, and with it the gateway: the next look finds out.
            if timeout(PERIOD, self.changes.changed()).await.is_ok() {
                sleep(GATHER).await;
            }
        }
        self.changes.mark_unchanged();
        let state = self.app.status.view();
        self.ended = state.phase == Phase::Stopping;
        let plan = state.plan.plan.clone()?;
        if self.plan.as_ref() != Some(&plan) {
            self.events.push_back(("plan", plan_event::plan(&self.app, &state.plan, &plan)));
        }
        let figures = self.app.lookout.figures.ask(&self.app.transport, &state.plan.workers).await;
        self.events.push_back(("state", state_event::state(&self.app, &state, &plan, &figures)));
        self.plan = Some(plan);
        self.events.pop_front()
    }
}
