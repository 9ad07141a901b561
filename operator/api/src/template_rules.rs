//! What a pod template may not touch: once as CEL for the API server, once here for files that no API server sees. What LIME makes its
//! pods with stays LIME's: a test of the operator holds the lists here against the pods that it builds.

use std::collections::BTreeMap;

use crate::{ExtraMount, Fault, PodTemplate, Template};

/// Prefix of LIME's own labels and annotations.
const PREFIX: &str = "lime.dev/";
/// Labels by which LIME finds what it made.
const OWN_LABELS: &[&str] = &[
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
    "app.kubernetes.io/managed-by",
];
/// Environment variables that LIME sets.
const OWN_ENV: &[&str] = &["HF_TOKEN", "HF_TOKEN_PATH", "HF_ENDPOINT", "LIME_STORE", "LIME_GATEWAY"];
/// Flags that LIME sets.
const OWN_FLAGS: &[&str] = &[
    "name",
    "listen",
    "health",
    "model",
    "revision",
    "store",
    "tls",
    "follow",
    "plan",
    "worker",
    "served-name",
    "api-keys",
    "api-key-file",
    "api-tls-cert",
    "api-tls-key",
    "status-listen",
    "exit-with-parent",
    "drain-seconds",
    "speculate",
    "prefix-cache",
    "prefixes-across-keys",
];
/// Volumes that LIME mounts.
const OWN_VOLUMES: &[&str] = &["model", "store", "tls", "plan", "keys", "api-tls", "scratch"];
/// Folders of LIME's volumes and of the image's programs: nothing is mounted there or below.
const OWN_FOLDERS: &[&str] =
    &["model", "store", "tls", "plan", "keys", "api-tls", "usr", "lib", "lib64", "bin", "sbin", "proc", "sys"];
/// Folders in which something may be mounted, but not over them.
const OWN_PARENTS: &[&str] = &["dev", "etc"];

pub(crate) const LABELS: &str = "labels that begin with lime.dev/, and app.kubernetes.io/name, instance, component and managed-by, are LIME's own: choose another key";
pub(crate) const ANNOTATIONS: &str = "annotations that begin with lime.dev/ are LIME's own: choose another key";
pub(crate) const ENV: &str = "HF_TOKEN, HF_TOKEN_PATH, HF_ENDPOINT, LIME_STORE and LIME_GATEWAY are set by LIME: use spec.model.tokenSecretRef for the token, and the operator's --hub-endpoint for the hub";
pub(crate) const ENV_VALUE: &str = "a variable has value or valueFrom, not both";
pub(crate) const ARG_FORM: &str = "each of args is one word: --flag or --flag=value";
pub(crate) const ARGS: &str = "the flags --name, --listen, --health, --model, --revision, --store, --tls, --follow, --plan, --worker, --served-name, --api-keys, --api-key-file, --api-tls-cert, --api-tls-key, --status-listen, --drain-seconds, --speculate, --prefix-cache, --prefixes-across-keys and --exit-with-parent are set by LIME: remove them from args";
pub(crate) const VOLUME_NAMES: &str =
    "the volumes model, store, tls, plan, keys, api-tls and scratch are LIME's own: choose another name";
pub(crate) const VOLUME_SOURCES: &str =
    "each of volumes has one source: configMap, secret, persistentVolumeClaim, emptyDir, hostPath or csi";
pub(crate) const MOUNT_FORM: &str =
    "each mountPath is an absolute path without .. and colons, such as /etc/authorities";
pub(crate) const MOUNT_PATHS: &str = "/model, /store, /tls, /plan, /keys and /api-tls are LIME's own folders, and /usr, /lib, /lib64, /bin, /sbin, /proc, /sys, /dev and /etc the image's: mount elsewhere (below /dev and /etc is fine)";
pub(crate) const MOUNT_WITHOUT_VOLUME: &str =
    "each of volumeMounts names one of volumes: add the volume, or remove the mount";
pub(crate) const WORKER_MEMORY: &str = "a worker's memory follows from its plan: remove memory from spec.template.worker.resources, and use spec.nodes.memoryReserve or the node's memoryBudget";

/// A list of texts in CEL.
fn list(items: &[&str]) -> String {
    let quoted: Vec<String> = items.iter().map(|item| format!("'{item}'")).collect();
    format!("[{}]", quoted.join(", "))
}

pub(crate) fn labels() -> String {
    format!("self.all(k, !k.startsWith('{PREFIX}') && !(k in {}))", list(OWN_LABELS))
}

pub(crate) fn annotations() -> String {
    format!("self.all(k, !k.startsWith('{PREFIX}'))")
}

pub(crate) fn env() -> String {
    format!("self.all(e, !(e.name in {}))", list(OWN_ENV))
}

pub(crate) const fn env_value() -> &'static str {
    "self.all(e, !(has(e.value) && has(e.valueFrom)))"
}

