//! A node that goes and comes back: it is used again where that gains enough, and never makes the deployment go to and fro.

use super::*;

/// A cluster over time, with visits every ten seconds.
struct Lapse {
    snapshot: Snapshot,
    everyone: Snapshot,
    settings: crate::settings::Settings,
    /// When a plan came into force, in seconds, and on how many nodes.
    moves: Vec<(i64, usize)>,
    told: Vec<String>,
}

impl Lapse {
    /// Nodes `a` to `d`, each with so many mebibytes.
    fn new(mebibytes: i64, spec: serde_json::Value) -> Self {
        let mut snapshot = testing::snapshot(spec);
        let names = ["a", "b", "c", "d"];
        snapshot.nodes = names.map(|name| Arc::new(serde_json::from_value(testing::node(name)).unwrap())).to_vec();
        let profile = |name| Arc::new(serde_json::from_value(testing::profile(name, mebibytes)).unwrap());
        snapshot.profiles = names.map(profile).to_vec();
        let everyone = snapshot.clone();
        let mut lapse = Self { snapshot, everyone, settings: testing::settings(), moves: Vec::new(), told: Vec::new() };
        lapse.pass(60);
        lapse
    }

    fn pass(&mut self, seconds: i64) {
        for _ in 0..seconds / 10 {
            let now = self.snapshot.now.as_second() + 10;
            self.snapshot.now = Timestamp::from_second(now).unwrap();
            self.snapshot.heartbeats =
                self.snapshot.nodes.iter().map(|node| (node.name_any(), self.snapshot.now)).collect();
            let before = self.snapshot.deployment.status.clone().unwrap_or_default().current_plan;
            let decision = decide(&self.snapshot, &self.settings);
            if decision.status.current_plan != before {
                self.moves.push((now - NOW, decision.status.shards.len()));
            }
            self.told.extend(decision.notes.iter().map(|note| note.reason.to_owned()));
            self.snapshot = carried_out(&self.snapshot, &decision);
        }
    }

    /// A node of the plan.
    fn member(&self) -> String {
        self.snapshot.deployment.status.as_ref().unwrap().shards[0].node.clone()
    }

    fn goes(&mut self, node: &str) {
        self.snapshot.nodes.retain(|other| other.name_any() != node);
    }

    fn returns(&mut self, node: &str) {
        let back = self.everyone.nodes.iter().filter(|other| other.name_any() == node).cloned();
        self.snapshot.nodes.extend(back.collect::<Vec<_>>());
    }

    fn count(&self, reason: &str) -> usize {
        self.told.iter().filter(|told| *told == reason).count()
    }
}

#[test]
fn a_node_that_returns_without_a_gain_changes_nothing() {
    let mut lapse = Lapse::new(500, json!({ "nodes": { "memoryReserve": "0" } }));
    let member = lapse.member();
    lapse.goes(&member);
    lapse.pass(60);
    assert_eq!(lapse.moves.len(), 2, "{:?}", lapse.moves);
    lapse.returns(&member);
    lapse.pass(3600);
    assert_eq!(lapse.moves.len(), 2, "the plan stands: {:?}", lapse.moves);
    assert!(lapse.count("NodeReturned") > 0);
    assert_eq!(lapse.count("ReplanSuppressed"), 1, "it was tried once");
}

#[test]
fn a_node_that_returns_is_used_again_where_it_gains_enough_and_has_stayed() {
    let mut lapse = Lapse::new(34, json!({}));
    assert_eq!(lapse.moves, [(10, 4)], "all four are needed");
    let member = lapse.member();
    lapse.goes(&member);
    lapse.pass(60);
    assert_eq!(lapse.moves.last(), Some(&(70, 3)), "{:?}", lapse.moves);
    lapse.returns(&member);
    lapse.pass(120);
    assert_eq!(lapse.moves.len(), 2, "it has to stay for stabilizationSeconds: {:?}", lapse.moves);
    lapse.pass(20);
    assert_eq!(lapse.moves.last(), Some(&(250, 4)), "{:?}", lapse.moves);
    lapse.pass(3600);
    assert_eq!(lapse.moves.len(), 3, "{:?}", lapse.moves);
}

#[test]
fn a_node_that_comes_and_goes_is_left_out_once_the_hours_replans_are_used_up() {
    let mut lapse = Lapse::new(34, json!({}));
    let member = lapse.member();
    let began = lapse.snapshot.now.as_second();
    while lapse.snapshot.now.as_second() < began + 4 * 3600 {
        lapse.goes(&member);
        lapse.pass(60);
        lapse.returns(&member);
        lapse.pass(180);
    }
    // Four in any hour, and the loss of a node is always planned around.
    let moves: Vec<i64> = lapse.moves.iter().skip(1).map(|(at, _)| *at).collect();
    for at in &moves {
        let in_the_hour = moves.iter().filter(|other| (*at..*at + 3600).contains(*other)).count();
        assert!(in_the_hour <= 5, "{in_the_hour} in the hour from {at}: {moves:?}");
    }
    assert!(moves.len() >= 8, "after an hour it is tried again: {moves:?}");
    assert!(lapse.count("ReplanSuppressed") > 0);

    // One that never stays is never counted on.
    let mut restless = Lapse::new(34, json!({}));
    restless.goes(&member);
    restless.pass(60);
    for _ in 0..30 {
        restless.returns(&member);
        restless.pass(100);
        restless.goes(&member);
        restless.pass(20);
    }
    assert_eq!(restless.moves.len(), 2, "{:?}", restless.moves);
}
