//! Every rule of the schema refuses what breaks it, with its own sentence, and nothing that keeps it.

use std::collections::BTreeSet;

use lime_cluster_tests::{Kubectl, rules_of};

use crate::deployment;

/// Specs that are fine, from the least that there is to the most.
const ACCEPTED: &[(&str, &str)] = &[
    ("only a source", "{model: {source: 'hf://org/name'}}"),
    ("a claim", "{model: {source: 'pvc://models/llama/8b'}}"),
    ("a folder", "{model: {source: 'file:///models/llama'}}"),
    ("a web server", "{model: {source: 'https://models.local/llama', tokenSecretRef: {name: t, key: k}}}"),
    ("a revision", "{model: {source: 'hf://org/name', revision: 0123abcd}}"),
    ("as many nodes as at least", "{model: {source: 'hf://org/name'}, nodes: {minCount: 2, maxCount: 2}}"),
    ("an approved plan", "{model: {source: 'hf://org/name'}, placement: {approval: Manual, approvedPlan: p-1}}"),
    ("the edges of numbers", "{model: {source: 'hf://org/name'}, endpoint: {port: 65535}, failure: {maxRestarts: 0}}"),
    (
        "quantities of every form",
        "{model: {source: 'hf://org/name'}, nodes: {memoryReserve: 1.5Gi}, offload: {maxDiskPerNode: 200000000}}",
    ),
    ("suspended", "{model: {source: 'hf://org/name'}, suspend: true}"),
    (
        "what pods have besides",
        "{model: {source: 'hf://org/name'}, template: {worker: {labels: {team: a}, annotations: {a/b: c}, \
         env: [{name: HTTPS_PROXY, value: 'http://p'}, {name: S, valueFrom: {secretKeyRef: {name: s, key: k}}}], \
         args: ['--threads=4', '--verify-reads=64'], volumes: [{name: ca, configMap: {name: c}}, {name: d, emptyDir: {}}], \
         volumeMounts: [{name: ca, mountPath: /etc/authorities}, {name: d, mountPath: /tmp/}], \
         resources: {requests: {cpu: 2}, limits: {nvidia.com/gpu: '1'}}, tolerations: [{operator: Exists, tolerationSeconds: 0}], \
         affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 100, podAffinityTerm: \
         {topologyKey: zone}}]}}, topologySpreadConstraints: [{maxSkew: 1, topologyKey: z, whenUnsatisfiable: ScheduleAnyway}], \
         priorityClassName: p, imagePullSecrets: [{name: r}], hostNetwork: true, securityContext: {runAsUser: 1000, \
         seccompProfile: {type: RuntimeDefault}}}, gateway: {resources: {limits: {memory: 1Gi}}}}}",
    ),
    (
        "a way in from outside",
        "{model: {source: 'hf://org/name'}, endpoint: {service: {type: LoadBalancer, nodePort: 30000, loadBalancerClass: c, \
         loadBalancerSourceRanges: [10.0.0.0/8], externalTrafficPolicy: Local, annotations: {a: b}, labels: {c: d}}, ingress: {}}, \
         transport: {port: 7100}}",
    ),
];

