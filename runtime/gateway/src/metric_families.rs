//! The names of everything on `/metrics`: dashboards and alerts are held against them.

use lime_ring::proto::StatusReply;

use crate::{metrics::Metrics, status::ServedPlan, worker_figures};

/// Every family, as its `# TYPE` line names it.
pub fn metric_families() -> Vec<String> {
    let mut text = Metrics::default().render(true, &ServedPlan::default());
    text.push_str(&worker_figures::render(&[StatusReply::default()]));
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    types.map(str::to_owned).collect()
}
