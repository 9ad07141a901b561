//! The planner: from what a model needs and what nodes have to a [`lime_plan::Plan`] that says who holds what.
//!
//! The solver and the simulator alone. This crate is pure: it knows no clock, no I/O, no Kubernetes and no tensor library, every
//! function is data in, data out, and the same inputs give the same bytes.

mod compare;
mod cost;
mod layout;
mod online;
mod period;
mod planning;
mod predict;
#[cfg(test)]
mod properties;
mod refusal;
mod run;
mod schedule;
mod search;
#[cfg(test)]
mod stricter_wishes;
mod svg;
mod timeline;

pub use compare::{Comparison, Strategy, compare};
pub use online::{Adaptation, adaptations};
pub use planning::{plan, plan_or_suggest};
pub use refusal::{Refusal, Shortage, Suggestion};
pub use timeline::{Activity, Lane, Span, Timeline, timeline};
