use proptest::prelude::*;

use super::*;

/// Made once: the fuzzers read it a thousand times.
static SCHEMA: std::sync::LazyLock<Value> = std::sync::LazyLock::new(lime_api::deployment_schema);

fn faults_of(text: &str) -> Vec<String> {
    let path = Path::new("wish.yaml");
    let result = Document::parse_all(path, text)
        .and_then(|documents| documents[0].read::<lime_api::LimeDeployment>(&SCHEMA).map(|_| ()));
    result.err().map_or_else(Vec::new, |faults| faults.to_string().lines().map(str::to_owned).collect())
}

/// A deployment whose spec is `spec`, indented by two blanks already.
fn deployment(spec: &str) -> String {
    format!("apiVersion: lime.dev/v1alpha1\nkind: LimeDeployment\nmetadata:\n  name: m\nspec:\n{spec}\n")
}

#[test]
fn every_fault_names_file_line_field_and_fix() {
    let source = "  model: { source: hf://a/b }\n";
    let table = [
        ("", "wish.yaml:5: spec: has no value: give a map of fields, or remove the line"),
        ("  model: {}", "wish.yaml:6: spec.model.source: is missing: give text"),
        ("  serving: {}", "wish.yaml:5: spec.model: is missing: give a map of fields"),
        (
            "  model: { source: 7 }",
            "wish.yaml:6: spec.model.source: expected text, found the number 7: put it in quotes",
        ),
        ("  model: [a]", "wish.yaml:6: spec.model: expected a map of fields, found a list"),
        ("  model: { source: '' }", "wish.yaml:6: spec.model.source: must not be empty"),
    ];
    for (spec, expected) in table {
        assert_eq!(faults_of(&deployment(spec)), [expected], "{spec}");
    }
    let table = [
        (
            "  nodes:\n    memoryReserv: 1Gi",
            "wish.yaml:8: spec.nodes.memoryReserv: unknown field; did you mean memoryReserve?",
        ),
        ("  Suspend: true", "wish.yaml:7: spec.Suspend: unknown field; did you mean suspend?"),
        ("  suspend: yes please", "wish.yaml:7: spec.suspend: expected true or false, found \"yes please\""),
        (
            "  serving:\n\n    maxContextTokens: 0",
            "wish.yaml:9: spec.serving.maxContextTokens: must be from 1 to 16777216, not 0",
        ),
        (
            "  serving:\n    maxContextTokens: 1.5",
            "wish.yaml:8: spec.serving.maxContextTokens: expected a whole number, found the number 1.5",
        ),
        (
            "  serving:\n    requestPattern: sporadic",
            "wish.yaml:8: spec.serving.requestPattern: must be Sporadic or Bursty, not \"sporadic\" (did you mean Sporadic?)",
        ),
        ("  endpoint: { port: 65536 }", "wish.yaml:7: spec.endpoint.port: must be from 1 to 65535, not 65536"),
        (
            "  nodes: { memoryReserve: [1Gi] }",
            "wish.yaml:7: spec.nodes.memoryReserve: expected a quantity such as 512Mi, found a list",
        ),
        (
            "  nodes: { selector: { matchLabels: { pool: 7 } } }",
            "wish.yaml:7: spec.nodes.selector.matchLabels.pool: expected text, found the number 7: put it in quotes",
        ),
    ];
    for (spec, expected) in table {
        assert_eq!(faults_of(&deployment(&format!("{source}{spec}"))), [expected], "{spec}");
    }
}

#[test]
fn all_faults_are_told_at_once() {
    let faults = faults_of(&deployment("  modl: {}\n  suspend: 1\n  endpoint: { prt: 1 }"));
    assert_eq!(faults.len(), 4, "{faults:#?}");
}

#[test]
fn a_sound_wish_is_read() {
    assert_eq!(
        faults_of(&deployment("  model: { source: hf://a/b }\n  nodes: { memoryReserve: 1073741824 }")),
        [""; 0]
    );
}

#[test]
fn unreadable_yaml_names_its_line() {
    for (text, line) in [("a: [1, 2\nb: 3", 2), ("a: b\n\tc: d", 2), ("a: 1\na: 2", 2), ("a: *nobody", 1), ("'", 1)] {
        let error = Document::parse_all(Path::new("x.yaml"), text).unwrap_err();
        assert!(error.to_string().starts_with("x.yaml:"), "{error}");
        assert!(error.0[0].line <= line && error.0[0].line > 0, "{text:?}: {error}");
        assert!(error.to_string().contains("not readable as YAML: "), "{error}");
    }
}

#[test]
fn a_foreign_version_is_refused() {
    let text = "apiVersion: apps/v1\nkind: LimeDeployment\nspec: {}\n";
    assert_eq!(faults_of(text), ["wish.yaml:1: apiVersion: must be lime.dev/v1alpha1"]);
}

#[test]
fn documents_are_told_apart_and_empty_ones_skipped() {
    let documents = Document::parse_all(Path::new("x"), "---\nkind: A\n---\n# nothing\n---\nkind: B\n").unwrap();
    let kinds: Vec<_> = documents.iter().map(Document::kind).collect();
    assert_eq!(kinds, [Some("A"), Some("B")]);
    assert_eq!(documents[1].fault("kind", "").line, 6);
}

#[test]
fn a_file_that_is_not_there_is_said_so() {
    let missing = Document::read_all(Path::new("no/such.yaml")).unwrap_err();
    assert_eq!(missing.to_string(), "no/such.yaml: there is no such file: check the path");
    let folder = Document::read_all(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap_err();
    assert!(folder.to_string().contains("folder"), "{folder}");
}

/// A few bytes of a sound file, changed.
fn mangled() -> impl Strategy<Value = String> {
    let sound =
        deployment("  model: { source: hf://a/b }\n  serving:\n    maxContextTokens: 12\n  nodes: { maxCount: 3 }");
    let length = sound.len();
    let edits = prop::collection::vec((0..length, "[a-z0-9:{}\\[\\]\"'&*!|>%@`#,? \n\t-]{0,3}"), 1..6);
    edits.prop_map(move |edits| {
        let mut text = sound.clone();
        for (at, insert) in edits {
            let at = at.min(text.len());
            text.replace_range(at..(at + 1).min(text.len()), &insert);
        }
        text
    })
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
        let _ = Document::parse_all(Path::new("x"), &text).map(|documents| {
            documents.iter().map(|document| document.read::<lime_api::LimeDeployment>(&SCHEMA)).collect::<Vec<_>>()
        });
    }

    #[test]
    fn a_mangled_file_is_read_or_refused_with_a_line(text in mangled()) {
        let path = Path::new("x");
        let result = Document::parse_all(path, &text).and_then(|documents| match documents.first() {
            Some(first) => first.read::<lime_api::LimeDeployment>(&SCHEMA).map(|_| ()),
            None => Ok(()),
        });
        if let Err(faults) = result {
            prop_assert!(faults.0.iter().all(|fault| !fault.message.is_empty()));
        }
    }
}