/// Specs that break a rule, each with words of the sentence that must come back.
const REFUSED: &[(&str, &str, &str)] = &[
    ("no model", "{}", "spec.model: Required value"),
    ("no source", "{model: {}}", "spec.model.source: Required value"),
    ("empty source", "{model: {source: ''}}", "spec.model.source"),
    ("no scheme", "{model: {source: 'meta-llama/Llama-3'}}", "must be hf://ORGANISATION/NAME"),
    ("half a name", "{model: {source: 'hf://llama'}}", "must be hf://ORGANISATION/NAME"),
    ("a claim without a path", "{model: {source: 'pvc://models'}}", "must be hf://ORGANISATION/NAME"),
    ("a relative path", "{model: {source: 'file://models'}}", "must be hf://ORGANISATION/NAME"),
    (
        "a revision of a folder",
        "{model: {source: 'file:///m', revision: abc}}",
        "revision belongs to hf:// sources only",
    ),
    (
        "a token for a claim",
        "{model: {source: 'pvc://m/n', tokenSecretRef: {name: t, key: k}}}",
        "tokenSecretRef belongs to hf:// and http(s):// sources only",
    ),
    (
        "fewer at most than at least",
        "{model: {source: 'hf://org/name'}, nodes: {minCount: 3, maxCount: 2}}",
        "spec.nodes.maxCount must not be below spec.nodes.minCount",
    ),
    (
        "approved without approval",
        "{model: {source: 'hf://org/name'}, placement: {approvedPlan: p-1}}",
        "has a meaning only with approval: Manual",
    ),
    ("no such port", "{model: {source: 'hf://org/name'}, endpoint: {port: 0}}", "spec.endpoint.port"),
    ("a port too far", "{model: {source: 'hf://org/name'}, endpoint: {port: 65536}}", "spec.endpoint.port"),
    (
        "no such policy",
        "{model: {source: 'hf://org/name'}, offload: {policy: Sometimes}}",
        "\"Auto\", \"Never\", \"Always\"",
    ),
    (
        "no such approval",
        "{model: {source: 'hf://org/name'}, placement: {approval: Maybe}}",
        "\"Automatic\", \"Manual\"",
    ),
    (
        "no context",
        "{model: {source: 'hf://org/name'}, serving: {maxContextTokens: 0}}",
        "spec.serving.maxContextTokens",
    ),
    (
        "no request",
        "{model: {source: 'hf://org/name'}, serving: {maxConcurrentRequests: 0}}",
        "spec.serving.maxConcurrentRequests",
    ),
    (
        "restarts below nothing",
        "{model: {source: 'hf://org/name'}, failure: {maxRestarts: -1}}",
        "spec.failure.maxRestarts",
    ),
    ("a word for a number", "{model: {source: 'hf://org/name'}, endpoint: {port: http}}", "spec.endpoint.port"),
    ("an unknown field", "{model: {source: 'hf://org/name', sauce: x}}", "unknown field \"spec.model.sauce\""),
    (
        "a reserve in words",
        "{model: {source: 'hf://org/name'}, nodes: {memoryReserve: plenty}}",
        "spec.nodes.memoryReserve is not a quantity of bytes",
    ),
    (
        "a reserve below nothing",
        "{model: {source: 'hf://org/name'}, nodes: {memoryReserve: '-1Gi'}}",
        "spec.nodes.memoryReserve is not a quantity of bytes",
    ),
    (
        "a reserve below nothing, as a number",
        "{model: {source: 'hf://org/name'}, nodes: {memoryReserve: -1}}",
        "spec.nodes.memoryReserve is not a quantity of bytes",
    ),
    (
        "thousandths of a byte",
        "{model: {source: 'hf://org/name'}, offload: {maxDiskPerNode: 100m}}",
        "spec.offload.maxDiskPerNode is not a quantity of bytes",
    ),
    (
        "pages on a disk of words",
        "{model: {source: 'hf://org/name'}, prefixCache: {disk: plenty}}",
        "spec.prefixCache.disk is not a quantity of bytes",
    ),
    (
        "more bytes than can be counted",
        "{model: {source: 'hf://org/name'}, offload: {maxDiskPerNode: 16Ei}}",
        "spec.offload.maxDiskPerNode is not a quantity of bytes below 16Ei",
    ),
    (
        "a label of ours",
        "{model: {source: 'hf://org/name'}, template: {worker: {labels: {lime.dev/deployment: x}}}}",
        "labels that begin with lime.dev/",
    ),
    (
        "an annotation of ours",
        "{model: {source: 'hf://org/name'}, template: {gateway: {annotations: {lime.dev/template: x}}}}",
        "annotations that begin with lime.dev/ are LIME's own",
    ),
    (
        "a variable of ours",
        "{model: {source: 'hf://org/name'}, template: {worker: {env: [{name: HF_TOKEN, value: t}]}}}",
        "HF_TOKEN, HF_TOKEN_PATH, HF_ENDPOINT, LIME_STORE and LIME_GATEWAY are set by LIME",
    ),
    (
        "a variable with two values",
        "{model: {source: 'hf://org/name'}, template: {worker: {env: [{name: A, value: t, valueFrom: {}}]}}}",
        "a variable has value or valueFrom, not both",
    ),
    (
        "a variable twice",
        "{model: {source: 'hf://org/name'}, template: {worker: {env: [{name: A}, {name: A}]}}}",
        "spec.template.worker.env[1]: Duplicate value",
    ),
    (
        "an argument that is none",
        "{model: {source: 'hf://org/name'}, template: {worker: {args: ['-v']}}}",
        "each of args is one word: --flag or --flag=value",
    ),
    (
        "an argument of ours",
        "{model: {source: 'hf://org/name'}, template: {gateway: {args: ['--listen=0.0.0.0:1']}}}",
        "the flags --name, --listen",
    ),
    (
        "a volume of ours",
        "{model: {source: 'hf://org/name'}, template: {worker: {volumes: [{name: store, emptyDir: {}}]}}}",
        "the volumes model, store, tls, plan, keys, api-tls and scratch are LIME's own",
    ),
    (
        "a volume with two sources",
        "{model: {source: 'hf://org/name'}, template: {worker: {volumes: [{name: a, emptyDir: {}, secret: {}}]}}}",
        "each of volumes has one source",
    ),
    (
        "a mount that leads elsewhere",
        "{model: {source: 'hf://org/name'}, template: {worker: {volumes: [{name: a, emptyDir: {}}], volumeMounts: [{name: a, \
         mountPath: /a/../store}]}}}",
        "each mountPath is an absolute path without ..",
    ),
    (
        "a mount over ours",
        "{model: {source: 'hf://org/name'}, template: {worker: {volumes: [{name: a, emptyDir: {}}], volumeMounts: [{name: a, \
         mountPath: /model/x}]}}}",
        "/model, /store, /tls, /plan, /keys and /api-tls are LIME's own folders",
    ),
    (
        "a mount of nothing",
        "{model: {source: 'hf://org/name'}, template: {gateway: {volumeMounts: [{name: a, mountPath: /a}]}}}",
        "each of volumeMounts names one of volumes",
    ),
    (
        "a worker's memory",
        "{model: {source: 'hf://org/name'}, template: {worker: {resources: {limits: {memory: 1Gi}}}}}",
        "a worker's memory follows from its plan",
    ),
    (
        "a toleration that Kubernetes does not know",
        "{model: {source: 'hf://org/name'}, template: {worker: {tolerations: [{key: a, operator: Perhaps}]}}}",
        "spec.template.worker.tolerations[0].operator",
    ),
    (
        "a profile that Kubernetes does not know",
        "{model: {source: 'hf://org/name'}, template: {gateway: {securityContext: {seccompProfile: {type: Strict}}}}}",
        "spec.template.gateway.securityContext.seccompProfile.type",
    ),
    (
        "root",
        "{model: {source: 'hf://org/name'}, template: {worker: {securityContext: {runAsUser: 0}}}}",
        "spec.template.worker.securityContext.runAsUser",
    ),
    (
        "a port of nodes of nobody",
        "{model: {source: 'hf://org/name'}, endpoint: {service: {nodePort: 30000}}}",
        "nodePort has a meaning only with type: NodePort or LoadBalancer",
    ),
    (
        "a policy for traffic that is none",
        "{model: {source: 'hf://org/name'}, endpoint: {service: {externalTrafficPolicy: Local}}}",
        "externalTrafficPolicy has a meaning only with type: NodePort or LoadBalancer",
    ),
    (
        "a balancer that is none",
        "{model: {source: 'hf://org/name'}, endpoint: {service: {type: NodePort, loadBalancerClass: a}}}",
        "loadBalancerClass and loadBalancerSourceRanges have a meaning only with type: LoadBalancer",
    ),
    (
        "a Service's label of ours",
        "{model: {source: 'hf://org/name'}, endpoint: {service: {labels: {lime.dev/component: a}}}}",
        "labels and annotations of spec.endpoint.service that begin with lime.dev/",
    ),
    (
        "an Ingress's label of ours",
        "{model: {source: 'hf://org/name'}, endpoint: {ingress: {labels: {app.kubernetes.io/managed-by: a}}}}",
        "labels and annotations of spec.endpoint.ingress that begin with lime.dev/",
    ),
    (
        "a port that only root may have",
        "{model: {source: 'hf://org/name'}, transport: {port: 80}}",
        "spec.transport.port",
    ),
    (
        "a security of its own",
        "{model: {source: 'hf://org/name'}, transport: {security: Trust}}",
        "spec.transport.security",
    ),
];

