//! `lime-operator`.
fn main() {}
