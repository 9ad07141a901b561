//! What a pod template touches and may not: for files that no API server sees.

use std::collections::BTreeMap;

use crate::{
    fault::Fault,
    template::{ExtraMount, PodTemplate, Template},
    template_rules::{
        ANNOTATIONS, ARG_FORM, ARGS, ENV, ENV_VALUE, LABELS, MOUNT_FORM, MOUNT_PATHS, MOUNT_WITHOUT_VOLUME, OWN_ENV,
        OWN_FLAGS, OWN_FOLDERS, OWN_LABELS, OWN_PARENTS, OWN_VOLUMES, PREFIX, VOLUME_NAMES, VOLUME_SOURCES,
        WORKER_MEMORY,
    },
};

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
}