/// Changes that are refused: what was, what would be, and words of the sentence.
const REFUSED_CHANGES: &[(&str, &str, &str, &str)] = &[(
    "another source",
    "{model: {source: 'hf://org/name'}}",
    "{model: {source: 'hf://org/other'}}",
    "spec.model.source cannot be changed: make another LimeDeployment for another model",
)];

/// Objects of other kinds, or of other names, that are refused: before, after, and words of the sentence.
const REFUSED_OBJECTS: &[(&str, Option<&str>, &str, &str)] = &[
    (
        "a long name",
        None,
        "{apiVersion: lime.dev/v1alpha1, kind: LimeDeployment, metadata: {name: \
         a-name-of-more-than-forty-letters-is-too-long-for-services}, spec: {model: {source: 'hf://org/name'}}}",
        "metadata.name must begin with a letter and have at most 40",
    ),
    (
        "a name that begins with a digit",
        None,
        "{apiVersion: lime.dev/v1alpha1, kind: LimeDeployment, metadata: {name: 70b}, spec: {model: {source: 'hf://org/name'}}}",
        "metadata.name must begin with a letter and have at most 40",
    ),
    (
        "a plan rewritten",
        Some(
            "{apiVersion: lime.dev/v1alpha1, kind: LimePlan, metadata: {name: p}, spec: {deployment: a, inputHash: h, nodes: 2}}",
        ),
        "{apiVersion: lime.dev/v1alpha1, kind: LimePlan, metadata: {name: p}, spec: {deployment: a, inputHash: h, nodes: 3}}",
        "a LimePlan's spec cannot be changed",
    ),
    (
        "a plan for nobody",
        None,
        "{apiVersion: lime.dev/v1alpha1, kind: LimePlan, metadata: {name: q}, spec: {inputHash: h}}",
        "spec.deployment: Required value",
    ),
    (
        "a bandwidth below nothing",
        None,
        "{apiVersion: lime.dev/v1alpha1, kind: LimeNodeProfile, metadata: {name: some-node}, spec: {overrides: \
         {diskReadBytesPerSecond: -1}}}",
        "spec.overrides.diskReadBytesPerSecond",
    ),
    (
        "a budget in words",
        None,
        "{apiVersion: lime.dev/v1alpha1, kind: LimeNodeProfile, metadata: {name: some-node}, spec: {memoryBudget: plenty}}",
        "spec.memoryBudget is not a quantity of bytes",
    ),
    (
        "a reserve with a unit of its own",
        None,
        "{apiVersion: lime.dev/v1alpha1, kind: LimeNodeProfile, metadata: {name: some-node}, spec: {memoryReserve: 4GB}}",
        "spec.memoryReserve is not a quantity of bytes",
    ),
    (
        "a disk below nothing",
        None,
        "{apiVersion: lime.dev/v1alpha1, kind: LimeNodeProfile, metadata: {name: some-node}, spec: {diskBudget: '-1'}}",
        "spec.diskBudget is not a quantity of bytes",
    ),
    (
        "an unknown field of a profile",
        None,
        "{apiVersion: lime.dev/v1alpha1, kind: LimeNodeProfile, metadata: {name: some-node}, spec: {exclude: true}}",
        "unknown field \"spec.exclude\"",
    ),
];

