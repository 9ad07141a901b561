//! Dashboards, rules and what is exported: everything is shown or says why it is not, and nothing is asked for that nobody exports.

#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use lime_metrics::Family;
use serde_json::Value;

/// Exported, and on no dashboard: with the reason.
const NOT_SHOWN: [(&str, &str); 0] = [];

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/lime")
}

/// Every exported family, and those of them that gateways export.
fn families() -> (BTreeSet<String>, BTreeSet<String>) {
    let names = |families: Vec<Family>| families.into_iter().map(|family| family.name);
    let gateways: BTreeSet<String> = names(lime_gateway::metric_families()).collect();
    let operators = names(lime_operator::metric_families().unwrap());
    (operators.chain(gateways.iter().cloned()).collect(), gateways)
}

fn dashboards() -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(chart().join("dashboards")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        found.push((name, serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap()));
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

fn expressions(dashboard: &Value) -> Vec<&str> {
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    targets.map(|target| target["expr"].as_str().unwrap()).collect()
}

fn variables(dashboard: &Value) -> Vec<&Value> {
    dashboard["templating"]["list"].as_array().unwrap().iter().collect()
}

/// The families that `text` names; a histogram's parts are its family.
fn named(text: &str, known: &BTreeSet<String>) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_' && letter != ':');
    // Not labels that Kubernetes' discovery makes of ours.
    let words = words.filter(|word| word.starts_with("lime_") && *word != "lime_" && !word.starts_with("lime_dev_"));
    let family = |word: &str| {
        let whole = ["_bucket", "_sum", "_count"].into_iter().find_map(|part| word.strip_suffix(part));
        whole.filter(|whole| known.contains(*whole)).unwrap_or(word).to_owned()
    };
    words.map(family).collect()
}

#[test]
fn every_family_is_shown_or_says_why_not() {
    let (known, _) = families();
    let shown: BTreeSet<String> = dashboards()
        .iter()
        .flat_map(|(_, dashboard)| {
            expressions(dashboard).into_iter().flat_map(|text| named(text, &known)).collect::<Vec<_>>()
        })
        .collect();
    let excused: BTreeSet<String> = NOT_SHOWN.iter().map(|(name, _)| (*name).to_owned()).collect();
    let missing: Vec<&String> =
        known.iter().filter(|name| !shown.contains(*name) && !excused.contains(*name)).collect();
    assert!(missing.is_empty(), "exported, and on no dashboard: {missing:?}");
    let idle: Vec<&String> = excused.iter().filter(|name| shown.contains(*name) || !known.contains(*name)).collect();
    assert!(idle.is_empty(), "excused for nothing: {idle:?}");
}

#[test]
fn nothing_is_asked_for_that_nobody_exports() {
    let (known, _) = families();
    let rules = fs::read_to_string(chart().join("templates/rules.yaml")).unwrap();
    let mut texts = vec![("rules.yaml".to_owned(), rules.clone())];
    for (name, dashboard) in dashboards() {
        let queries = variables(&dashboard).into_iter().filter_map(|variable| variable["query"].as_str());
        let asked = expressions(&dashboard).into_iter().chain(queries).collect::<Vec<_>>().join("\n");
        // What is recorded by the rules: lime:NAME_within:ratio_rateWINDOW.
        for word in asked.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_' && letter != ':') {
            let Some((objective, window)) =
                word.strip_prefix("lime:").and_then(|word| word.split_once("_within:ratio_rate"))
            else {
                assert!(!word.starts_with("lime:"), "{name} asks for {word}, which no rule records");
                continue;
            };
            for part in [objective, window] {
                assert!(rules.contains(&format!("\"{part}\"")), "{name} asks for {word}, which no rule records");
            }
        }
        texts.push((name, asked));
    }
    for (name, text) in texts {
        // A pattern over names is spelled out where it is used.
        let unknown: Vec<String> = named(&text, &known)
            .into_iter()
            .filter(|word| !known.contains(word) && !known.iter().any(|family| family.starts_with(word.as_str())))
            .collect();
        assert!(unknown.is_empty(), "{name} asks for what nobody exports: {unknown:?}");
    }
}

#[test]
fn dashboards_are_narrowed_by_namespace_and_have_names_of_their_own() {
    let (known, gateways) = families();
    let mut uids = BTreeSet::new();
    for (file, dashboard) in dashboards() {
        assert_eq!(dashboard["uid"], format!("lime-{}", file.trim_end_matches(".json")), "{file}");
        assert!(uids.insert(dashboard["uid"].to_string()), "{file}: a second dashboard of this uid");
        let names: Vec<&str> =
            variables(&dashboard).into_iter().filter_map(|variable| variable["name"].as_str()).collect();
        assert!(names.contains(&"namespace"), "{file} has no variable for the namespace");
        for text in expressions(&dashboard) {
            let of_gateways = named(text, &known).iter().any(|name| gateways.contains(name));
            assert!(!of_gateways || text.contains("namespace=~\"$namespace\""), "{file} shows all namespaces: {text}");
        }
        let panels = dashboard["panels"].as_array().unwrap();
        let places: BTreeSet<String> = panels.iter().map(|panel| panel["gridPos"].to_string()).collect();
        assert_eq!(places.len(), panels.len(), "{file}: panels lie over one another");
        let ids: BTreeSet<String> = panels.iter().map(|panel| panel["id"].to_string()).collect();
        assert_eq!(ids.len(), panels.len(), "{file}: panels of one id");
    }
}
