//! A LimeDeployment on the cluster, as people see it: its conditions, its plan, its pods, and what its endpoint answers.

use std::time::{Duration, Instant};

use lime_cluster_tests::{Kubectl, repository};
use serde_json::{Value, json};

use crate::http::{exchange, post};
use crate::machine::model;

/// From a change to a ring that answers: nodes share two cores with everything else here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);
/// The namespace of `tests/cluster/nodes/bard.yaml`.
pub(crate) const NAMESPACE: &str = "llm";

/// A condition: its status, reason and message; empty where it is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) status: String,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// The condition `kind` of any object.
pub(crate) fn condition(object: &Value, kind: &str) -> Condition {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    let found = conditions.into_iter().find(|each| each["type"] == kind);
    let word = |name: &str| found.and_then(|found| found[name].as_str()).unwrap_or_default().to_owned();
    Condition { status: word("status"), reason: word("reason"), message: word("message") }
}

/// A manifest beside the suite, with the folder of the bundled models in it.
pub(crate) fn manifest(name: &str) -> String {
    let text = std::fs::read_to_string(repository().join("tests/cluster/nodes").join(name)).unwrap();
    let models = model();
    text.replace("$MODELS", models.rsplit_once('/').unwrap().0)
}

/// Nothing runs here that a namespace with restricted pod security would refuse.
pub(crate) fn restrict(cluster: &Kubectl, namespace: &str) {
    let label = "pod-security.kubernetes.io/enforce=restricted";
    cluster.run(&["label", "namespace", namespace, label, "--overwrite"]).unwrap();
}

/// One LimeDeployment.
#[derive(Clone, Debug)]
pub(crate) struct Deployed<'a> {
    pub(crate) cluster: &'a Kubectl,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
}

impl<'a> Deployed<'a> {
    /// The deployment of `bard.yaml`.
    pub(crate) const fn bard(cluster: &'a Kubectl) -> Self {
        Self { cluster, namespace: NAMESPACE, name: "bard" }
    }

