//! The Job that reads the model's card.

use serde_json::json;

use super::{Kind, Object, affinity, container_security, model_volume, source_environment, template};
use crate::{names, settings::Settings, wish::Wish};

/// Seconds that an ended inspection stays: then a refused model is looked at again.
const KEPT_SECONDS: i32 = 300;
/// Seconds that an inspection may take: it reads headers.
const DEADLINE_SECONDS: i32 = 600;

/// No model's small files take more.
const SCRATCH: &str = "1Gi";

/// The Job that reads the model's headers and tells the card in its termination message.
pub fn inspection(wish: &Wish, settings: &Settings) -> Object {
    let (model, mut volumes, mut mounts) = model_volume(wish);
    let given = wish.worker_template();
    let has_tmp =
        given.is_some_and(|it| it.volume_mounts.iter().any(|mount| mount.mount_path.trim_end_matches('/') == "/tmp"));
    if wish.is_fetched() && !has_tmp {
        // Headers and tokenizer of a source that is fetched lie here for a moment.
        volumes.push(json!({ "name": "scratch", "emptyDir": { "sizeLimit": SCRATCH } }));
        mounts.push(json!({ "name": "scratch", "mountPath": "/tmp" }));
    }
    let name = names::inspection(&wish.name, &wish.source_digest());
    let mut arguments = vec!["inspect".to_owned(), model, "--termination-log".into(), "/dev/termination-log".into()];
    if let Some(revision) = &wish.spec.model.revision {
        arguments.extend(["--revision".to_owned(), revision.clone()]);
    }
    let container = json!({
        "name": "inspect",
        "image": settings.image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["lime"],
        "args": arguments,
        "env": source_environment(wish, settings),
        "resources": { "requests": { "cpu": "50m", "memory": "64Mi" }, "limits": { "memory": "512Mi" } },
        "securityContext": container_security(),
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "volumeMounts": mounts,
    });
    let mut rest = json!({ "spec": {
        "backoffLimit": 0,
        "activeDeadlineSeconds": DEADLINE_SECONDS,
        "ttlSecondsAfterFinished": KEPT_SECONDS,
        "template": {
            "metadata": { "labels": names::labels(&wish.name, "inspect") },
            "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "containers": [container],
                "volumes": volumes,
            },
        },
    }});
    template::add(&mut rest["spec"]["template"], given, settings, template::Part::Inspection);
    if let Some(affinity) = affinity::of_inspection(wish, given) {
        rest["spec"]["template"]["spec"]["affinity"] = affinity;
    }
    Object::new(wish, Kind::Job, name, "inspect", rest)
}
