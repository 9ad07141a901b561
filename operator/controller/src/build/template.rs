//! What a deployment's `spec.template` and the operator's settings add to the pods that LIME makes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    EnvVar, LocalObjectReference, PodSecurityContext, PodTemplateSpec, SeccompProfile, Toleration, Volume, VolumeMount,
};
use lime_api::{ExtraMount, ExtraVolume, PodSecurity, PodTemplate, Resources, Variable};

use crate::settings::Settings;

/// Which pod it is that something is added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A worker or the gateway: everything.
    Serving,
    /// The inspection: what it takes to run where the workers run, and to reach the source. It has arguments and resources of its own.
    Inspection,
}

/// Adds what `template` says to `pod`. What LIME needs itself is there already, and no template names it:
/// `LimeDeploymentSpec::faults`.
pub(super) fn add(pod: &mut PodTemplateSpec, template: Option<&PodTemplate>, settings: &Settings, part: Part) {
    let spec = pod.spec.get_or_insert_default();
    let given = template.iter().flat_map(|template| &template.image_pull_secrets).map(|secret| &secret.name);
    let mut secrets: Vec<&String> = Vec::new();
    for secret in settings.image_pull_secrets.iter().chain(given) {
        if !secrets.contains(&secret) {
            secrets.push(secret);
        }
    }
    let secrets = secrets.into_iter().map(|name| LocalObjectReference { name: name.clone() });
    append(&mut spec.image_pull_secrets, secrets);
    spec.security_context = Some(security(settings, template.and_then(|it| it.security_context.as_ref())));
    let Some(template) = template else { return };
    append(&mut spec.volumes, template.volumes.iter().cloned().map(volume));
    tolerate(&mut spec.tolerations, template);
    spec.priority_class_name.clone_from(&template.priority_class_name);
    if template.host_network {
        spec.host_network = Some(true);
        spec.dns_policy = Some("ClusterFirstWithHostNet".to_owned());
    }
    if part == Part::Serving {
        append(&mut spec.topology_spread_constraints, template.topology_spread_constraints.iter().cloned());
    }
    for container in spec.containers.iter_mut().take(1) {
        append(&mut container.env, template.env.iter().cloned().map(variable));
        append(&mut container.volume_mounts, template.volume_mounts.iter().cloned().map(mount));
        if part == Part::Serving {
            append(&mut container.args, template.args.iter().cloned());
            if let Some(Resources { requests, limits }) = template.resources.clone() {
                let own = container.resources.get_or_insert_default();
                add_map(&mut own.requests, requests);
                add_map(&mut own.limits, limits);
            }
        }
    }
    let metadata = pod.metadata.get_or_insert_default();
    add_map(&mut metadata.labels, template.labels.clone());
    add_map(&mut metadata.annotations, template.annotations.clone());
}

/// Who the processes of a pod are and what they may do: nothing, and never as root.
fn security(settings: &Settings, given: Option<&PodSecurity>) -> PodSecurityContext {
    let given = given.cloned().unwrap_or_default();
    // Where the namespace's policy says who they are, nothing is said here: it refuses what it has not chosen.
    let user = settings.pod_user.number().map(i64::from);
    let confined = SeccompProfile { type_: "RuntimeDefault".to_owned(), ..Default::default() };
    let groups = given.supplemental_groups;
    PodSecurityContext {
        run_as_non_root: Some(true),
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        run_as_user: given.run_as_user.or(user),
        run_as_group: given.run_as_group.or(user),
        fs_group: given.fs_group.or(user),
        supplemental_groups: (!groups.is_empty()).then_some(groups),
        seccomp_profile: Some(given.seccomp_profile.unwrap_or(confined)),
        app_armor_profile: given.app_armor_profile,
        se_linux_options: given.se_linux_options,
        ..Default::default()
    }
}

/// The pod's own tolerations go where the template says something about the same taint.
fn tolerate(tolerations: &mut Option<Vec<Toleration>>, template: &PodTemplate) {
    if let Some(own) = tolerations {
        own.retain(|own| template.tolerations.iter().all(|given| given.key != own.key));
    }
    append(tolerations, template.tolerations.iter().cloned());
}

fn volume(given: ExtraVolume) -> Volume {
    let ExtraVolume { name, config_map, secret, persistent_volume_claim, empty_dir, host_path, csi } = given;
    Volume { name, config_map, secret, persistent_volume_claim, empty_dir, host_path, csi, ..Default::default() }
}

fn mount(given: ExtraMount) -> VolumeMount {
    let ExtraMount { name, mount_path, sub_path, read_only } = given;
    VolumeMount { name, mount_path, sub_path, read_only: read_only.then_some(true), ..Default::default() }
}

fn variable(given: Variable) -> EnvVar {
    let Variable { name, value, value_from } = given;
    EnvVar { name, value, value_from }
}

/// Adds items to a list that may not be there.
fn append<T>(list: &mut Option<Vec<T>>, items: impl IntoIterator<Item = T>) {
    let mut items = items.into_iter().peekable();
    if items.peek().is_some() {
        list.get_or_insert_default().extend(items);
    }
}

/// Adds entries to a map that may not be there.
fn add_map<V>(map: &mut Option<BTreeMap<String, V>>, entries: BTreeMap<String, V>) {
    if !entries.is_empty() {
        map.get_or_insert_default().extend(entries);
    }
}