    /// `kubectl` in its namespace.
    pub(crate) fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.cluster.run(&[&["-n", self.namespace], arguments].concat())
    }

    /// Objects of its namespace.
    pub(crate) fn list(&self, arguments: &[&str]) -> anyhow::Result<Vec<Value>> {
        let found = self.cluster.get(&[&["-n", self.namespace], arguments].concat())?;
        Ok(found["items"].as_array().cloned().unwrap_or_default())
    }

    /// The object itself.
    pub(crate) fn object(&self) -> anyhow::Result<Value> {
        self.cluster.get(&["-n", self.namespace, "limedeployment", self.name])
    }

    /// Waits until it is Ready by another plan than `before`, showing each step; returns the plan.
    pub(crate) fn served(&self, before: Option<&str>) -> String {
        let what = "the deployment is Ready";
        self.eventually(what, PATIENCE, |it| {
            let plan = it["status"]["currentPlan"].as_str().unwrap_or_default().to_owned();
            (condition(it, "Ready").status == "True" && Some(plan.as_str()) != before).then_some(plan)
        })
    }

    /// Looks at the object until there is an answer, showing each change of its row.
    pub(crate) fn eventually<T>(&self, what: &str, patience: Duration, ask: impl Fn(&Value) -> Option<T>) -> T {
        let mut shown = String::new();
        let found = self.cluster.eventually(what, patience, || {
            let row = self.run(&["get", "limedeployment", self.name, "--no-headers"])?;
            // The last column is the age.
            let cells = row.trim_end().rsplit_once(' ').map_or("", |(cells, _)| cells.trim_end());
            if cells != shown {
                print!("{row}");
                shown = cells.to_owned();
            }
            Ok(ask(&self.object()?))
        });
        found.unwrap_or_else(|error| {
            panic!("{error}\n{}", self.told());
        })
    }

    /// All that people would look at when something is wrong.
    pub(crate) fn told(&self) -> String {
        let wide = self.run(&["get", "limedeployment,limeplan,pods,events", "-o", "wide"]);
        let yaml = self.run(&["get", "limedeployment", self.name, "-o", "yaml"]);
        format!("{}\n{}", wide.unwrap_or_default(), yaml.unwrap_or_default())
    }

    /// The nodes of its shards.
    pub(crate) fn shard_nodes(&self) -> Vec<String> {
        let shards = self.object().unwrap()["status"]["shards"].as_array().cloned().unwrap_or_default();
        shards.iter().filter_map(|shard| shard["node"].as_str().map(str::to_owned)).collect()
    }

    /// The ready endpoint of its gateway: there is no cluster DNS here, so it is found as kube-proxy finds it.
    pub(crate) fn gateway(&self) -> anyhow::Result<Option<Value>> {
        let name = format!("{}-gateway-", self.name);
        let of_gateway = |endpoint: &Value| {
            let target = endpoint["targetRef"]["name"].as_str();
            endpoint["conditions"]["ready"] == true && target.is_some_and(|target| target.starts_with(&name))
        };
        let slices = self.list(&["endpointslices"])?;
        let endpoints = slices.iter().flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default());
        Ok(endpoints.into_iter().find(of_gateway))
    }

    /// The node of its gateway.
    pub(crate) fn gateway_node(&self) -> String {
        self.gateway().unwrap().expect("a ready gateway")["nodeName"].as_str().unwrap().to_owned()
    }

    /// Its gateway's pod: another one has another uid.
    pub(crate) fn gateway_uid(&self) -> Value {
        let label = format!("lime.dev/component=gateway,lime.dev/deployment={}", self.name);
        let pods = self.list(&["pods", "-l", &label]).unwrap();
        pods.iter().map(|pod| pod["metadata"]["uid"].clone()).collect()
    }

    /// Where it is asked.
    pub(crate) fn endpoint(&self) -> String {
        let gateway = self.gateway().unwrap().unwrap_or_else(|| panic!("no ready gateway\n{}", self.told()));
        format!("{}:8000", gateway["addresses"][0].as_str().unwrap())
    }

    /// What it answers.
    pub(crate) fn ask(&self, question: &Value) -> Value {
        post(&self.endpoint(), question).unwrap()
    }

    /// The same question as a stream of events: the text of all of them together.
    pub(crate) fn streamed(&self, question: &Value) -> String {
        let mut question = question.clone();
        question["stream"] = json!(true);
        let events = exchange(&self.endpoint(), &question).unwrap();
        let pieces: Vec<Value> =
            events.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect();
        assert!(pieces.len() > 10, "no stream: {events}");
        assert!(events.contains("data: [DONE]"), "{events}");
        pieces.iter().filter_map(|piece| piece["choices"][0]["text"].as_str()).collect()
    }

    /// Deletes it: everything of it goes.
    pub(crate) fn leaves_nothing(&self) {
        self.run(&["delete", "limedeployment", self.name, "--timeout=60s"]).unwrap();
        self.cluster
            .eventually("everything of the deployment is gone", PATIENCE, || {
                let kinds = "pods,jobs,services,deployments,secrets,limeplans,pdb,networkpolicies";
                let label = format!("lime.dev/deployment={}", self.name);
                let left = self.run(&["get", kinds, "-l", &label, "-o", "name"])?;
                Ok(left.trim().is_empty().then_some(()))
            })
            .unwrap();
    }
}

/// The text of a completion.
pub(crate) fn text(answer: &Value) -> &Value {
    &answer["choices"][0]["text"]
}

/// Waits until the operator has nothing in hand: it serves, as planned, by one plan, for longer than an agent's period.
pub(crate) fn settled(deployed: &Deployed<'_>) {
    const FOR: Duration = Duration::from_secs(15);
    let mut since = (String::new(), Instant::now());
    let calm = deployed.cluster.eventually("nothing is in hand", PATIENCE, || {
        let it = deployed.object()?;
        let plan = it["status"]["currentPlan"].as_str().unwrap_or_default();
        let (ready, replanning) = (condition(&it, "Ready"), condition(&it, "Replanning"));
        let in_hand = ready.status != "True" || replanning.status != "False";
        if in_hand || condition(&it, "Degraded").reason == "MemoryPressure" || since.0 != plan {
            since = (plan.to_owned(), Instant::now());
        }
        Ok((since.1.elapsed() > FOR).then_some(()))
    });
    calm.unwrap_or_else(|error| panic!("{error}\n{}", deployed.told()));
}
