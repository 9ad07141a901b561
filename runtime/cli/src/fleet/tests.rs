use std::{path::Path, time::Duration};

use super::*;

fn read(spec: &str) -> Result<LocalFleet, Faults> {
    let text = format!("apiVersion: lime.dev/v1alpha1\nkind: LocalFleet\nspec:\n{spec}");
    LocalFleet::read(&Document::parse_all(Path::new("fleet.yaml"), &text)?[0])
}

#[test]
fn a_fleet_is_read_with_its_units() {
    let fleet = read(
        "  segments: 2
  devices:
    - { name: a, memory: 4Mi, threads: 2, link: { bandwidth: 100Mbit, latency: 2ms }, disk: { bandwidth: 200MB } }
    - { name: b, memory: 4194304 }
",
    )
    .unwrap();
    assert_eq!(fleet.segments, Some(2));
    let [a, b] = &fleet.devices[..] else { panic!("{fleet:?}") };
    assert_eq!((a.memory, a.threads, b.memory), (Bytes::mib(4), 2, Bytes::mib(4)));
    assert_eq!(a.link, Some(LinkShape { bandwidth_bits: 100_000_000, latency: Duration::from_millis(2) }));
    assert_eq!(a.disk, Some(DiskShape { bytes_per_second: 200_000_000 }));
    assert!(b.threads >= 1);
    assert_eq!((b.link, b.disk), (None, None));
}

#[test]
fn faults_name_the_device_by_its_place() {
    let table = [
        ("  devices: []", "fleet.yaml:4: spec.devices: must not be empty"),
        (
            "  devices:\n    - { name: a }",
            "fleet.yaml:5: spec.devices[0].memory: is missing: give a number with its unit",
        ),
        (
            "  devices:\n    - { name: a, memory: 4 Mb }",
            "fleet.yaml:5: spec.devices[0].memory: memory is \"4 Mb\", expected something like \"14 GiB\"",
        ),
        (
            "  devices:\n    - { name: a, memory: 4Mi }\n    - { name: a, memory: 4Mi }",
            "fleet.yaml:6: spec.devices[1].name: another device is named \"a\": give each its own name",
        ),
        (
            "  devices:\n    - { name: a b, memory: 4Mi }",
            "fleet.yaml:5: spec.devices[0].name: must be made of letters, digits, dots, dashes and underscores",
        ),
        (
            "  devices:\n    - name: a\n      memory: 4Mi\n      link:\n        bandwidth: fast",
            "fleet.yaml:8: spec.devices[0].link.bandwidth: bandwidth is \"fast\", expected something like \"100 Mbit/s\"",
        ),
        (
            "  devices:\n    - { name: a, memory: 4Mi, link: { bandwidth: 1Gbit, latency: soon } }",
            "fleet.yaml:5: spec.devices[0].link.latency: latency is \"soon\", expected something like \"500 us\"",
        ),
        (
            "  devices:\n    - { name: a, memory: 4Mi, disk: { bandwidht: 1GB, bandwidth: 1GB } }",
            "fleet.yaml:5: spec.devices[0].disk.bandwidht: unknown field; did you mean bandwidth?",
        ),
        (
            "  segments: 0\n  devices:\n    - { name: a, memory: 4Mi }",
            "fleet.yaml:4: spec.segments: must be from 1 to 1024, not 0",
        ),
        (
            "  devices:\n    - { name: a, memory: 4Mi, threads: -1 }",
            "fleet.yaml:5: spec.devices[0].threads: must be from 1 to 1024, not -1",
        ),
    ];
    for (spec, expected) in table {
        assert_eq!(read(spec).unwrap_err().to_string(), expected, "{spec}");
    }
}

#[test]
fn figures_of_the_planner_can_be_given() {
    let fleet = read(
        "  devices:\n    - { name: a, memory: 4Mi, profile: { memoryBandwidth: 10GB, throughput: 1.5TFLOP/s, blockLatency: 20us } }",
    );
    let given = fleet.unwrap().devices[0].given;
    assert_eq!((given.memory_bandwidth, given.throughput), (Some(10_000_000_000), Some(1_500_000_000_000)));
    assert_eq!(given.block_latency, Some(Nanos(20_000)));
    let fault = read("  devices:\n    - { name: a, memory: 4Mi, profile: { throughput: fast } }").unwrap_err();
    assert_eq!(
        fault.to_string(),
        "fleet.yaml:5: spec.devices[0].profile.throughput: throughput is \"fast\", expected something like \"900 GFLOP/s\""
    );
}

/// What a fleet of other machines takes, a LocalFleet takes, and the other way round: one grammar.
#[test]
fn amounts_are_written_as_in_any_other_file() {
    let ways = [
        "{ name: a, memory: 8Gi, link: { bandwidth: 100Mbit, latency: 2ms }, disk: { bandwidth: 200MB } }",
        "{ name: a, memory: 8 GiB, link: { bandwidth: 100 Mbit/s, latency: 2 ms }, disk: { bandwidth: 200 MB/s } }",
        "{ name: a, memory: 8589934592, link: { bandwidth: 1e8, latency: 0.002 }, disk: { bandwidth: 2e8 } }",
    ];
    let read = ways.map(|device| read(&format!("  devices:\n    - {device}")).unwrap());
    assert_eq!(read[0].devices[0].memory, Bytes::gib(8));
    assert!(read.iter().all(|fleet| *fleet == read[0]), "{read:?}");
    let node = |memory: &str, link: &str, latency: &str, disk: &str| {
        let text = format!(
            "nodes:\n- {{ name: a, memory: {memory}, memoryBandwidth: 1 GB/s, throughput: 50GFLOP, diskBandwidth: {disk} }}\n\
             - {{ name: b, memory: 1Gi, memoryBandwidth: 1GB, throughput: 50 GFLOP/s, diskBandwidth: none }}\n\
             links: {{ default: {{ bandwidth: {link}, latency: {latency} }} }}"
        );
        let file: lime_plan::FleetFile = serde_saphyr::from_str(&text).unwrap();
        file.check().unwrap()
    };
    let fleet = node("8Gi", "100Mbit", "2ms", "200MB");
    assert_eq!(fleet, node("8 GiB", "100 Mbit/s", "2 ms", "200 MB/s"));
    assert_eq!((fleet.nodes()[0].memory, fleet.link(0, 1).bandwidth), (Bytes::gib(8), 12_500_000));
}
