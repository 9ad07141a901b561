use std::fs;

use proptest::prelude::*;

use super::*;

const ADA: &str = r#"{"node":{"name":"ada","memory":8589934592,"memoryBandwidth":2e10,"throughput":1e11,"diskBandwidth":1e9,
"blockLatency":2e-5},"links":[{"from":"ada","to":"bea","bandwidth":1e8,"latency":0.001}],"measured":{"machine":"x"}}"#;

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        fs::write(folder.join(name), text).unwrap();
    }
}

/// What reading a folder of `files` fails with, the folder's name taken out.
fn fault(files: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), files);
    let error = read(folder.path(), Bytes::ZERO).unwrap_err();
    format!("{error:#}").replace(&folder.path().display().to_string(), "DIR")
}

#[test]
fn profiles_of_a_folder_become_a_fleet() {
    let folder = tempfile::tempdir().unwrap();
    let bea = ADA.replace("ada", "bea").replace(r#""to":"bea""#, r#""to":"ada""#).replace("1e9", r#""none""#);
    write(folder.path(), &[("ada.json", ADA), ("bea.yaml", &bea), ("notes.txt", "not read")]);
    let fleet = read(folder.path(), Bytes::gib(1)).unwrap();
    let [ada, bea] = fleet.nodes() else { panic!("{fleet:?}") };
    assert_eq!((ada.memory, ada.disk_bandwidth, bea.disk_bandwidth), (Bytes::gib(7), Some(1_000_000_000), None));
    assert_eq!(ada.block_latency.0, 20_000);
    assert_eq!((fleet.link(0, 1).bandwidth, fleet.link(0, 1).latency.0), (12_500_000, 1_000_000));
}

#[test]
fn links_may_lie_beside_the_nodes() {
    let folder = tempfile::tempdir().unwrap();
    let alone = ADA.replace(r#"[{"from":"ada","to":"bea","bandwidth":1e8,"latency":0.001}]"#, "[]");
    let bea = alone.replace("ada", "bea");
    let links = "links: { default: { bandwidth: 200 Mbit/s, latency: 1 ms } }";
    write(folder.path(), &[("ada.json", &alone), ("bea.json", &bea), ("links.yaml", links)]);
    assert_eq!(read(folder.path(), Bytes::ZERO).unwrap().link(0, 1).bandwidth, 25_000_000);
    assert!(fault(&[("ada.json", &alone), ("bea.json", &bea)]).contains("no link is given from \"ada\" to \"bea\""));
    let twice = fault(&[("a.yaml", links), ("b.yaml", links)]);
    assert!(twice.starts_with("DIR/b.yaml:1: links.default: a second default link"), "{twice}");
}

#[test]
fn faults_name_the_file_or_the_node() {
    assert!(fault(&[]).starts_with("DIR: holds no nodes"));
    assert!(fault(&[("a.json", "{")]).starts_with("DIR/a.json:"));
    assert!(fault(&[("a.json", "7")]).starts_with("DIR/a.json:1:"));
    assert!(fault(&[("a.json", r#"{"nodes":[],"lnks":1}"#)]).contains("unknown field `lnks`"));
    assert!(fault(&[("a.json", &ADA.replace("8589934592", "-5"))]).contains("node \"ada\": memory is negative: -5"));
    assert!(fault(&[("a.json", &ADA.replace("2e10", "0"))]).contains("node \"ada\": memoryBandwidth is zero"));
    assert!(fault(&[("a.json", &ADA.replace("1e11", "1e300"))]).contains("throughput is unbelievably large"));
    assert!(fault(&[("a.json", &ADA.replace(r#""memory":8589934592,"#, ""))]).contains("memory is missing"));
    assert!(fault(&[("a.json", ADA)]).contains("no node is named \"bea\""));
    assert!(fault(&[("a.json", ADA), ("b.json", ADA)]).contains("two nodes are named \"ada\""));
}

#[test]
fn other_kinds_are_told_where_they_belong() {
    let of = |kind: &str| fault(&[("a.yaml", &format!("apiVersion: lime.dev/v1alpha1\nkind: {kind}\nspec: {{}}\n"))]);
    let local = of("LocalFleet");
    assert!(local.starts_with("DIR/a.yaml:2: kind: expected a fleet"), "{local}");
    assert!(local.contains("found a LocalFleet") && local.contains("--fleet"), "{local}");
    assert!(of("LimeDeployment").contains("-f") && of("Pod").contains("found a Pod"));
}

#[test]
fn the_shipped_fleets_are_sound() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests/fleets");
    let mut read_any = 0;
    for file in files(&folder).unwrap() {
        let fleet = read(&file, Bytes::ZERO).unwrap();
        assert!(!fleet.nodes().is_empty());
        read_any += 1;
    }
    assert!(read_any >= 7);
}

/// A value as a hostile file would have it.
fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("0".to_owned()),
        Just("-1".to_owned()),
        Just("1e400".to_owned()),
        Just(".nan".to_owned()),
        Just("null".to_owned()),
        Just("18446744073709551615".to_owned()),
        Just("{}".to_owned()),
        Just("[[[[]]]]".to_owned()),
        Just("\"none\"".to_owned()),
        Just("1 GiB".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:e}")),
        "[ -~]{0,12}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hostile_profiles_are_read_or_refused_in_words(values in prop::collection::vec(hostile(), 8), drop in 0_usize..9) {
        let folder = tempfile::tempdir().unwrap();
        let names = ["memory", "memoryBandwidth", "throughput", "diskBandwidth", "blockLatency", "overhead"];
        let mut text = "node:\n  name: a\n".to_owned();
        for (index, (name, value)) in names.iter().zip(&values).enumerate() {
            if index != drop {
                text.push_str(&format!("  {name}: {value}\n"));
            }
        }
        text.push_str(&format!("links:\n- from: a\n  to: {}\n  bandwidth: {}\n", values[6], values[7]));
        write(folder.path(), &[("a.yaml", &text)]);
        if let Err(error) = read(folder.path(), Bytes::gib(1)) {
            let words = format!("{error:#}");
            prop_assert!(!words.is_empty());
        }
    }

    #[test]
    fn no_file_makes_the_reader_panic(text in "\\PC{0,160}") {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &[("a.yaml", &text), ("b.json", &text)]);
        let _ = read(folder.path(), Bytes::ZERO);
    }
}
