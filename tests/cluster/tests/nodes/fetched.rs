//! A model from a server: every worker fetches its own blocks into its claim, and finds them there when its pod is another.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lime_cluster_tests::{Kubectl, repository};
use serde_json::{Value, json};

use crate::deployed::{Deployed, NAMESPACE, PATIENCE, condition, manifest};
use crate::disk::{self, Disks};
use crate::http::post;
use crate::hub::{Fault, Server, Strikes};
use crate::machine::is_ours;
use crate::quantized;
use crate::ring::question;
use crate::streams::Client;

const WEIGHTS: &str = "tests/fixtures/models/bard-2m/model.safetensors";

/// A hub of the bundled model, and of a quantized one where that is to be had, that every node reaches. Its files are in `folder`. It
/// wants no token: none is sent over plain HTTP.
pub(crate) fn hub(cluster: &Kubectl, folder: &Path) -> Server {
    let nodes = cluster.get(&["nodes", "-l", "lime.dev/test-node"]).unwrap();
    let addresses = nodes["items"][0]["status"]["addresses"].as_array().unwrap().iter();
    let internal = addresses.clone().find(|address| address["type"] == "InternalIP").unwrap();
    // This machine's own end of the bridge: tests/cluster/harness/network.go.
    let (network, _) = internal["address"].as_str().unwrap().rsplit_once('.').unwrap();
    symlink(repository().join("tests/fixtures/models/bard-2m"), folder.join("bard-2m")).unwrap();
    if let Some(file) = quantized::file() {
        let repository = folder.join(quantized::REPOSITORY.0);
        fs::create_dir(&repository).unwrap();
        fs::copy(file, repository.join(quantized::REPOSITORY.1)).unwrap();
    }
    Server::start_at(&format!("{network}.1"), folder.to_owned())
}

/// Volumes for the stores of a deployment's workers, until this is dropped.
pub(crate) struct Stores<'a> {
    cluster: &'a Kubectl,
    names: [String; 3],
}

impl<'a> Stores<'a> {
    /// Makes them, on the disks of [`Disks`].
    pub(crate) fn new(cluster: &'a Kubectl, name: &str) -> Self {
        let names = std::array::from_fn(|number| format!("{name}-{number}"));
        for name in &names {
            let volume = json!({
                "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
                "spec": {
                    "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "",
                    "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": disk::AT},
                },
            });
            cluster.run_with(&["apply", "-f", "-"], &volume.to_string()).unwrap();
        }
        Self { cluster, names }
    }
}

impl Drop for Stores<'_> {
    fn drop(&mut self) {
        let names = self.names.iter().map(String::as_str);
        let delete: Vec<&str> = ["delete", "pv", "--wait=false"].into_iter().chain(names).collect();
        // They go with the cluster, whatever becomes of this.
        let _ = self.cluster.run(&delete);
    }
}

/// The deployment of `bard.yaml` from the hub: it says what one process says, and fetches nothing twice. All of its workers are
/// deleted under a stream, which goes on with those that come after them, at other addresses, and has all of its tokens.
pub(crate) fn serves(cluster: &Kubectl, hub: &Server, expected: &Value, long: (&Value, &Value)) {
    let disks = Disks::full(cluster);
    let _stores = Stores::new(cluster, "store");
    let source = "source: \"hf://lime/bard-2m\"";
    let wish = manifest("bard.yaml").replace("source: \"pvc://models/bard-2m\"", source);
    assert!(wish.contains(source), "{wish}");
    cluster.run_with(&["apply", "-f", "-"], &wish).unwrap();
    let bard = Deployed::bard(cluster);
    full_disks_are_told(&bard);
    dies_in_the_middle(&bard, &disks, hub);
    bard.served(None);
    assert_eq!(&bard.ask(&question())["choices"], expected);
    let whole = fs::metadata(repository().join(WEIGHTS)).unwrap().len();
    let sent = sent(hub);
    println!("{sent} bytes were fetched of a model of {whole}");
    assert!(
        sent < whole * 2,
        "workers fetch their own blocks alone, and what was whole when they died is not fetched again"
    );

    let scope = ["-n", NAMESPACE];
    let workers = cluster.get(&[&scope[..], &["pods", "-l", "lime.dev/component=worker"]].concat()).unwrap();
    let names: Vec<&str> =
        workers["items"].as_array().unwrap().iter().filter_map(|it| it["metadata"]["name"].as_str()).collect();
    assert!(names.len() >= 2, "{names:?}");
    let gateway = bard.gateway_uid();
    let client = Client::start(&bard.endpoint(), long.0, long.1);
    std::thread::sleep(Duration::from_secs(1));
    cluster.run(&[&scope[..], &["delete", "pods", "--grace-period=1"], &names].concat()).unwrap();
    bard.served(None);
    let answered = cluster.eventually("other pods answer", PATIENCE, || Ok(post(&bard.endpoint(), &question()).ok()));
    assert_eq!(&answered.unwrap()["choices"], expected);
    let seen = client.stop();
    println!("workers at other addresses: {seen:?}");
    assert!(seen.longest_pause > Duration::from_secs(1), "no answer was under way when the workers went");
    assert_eq!(bard.gateway_uid(), gateway, "workers at other addresses make no new gateway");
    let again = self::sent(hub);
    println!("{again} bytes were fetched by the pods after them");
    assert!(again < whole / 10, "what was fetched is found again");
}

/// Disks without room: what is missing is said, nothing is written, and it goes on when there is room.
fn full_disks_are_told(bard: &Deployed<'_>) {
    let told = bard.eventually("the full disk is told", PATIENCE, |it| {
        let weights = condition(it, "WeightsReady");
        (weights.reason == "DiskFull").then_some(weights.message)
    });
    println!("a full disk: {told}");
    assert!(told.contains(" more and its disk has "), "it says how much is missing: {told}");
}

/// All workers are killed while their weights come: what is half written is never taken for whole.
fn dies_in_the_middle(bard: &Deployed<'_>, disks: &Disks, hub: &Server) {
    // So slowly that there is a middle.
    hub.always(Strikes::Weights, Fault::Slow(300_000));
    let before = sent_so_far(hub);
    disks.make_room();
    let begun = bard.cluster.eventually("weights come", PATIENCE, || Ok((sent_so_far(hub) > before).then_some(())));
    begun.unwrap_or_else(|error| panic!("{error}\n{}", bard.told()));
    let killed = kill_workers();
    hub.heal();
    println!("{killed} workers were killed while weights came");
    assert!(killed > 0);
}

/// Kills the workers of this cluster as the kernel would; how many there were.
fn kill_workers() -> usize {
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let is_worker = |process: &PathBuf| {
        let said = fs::read_to_string(process.join("cmdline")).unwrap_or_default();
        let mut words = said.split('\0');
        words.next().is_some_and(|program| program.ends_with("lime"))
            && words.next() == Some("worker")
            && is_ours(process)
    };
    let kill = |process: &PathBuf| Command::new("kill").arg("-KILL").arg(process.file_name().unwrap()).status();
    processes.filter(is_worker).filter(|process| kill(process).is_ok_and(|done| done.success())).count()
}

/// Bytes of weights that were sent, whoever asks again.
fn sent_so_far(hub: &Server) -> u64 {
    hub.peek().iter().filter(|it| it.path.ends_with(".safetensors")).map(|it| it.sent).sum()
}

/// Bytes of weights that were sent since this was asked the last time.
fn sent(hub: &Server) -> u64 {
    hub.seen().iter().filter(|it| it.path.ends_with(".safetensors")).map(|it| it.sent).sum()
}