pub(crate) const fn arg_form() -> &'static str {
    "self.all(a, a.matches('^--[a-z][a-z0-9-]*(=|$)'))"
}

pub(crate) fn args() -> String {
    format!("self.all(a, !a.matches('^--({})(=|$)'))", OWN_FLAGS.join("|"))
}

pub(crate) fn volume_names() -> String {
    format!("self.all(v, !(v.name in {}))", list(OWN_VOLUMES))
}

pub(crate) const fn volume_sources() -> &'static str {
    "self.all(v, [has(v.configMap), has(v.secret), has(v.persistentVolumeClaim), has(v.emptyDir), has(v.hostPath), \
     has(v.csi)].exists_one(it, it))"
}

pub(crate) const fn mount_form() -> &'static str {
    "self.all(m, m.mountPath.matches('^(/[^/:]+)+/?$') && !m.mountPath.matches('/[.][.]?(/|$)'))"
}

pub(crate) fn mount_paths() -> String {
    format!(
        "self.all(m, !m.mountPath.matches('^/({})(/|$)') && !m.mountPath.matches('^/({})/?$'))",
        OWN_FOLDERS.join("|"),
        OWN_PARENTS.join("|")
    )
}

pub(crate) const fn mounts_have_volumes() -> &'static str {
    "!has(self.volumeMounts) || self.volumeMounts.all(m, has(self.volumes) && self.volumes.exists(v, v.name == m.name))"
}

pub(crate) const fn worker_memory() -> &'static str {
    "!has(self.resources) || ((!has(self.resources.requests) || !('memory' in self.resources.requests)) && \
     (!has(self.resources.limits) || !('memory' in self.resources.limits)))"
}

impl Template {
    /// Every rule that this template breaks.
    pub(crate) fn faults(&self) -> Vec<Fault> {
        let parts = [("spec.template.worker", &self.worker), ("spec.template.gateway", &self.gateway)];
        let mut faults: Vec<Fault> =
            parts.into_iter().flat_map(|(at, part)| part.iter().flat_map(move |part| part.faults(at))).collect();
        let resources = self.worker.iter().flat_map(|worker| &worker.resources);
        if resources.into_iter().any(|it| it.requests.contains_key("memory") || it.limits.contains_key("memory")) {
            faults.push(Fault { field: "spec.template.worker.resources".into(), message: WORKER_MEMORY.into() });
        }
        faults
    }
}

impl PodTemplate {
    fn faults(&self, at: &str) -> Vec<Fault> {
        let mut faults = Vec::new();
        // The item by its name, so that nobody looks for it.
        let mut add = |field: &str, item: &str, message: &str| {
            faults.push(Fault { field: format!("{at}.{field}"), message: format!("{item}: {message}") });
        };
        for key in own_keys(&self.labels).chain(self.labels.keys().filter(|key| OWN_LABELS.contains(&key.as_str()))) {
            add("labels", key, LABELS);
        }
        own_keys(&self.annotations).for_each(|key| add("annotations", key, ANNOTATIONS));
        for variable in &self.env {
            if OWN_ENV.contains(&variable.name.as_str()) {
                add("env", &variable.name, ENV);
            }
            if variable.value.is_some() && variable.value_from.is_some() {
                add("env", &variable.name, ENV_VALUE);
            }
        }
        for arg in &self.args {
            match flag(arg) {
                None => add("args", arg, ARG_FORM),
                Some(flag) if OWN_FLAGS.contains(&flag) => add("args", arg, ARGS),
                Some(_) => {}
            }
        }
        for volume in &self.volumes {
            if OWN_VOLUMES.contains(&volume.name.as_str()) {
                add("volumes", &volume.name, VOLUME_NAMES);
            }
            if volume.sources() != 1 {
                add("volumes", &volume.name, VOLUME_SOURCES);
            }
        }
        for mount in &self.volume_mounts {
            if !is_plain(&mount.mount_path) {
                add("volumeMounts", &mount.mount_path, MOUNT_FORM);
            } else if is_own(mount) {
                add("volumeMounts", &mount.mount_path, MOUNT_PATHS);
            }
            if self.volumes.iter().all(|volume| volume.name != mount.name) {
                add("volumeMounts", &mount.name, MOUNT_WITHOUT_VOLUME);
            }
        }
        faults
    }
}

fn own_keys(map: &BTreeMap<String, String>) -> impl Iterator<Item = &String> {
    map.keys().filter(|key| key.starts_with(PREFIX))
}

/// The name of the flag that an argument gives, if it gives one.
fn flag(arg: &str) -> Option<&str> {
    let name = arg.strip_prefix("--")?;
    let name = name.split_once('=').map_or(name, |(name, _)| name);
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (name.starts_with(|first: char| first.is_ascii_lowercase()) && name.bytes().all(known)).then_some(name)
}

