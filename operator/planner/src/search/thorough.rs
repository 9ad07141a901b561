//! How much of the space is searched, whatever that takes.

use super::problem::Problem;

/// Nodes of the largest fleet that is searched under every stricter wish, whatever that takes.
pub(crate) const MOST_NODES: usize = 8;

/// Whether the fleet is so small that all stricter wishes are searched in full, each with its cuts inside layers.
pub(crate) fn is_thorough(problem: &Problem<'_>) -> bool {
    problem.fleet.nodes().len() <= MOST_NODES
}

/// Whether this is one of the stricter wishes of a fleet on which all of them are searched. Such a search begins with what is close to
/// its own best, and not with what is close to the best so far, which is another one for whoever asks.
pub(crate) fn is_narrow(problem: &Problem<'_>) -> bool {
    let goal = problem.goal;
    let narrow = goal.segments.is_some() || goal.least_devices > 1 || goal.most_devices.is_some();
    narrow && problem.fleet.nodes().len() <= MOST_NODES
}