const DRY_RUN: &[&str] = &["apply", "--dry-run=server", "--validate=strict", "-f", "-"];

#[test]
#[ignore = "needs a Kubernetes: make test-cluster"]
fn what_keeps_the_rules_is_accepted() {
    let cluster = Kubectl::connect().unwrap();
    for (name, spec) in ACCEPTED {
        let answer = cluster.answer(DRY_RUN, &deployment("case", spec)).unwrap();
        assert!(answer.ok, "{name}: {}", answer.stderr);
        assert!(!answer.stderr.contains("Warning"), "{name}: {}", answer.stderr);
    }
    let left = cluster.run(&["get", "limedeployments", "--all-namespaces", "-o", "name"]).unwrap();
    // Other tests make objects of other names meanwhile.
    assert!(!left.lines().any(|name| name.ends_with("/case")), "a dry run left something: {left}");
}

#[test]
#[ignore = "needs a Kubernetes: make test-cluster"]
fn what_breaks_a_rule_is_refused_with_its_sentence() {
    let cluster = Kubectl::connect().unwrap();
    for (name, spec, sentence) in REFUSED {
        let answer = cluster.answer(DRY_RUN, &deployment("case", spec)).unwrap();
        assert!(!answer.ok, "{name} was accepted");
        assert!(answer.stderr.contains(sentence), "{name} should say {sentence:?}, says: {}", answer.stderr);
    }
}