/// Whether a path is absolute and leads where it seems to.
fn is_plain(path: &str) -> bool {
    let inner = path.strip_prefix('/').map(|path| path.strip_suffix('/').unwrap_or(path));
    inner.is_some_and(|inner| inner.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.contains(':')))
}

fn is_own(mount: &ExtraMount) -> bool {
    let inner = mount.mount_path.trim_matches('/');
    let first = inner.split('/').next().unwrap_or_default();
    OWN_FOLDERS.contains(&first) || OWN_PARENTS.contains(&inner)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn faults(template: Value) -> Vec<String> {
        let template: Template = serde_json::from_value(template).unwrap();
        template.faults().into_iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect()
    }

    #[test]
    fn what_people_put_into_pods_is_taken() {
        let fine = json!({
            "labels": { "team": "a", "app.kubernetes.io/part-of": "b" },
            "annotations": { "prometheus.io/scrape": "true", "notlime.dev/x": "" },
            "env": [
                { "name": "HTTPS_PROXY", "value": "http://proxy:3128" },
                { "name": "SECRET", "valueFrom": { "secretKeyRef": { "name": "s", "key": "k" } } },
            ],
            "args": ["--threads=4", "--verify-reads=64", "--allow-host=a:b=c"],
            "volumes": [{ "name": "authorities", "configMap": { "name": "ca" } }, { "name": "tmp", "emptyDir": {} }],
            "volumeMounts": [
                { "name": "authorities", "mountPath": "/etc/ssl/certs/", "readOnly": true },
                { "name": "tmp", "mountPath": "/tmp" }, { "name": "tmp", "mountPath": "/models/a" },
            ],
        });
        assert_eq!(faults(json!({ "worker": fine, "gateway": fine })), Vec::<String>::new());
    }

    #[test]
    fn what_is_limes_own_is_refused_by_name_and_all_at_once() {
        let wrong = json!({
            "labels": { "lime.dev/deployment": "x", "app.kubernetes.io/managed-by": "me" },
            "annotations": { "lime.dev/template": "x" },
            "env": [{ "name": "HF_TOKEN", "value": "t" }, { "name": "A", "value": "a", "valueFrom": {} }],
            "args": ["--listen=0.0.0.0:1", "--tls", "-v", "--Threads=1", "model"],
            "volumes": [{ "name": "store", "emptyDir": {} }, { "name": "two", "emptyDir": {}, "secret": {} }, { "name": "no" }],
            "volumeMounts": [
                { "name": "two", "mountPath": "/model/x" }, { "name": "two", "mountPath": "/etc" },
                { "name": "two", "mountPath": "/a/../store" }, { "name": "two", "mountPath": "relative" },
                { "name": "two", "mountPath": "//store" }, { "name": "missing", "mountPath": "/a" },
            ],
        });
        let found = faults(json!({ "worker": wrong }));
        for item in [
            "labels: lime.dev/deployment",
            "labels: app.kubernetes.io/managed-by",
            "annotations: lime.dev/template",
            "env: HF_TOKEN",
            "env: A",
            "args: --listen=0.0.0.0:1",
            "args: --tls",
            "args: -v",
            "args: --Threads=1",
            "args: model",
            "volumes: store",
            "volumes: two",
            "volumes: no",
            "volumeMounts: /model/x",
            "volumeMounts: /etc",
            "volumeMounts: /a/../store",
            "volumeMounts: relative",
            "volumeMounts: //store",
            "volumeMounts: missing",
        ] {
            let path = format!("spec.template.worker.{item}: ");
            assert_eq!(found.iter().filter(|fault| fault.starts_with(&path)).count(), 1, "{item}: {found:#?}");
        }
        assert_eq!(found.len(), 19, "{found:#?}");
    }

    #[test]
    fn the_plan_alone_says_what_memory_a_worker_has() {
        let memory = json!({ "resources": { "limits": { "memory": "1Gi" } } });
        assert_eq!(faults(json!({ "gateway": memory })).len(), 0);
        let found = faults(json!({ "worker": memory }));
        assert!(found[0].starts_with("spec.template.worker.resources: a worker's memory"), "{found:?}");
    }

    /// The sentences name what the lists hold: nobody has to guess.
    #[test]
    fn the_sentences_name_everything_that_is_reserved() {
        let all = |items: &[&str], before: &str, sentence: &str| {
            for item in items {
                assert!(sentence.contains(&format!("{before}{item}")), "{item} is not in: {sentence}");
            }
        };
        all(OWN_ENV, "", ENV);
        all(OWN_FLAGS, "--", ARGS);
        all(OWN_VOLUMES, "", VOLUME_NAMES);
        all(OWN_FOLDERS, "/", MOUNT_PATHS);
        all(OWN_PARENTS, "/", MOUNT_PATHS);
    }
}
