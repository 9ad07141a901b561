//! The Job that reads the model's card.

use k8s_openapi::{
    api::{
        batch::v1::{Job, JobSpec},
        core::v1::{Container, PodSpec, PodTemplateSpec},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    Object, affinity, container_security, model_volume, mount, resources, scratch_volume, source_environment, template,
};
use crate::{names, settings::Settings, wish::Wish};

/// Seconds that an ended inspection stays: then a refused model is looked at again.
const KEPT_SECONDS: i32 = 300;
/// Seconds that an inspection may take: it reads headers.
const DEADLINE_SECONDS: i64 = 600;

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
        volumes.push(scratch_volume("scratch", Some(SCRATCH)));
        mounts.push(mount("scratch", "/tmp", false));
    }
    let mut arguments = vec!["inspect".to_owned(), model, "--termination-log".into(), "/dev/termination-log".into()];
    if let Some(revision) = &wish.spec.model.revision {
        arguments.extend(["--revision".to_owned(), revision.clone()]);
    }
    let container = Container {
        name: "inspect".to_owned(),
        image: Some(settings.image.clone()),
        image_pull_policy: Some(settings.image_pull_policy.clone()),
        command: Some(vec!["lime".to_owned()]),
        args: Some(arguments),
        env: Some(source_environment(wish, settings)),
        resources: Some(resources("50m", "64Mi", "512Mi")),
        security_context: Some(container_security()),
        termination_message_path: Some("/dev/termination-log".to_owned()),
        termination_message_policy: Some("File".to_owned()),
        volume_mounts: Some(mounts),
        ..Default::default()
    };
    let mut pod = PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some(names::labels(&wish.name, "inspect")), ..Default::default() }),
        spec: Some(PodSpec {
            restart_policy: Some("Never".to_owned()),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            affinity: affinity::of_inspection(wish, given),
            containers: vec![container],
            volumes: Some(volumes),
            ..Default::default()
        }),
    };
    template::add(&mut pod, given, settings, template::Part::Inspection);
    let spec = JobSpec {
        backoff_limit: Some(0),
        active_deadline_seconds: Some(DEADLINE_SECONDS),
        ttl_seconds_after_finished: Some(KEPT_SECONDS),
        template: pod,
        ..Default::default()
    };
    let name = names::inspection(&wish.name, &wish.source_digest());
    Object::new(wish, name, "inspect", Job { spec: Some(spec), ..Default::default() })
}
