use std::fs;

use super::*;

const DEPLOYMENT: &str = "apiVersion: lime.dev/v1alpha1\nkind: LimeDeployment\nmetadata: { name: m }\nspec:\n";
const FLEET: &str =
    "---\napiVersion: lime.dev/v1alpha1\nkind: LocalFleet\nspec: { devices: [{ name: a, memory: 8Mi }] }\n";

/// What reading a file with `text` fails with, the folder's name taken out.
fn fault(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wish.yaml");
    fs::write(&file, text).unwrap();
    let error = Wish::read(
        &WishArgs {
            file,
            fleet: None,
            arithmetic: None,
            segments: None,
            prompt_tokens: None,
            answer_tokens: None,
            measure: false,
        },
        None,
    )
    .unwrap_err();
    format!("{error:#}").replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn documents_that_are_not_ours_are_named() {
    assert_eq!(fault(""), "wish.yaml: holds no LimeDeployment: write one, or name another file with -f");
    assert_eq!(
        fault("apiVersion: v1\nkind: Pod\n"),
        "wish.yaml:2: kind: found kind \"Pod\": LimeDeployment and LocalFleet are read here"
    );
    assert!(fault("a: 1\n").contains("found no kind"));
    let twice =
        format!("{DEPLOYMENT}  model: {{ source: file://. }}\n---\n{DEPLOYMENT}  model: {{ source: file://. }}\n");
    assert!(fault(&twice).starts_with("wish.yaml:8: kind: a second LimeDeployment"), "{}", fault(&twice));
}

#[test]
fn rules_across_fields_name_their_line() {
    let text =
        format!("{DEPLOYMENT}  model: {{ source: s3://a }}\n  nodes:\n    maxCount: 1\n    minCount: 2\n{FLEET}");
    let fault = fault(&text);
    let lines: Vec<&str> = fault.lines().collect();
    assert!(lines[0].starts_with("wish.yaml:5: spec.model.source: \"s3://a\" is not a model source"), "{fault}");
    assert!(lines[1].starts_with("wish.yaml:7: spec.nodes.maxCount: "), "{fault}");
}

#[test]
fn sources_that_are_not_here_say_what_to_do() {
    let missing = fault(&format!("{DEPLOYMENT}  model: {{ source: file://models/none }}\n{FLEET}"));
    assert!(missing.starts_with("wish.yaml:5: spec.model.source: there is no folder models/none"), "{missing}");
    let claimed = fault(&format!("{DEPLOYMENT}  model: {{ source: pvc://models/a }}\n{FLEET}"));
    assert!(claimed.contains("a claim is a volume of a cluster"), "{claimed}");
}

#[test]
fn the_shipped_manifests_are_sound() {
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests");
    let mut checked = 0;
    for entry in fs::read_dir(manifests).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_file() {
            continue;
        }
        let documents = Document::read_all(&path).unwrap();
        let deployment = the_deployment(&path, &documents).unwrap();
        read_deployment(deployment).unwrap();
        fleet_beside(&documents).unwrap();
        checked += 1;
    }
    assert!(checked >= 2);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(16))]
    /// The other entrance, the operator, is held to the same by `operator/controller/src/planning_tests.rs`.
    #[test]
    fn the_command_line_asks_what_the_spec_says(
        context in 1..16_777_216_i32, requests in 1..4096_i32, chunk in 1..65_536_i32, least in 1..1024_i32, more in 0..1024_i32,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("wish.yaml");
        let most = (least + more).min(1024_i32);
        fs::write(&file, format!(
            "{DEPLOYMENT}  model: {{ source: file://. }}\n  serving: {{ maxContextTokens: {context}, maxConcurrentRequests: \
             {requests}, prefillChunkTokens: {chunk} }}\n  nodes: {{ minCount: {least}, maxCount: {most} }}\n{FLEET}"
        )).unwrap();
        let wish = Wish::read(&WishArgs { file, fleet: None, arithmetic: None, segments: None, prompt_tokens: None, answer_tokens: None, measure: false }, None).unwrap();
        let card = lime_plan::testing::small_card(&mut lime_plan::testing::Random::new(1), 4);
        let mut notes: Vec<String> = Vec::new();
        let goal = wish.goal(&card, None, &mut notes);
        proptest::prop_assert_eq!((goal, notes.pop()), wish.deployment.spec.goal(&card));
    }
}
