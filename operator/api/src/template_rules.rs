//! What a pod template may not touch, as CEL for the API server; `template_faults.rs` has it for files that no API server sees. What LIME makes its
//! pods with stays LIME's: a test of the operator holds the lists here against the pods that it builds.

/// Prefix of LIME's own labels and annotations.
pub(crate) const PREFIX: &str = "lime.dev/";
/// Labels by which LIME finds what it made.
pub(crate) const OWN_LABELS: &[&str] = &[
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
    "app.kubernetes.io/managed-by",
];
/// Environment variables that LIME sets.
pub(crate) const OWN_ENV: &[&str] = &["HF_TOKEN", "HF_TOKEN_PATH", "HF_ENDPOINT", "LIME_STORE", "LIME_GATEWAY"];
/// Flags that LIME sets.
pub(crate) const OWN_FLAGS: &[&str] = &[
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
    "prefix-disk",
];
/// Volumes that LIME mounts.
pub(crate) const OWN_VOLUMES: &[&str] = &["model", "store", "tls", "plan", "keys", "api-tls", "scratch"];
/// Folders of LIME's volumes and of the image's programs: nothing is mounted there or below.
pub(crate) const OWN_FOLDERS: &[&str] =
    &["model", "store", "tls", "plan", "keys", "api-tls", "usr", "lib", "lib64", "bin", "sbin", "proc", "sys"];
/// Folders in which something may be mounted, but not over them.
pub(crate) const OWN_PARENTS: &[&str] = &["dev", "etc"];

pub(crate) const LABELS: &str = "labels that begin with lime.dev/, and app.kubernetes.io/name, instance, component and managed-by, are LIME's own: choose another key";
pub(crate) const ANNOTATIONS: &str = "annotations that begin with lime.dev/ are LIME's own: choose another key";
pub(crate) const ENV: &str = "HF_TOKEN, HF_TOKEN_PATH, HF_ENDPOINT, LIME_STORE and LIME_GATEWAY are set by LIME: use spec.model.tokenSecretRef for the token, and the operator's --hub-endpoint for the hub";
pub(crate) const ENV_VALUE: &str = "a variable has value or valueFrom, not both";
pub(crate) const ARG_FORM: &str = "each of args is one word: --flag or --flag=value";
pub(crate) const ARGS: &str = "the flags --name, --listen, --health, --model, --revision, --store, --tls, --follow, --plan, --worker, --served-name, --api-keys, --api-key-file, --api-tls-cert, --api-tls-key, --status-listen, --drain-seconds, --speculate, --prefix-cache, --prefixes-across-keys, --prefix-disk and --exit-with-parent are set by LIME: remove them from args";
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

#[cfg(test)]
mod tests {
    use super::*;

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
