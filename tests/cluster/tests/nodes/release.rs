//! The chart on the cluster: installed, upgraded, and the nodes that its agents profile.

use std::process::Command;

use lime_cluster_tests::{Kubectl, repository};
use serde_json::json;

use crate::deployed::{PATIENCE, condition, restrict};
use crate::machine::image;

/// The namespace of the first release.
pub(crate) const SYSTEM: &str = "lime-system";

/// A release of the chart, in a namespace of its own.
#[derive(Clone, Debug)]
pub(crate) struct Release<'a> {
    name: &'static str,
    namespace: &'a str,
}

impl<'a> Release<'a> {
    /// Installs the release `lime`, or brings it to these values: `NAME=VALUE`.
    pub(crate) fn install(cluster: &Kubectl, namespace: &'a str, values: &[&str]) -> Self {
        Self::install_as("lime", cluster, namespace, values)
    }

    /// The same under another name.
    pub(crate) fn install_as(name: &'static str, cluster: &Kubectl, namespace: &'a str, values: &[&str]) -> Self {
        cluster.answer(&["create", "namespace", namespace], "").unwrap();
        restrict(cluster, namespace);
        let release = Self { name, namespace };
        release.upgrade(&image(), values);
        println!("{}", cluster.run(&["-n", namespace, "get", "pods", "-o", "wide"]).unwrap());
        release
    }

    /// `helm upgrade --install` with an image and values, waiting until all of it runs.
    pub(crate) fn upgrade(&self, image: &str, values: &[&str]) {
        let (repository_name, tag) = image.rsplit_once(':').unwrap();
        let chart = repository().join("charts/lime").display().to_string();
        let ours = [
            format!("image.repository={repository_name}"),
            format!("image.tag={tag}"),
            "image.pullPolicy=Never".into(),
            "operator.addressing=pod-ip".into(),
            // Test machines are never idle.
            "agent.args={--longest-wait-seconds=15}".into(),
        ];
        let mut arguments = vec!["upgrade", "--install", self.name, &chart, "--namespace", self.namespace];
        arguments.extend(["--wait", "--timeout", "180s", "--take-ownership"]);
        for value in ours.iter().map(String::as_str).chain(values.iter().copied()) {
            arguments.extend(["--set", value]);
        }
        helm(&arguments);
    }

    /// Takes it away; kinds and deployments stay.
    pub(crate) fn uninstall(&self) {
        helm(&["uninstall", self.name, "--namespace", self.namespace, "--wait"]);
    }
}

fn helm(arguments: &[&str]) {
    let done = Command::new("helm").args(arguments).output().unwrap();
    assert!(done.status.success(), "helm {}: {}", arguments.join(" "), String::from_utf8_lossy(&done.stderr));
}

/// Waits for each node's profile and sets what its administrator lends; `None`: all of it.
pub(crate) fn lend(cluster: &Kubectl, nodes: &[String], budget: Option<&str>) {
    let budget = json!({"spec": {"memoryBudget": budget}}).to_string();
    for node in nodes {
        cluster
            .eventually(&format!("{node} is profiled"), PATIENCE, || {
                Ok(cluster
                    .answer(&["patch", "limenodeprofile", node, "--type=merge", "-p", &budget], "")?
                    .ok
                    .then_some(()))
            })
            .unwrap();
    }
    // What is measured later changes what is worth planning, and with it the plan.
    for node in nodes {
        cluster
            .eventually(&format!("{node} is measured"), PATIENCE, || {
                let profile = cluster.get(&["limenodeprofile", node])?;
                let measured = |kind| condition(&profile, kind).status == "True";
                Ok((measured("DiskMeasured") && measured("LinksMeasured")).then_some(()))
            })
            .unwrap();
    }
}

/// Waits until a node that was switched on again is one to plan with.
pub(crate) fn profiled_again(cluster: &Kubectl, node: &str) {
    let ready = cluster.eventually(&format!("{node} is back"), PATIENCE, || {
        let (node, profile) = (cluster.get(&["node", node])?, cluster.get(&["limenodeprofile", node])?);
        Ok((condition(&node, "Ready").status == "True" && condition(&profile, "Fresh").status != "False").then_some(()))
    });
    ready.unwrap();
}