#[test]
#[ignore = "needs a Kubernetes: make test-cluster"]
fn changes_that_are_not_allowed_are_refused() {
    let cluster = Kubectl::connect().unwrap();
    let namespace = cluster.namespace("lime-test-changes").unwrap();
    for (index, (name, before, after, sentence)) in REFUSED_CHANGES.iter().enumerate() {
        let object = format!("case-{index}");
        let apply = ["-n", namespace.name(), "apply", "-f", "-"];
        cluster.run_with(&apply, &deployment(&object, before)).unwrap();
        let answer = cluster.answer(&apply, &deployment(&object, after)).unwrap();
        assert!(!answer.ok, "{name} was accepted");
        assert!(answer.stderr.contains(sentence), "{name}: {}", answer.stderr);
    }
}

#[test]
#[ignore = "needs a Kubernetes: make test-cluster"]
fn objects_that_break_a_rule_are_refused() {
    let cluster = Kubectl::connect().unwrap();
    let namespace = cluster.namespace("lime-test-objects").unwrap();
    let apply = ["-n", namespace.name(), "apply", "--validate=strict", "-f", "-"];
    for (name, before, after, sentence) in REFUSED_OBJECTS {
        if let Some(before) = before {
            cluster.run_with(&apply, before).unwrap();
        }
        let answer = cluster.answer(&apply, after).unwrap();
        assert!(!answer.ok, "{name} was accepted");
        assert!(answer.stderr.contains(sentence), "{name} should say {sentence:?}, says: {}", answer.stderr);
    }
}

#[test]
#[ignore = "needs a Kubernetes: make test-cluster"]
fn several_faults_are_told_at_once() {
    let cluster = Kubectl::connect().unwrap();
    let spec = "{model: {source: 'file:///m', revision: a, tokenSecretRef: {name: t, key: k}}, nodes: {minCount: 2, maxCount: 1}, \
                template: {worker: {env: [{name: HF_TOKEN}], args: ['-v', '--tls=x'], volumes: [{name: store, emptyDir: {}}]}}}";
    let said = cluster.answer(DRY_RUN, &deployment("case", spec)).unwrap().stderr;
    for sentence in [
        "revision belongs to",
        "tokenSecretRef belongs to",
        "must not be below",
        "are set by LIME: use",
        "each of args is one word",
        "are set by LIME: remove",
        "the volumes model",
    ] {
        assert!(said.contains(sentence), "{sentence:?} is missing in: {said}");
    }
}

/// A new rule without a case here makes this fail: each sentence is one that a real API server has said.
#[test]
#[ignore = "needs a Kubernetes: make test-cluster"]
fn every_rule_has_a_case() {
    let cluster = Kubectl::connect().unwrap();
    let definitions = cluster.get(&["crd"]).unwrap();
    let changes = REFUSED_CHANGES.iter().map(|case| case.3);
    let objects = REFUSED_OBJECTS.iter().map(|case| case.3);
    let shown: BTreeSet<&str> = REFUSED.iter().map(|case| case.2).chain(changes).chain(objects).collect();
    let ours = definitions["items"].as_array().unwrap().iter().filter(|each| each["spec"]["group"] == "lime.dev");
    for rule in ours.flat_map(rules_of) {
        let (kind, path, message) = (&rule.kind, &rule.path, &rule.message);
        assert!(!message.is_empty(), "a rule of {kind} at {path} has no message");
        assert!(shown.iter().any(|words| message.contains(words)), "no case breaks {kind} {path}: {message}");
    }
}
