//! What `spec.template` adds to pods, and what it leaves alone.

use super::*;
use crate::settings::PodUser;

/// A bit of everything, for both parts.
fn everything() -> Value {
    json!({
        "labels": { "team": "edge" },
        "annotations": { "example.com/note": "n" },
        "env": [
            { "name": "HTTPS_PROXY", "value": "http://proxy:3128" },
            { "name": "ZONE", "valueFrom": { "fieldRef": { "fieldPath": "metadata.labels['zone']" } } },
        ],
        "args": ["--threads=4"],
        "volumes": [
            { "name": "ca", "configMap": { "name": "authorities" } },
            { "name": "more", "csi": { "driver": "d", "readOnly": true } },
        ],
        "volumeMounts": [{ "name": "ca", "mountPath": "/etc/authorities", "readOnly": true }],
        "resources": { "requests": { "cpu": "2", "nvidia.com/gpu": "1" }, "limits": { "cpu": "4", "nvidia.com/gpu": "1" } },
        "tolerations": [
            { "key": "gpu", "operator": "Exists", "effect": "NoSchedule" },
            { "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5 },
        ],
        "affinity": {
            "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
                { "matchExpressions": [{ "key": "zone", "operator": "In", "values": ["a"] }] },
                { "matchExpressions": [{ "key": "zone", "operator": "In", "values": ["b"] }] },
            ]}},
            "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
                { "topologyKey": "kubernetes.io/hostname", "labelSelector": { "matchLabels": { "noisy": "yes" } } },
            ]},
        },
        "topologySpreadConstraints": [
            { "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway" },
        ],
        "priorityClassName": "serving",
        "imagePullSecrets": [{ "name": "mine" }, { "name": "shared" }],
        "hostNetwork": true,
        "securityContext": {
            "runAsUser": 1000, "supplementalGroups": [44],
            "seccompProfile": { "type": "Localhost", "localhostProfile": "lime.json" },
            "appArmorProfile": { "type": "Unconfined" },
        },
    })
}

/// The pods of a deployment with `spec`: each kind's object, with metadata and spec of its pod.
fn pods(spec: Value, change: impl Fn(&mut Settings)) -> Vec<(Kind, Value)> {
    let pods = all(spec, change).into_iter().filter_map(|object| match object.kind {
        Kind::Pod => Some((Kind::Pod, object.body)),
        kind @ (Kind::Deployment | Kind::Job) => Some((kind, object.body["spec"]["template"].clone())),
        _ => None,
    });
    let pods: Vec<_> = pods.collect();
    assert!(pods.iter().any(|(kind, _)| *kind == Kind::Pod), "there are no workers to look at");
    pods
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(|item| item["name"].as_str()).collect()
}

fn has_all(list: &Value, wanted: &[&str], case: &str) {
    let found = names(list);
    assert!(wanted.iter().all(|name| found.contains(name)), "{case}: {wanted:?} in {found:?}");
}

#[test]
fn all_of_a_template_is_in_the_pods_and_kubernetes_knows_it() {
    let spec = json!({ "template": { "worker": everything(), "gateway": everything() } });
    for object in all(spec.clone(), |_| {}) {
        match object.kind {
            Kind::Pod => known_fields::<core::Pod>(&object.body),
            Kind::Deployment => known_fields::<apps::Deployment>(&object.body),
            Kind::Job => known_fields::<batch::Job>(&object.body),
            _ => {}
        }
    }
    let found = pods(spec, |settings| settings.image_pull_secrets = vec!["shared".into(), "ours".into()]);
    assert!(
        found.iter().any(|(kind, _)| *kind == Kind::Job) && found.iter().any(|(kind, _)| *kind == Kind::Deployment)
    );
    for (kind, pod) in found {
        let case = format!("{kind:?}");
        let (spec, container) = (&pod["spec"], &pod["spec"]["containers"][0]);
        assert_eq!(pod["metadata"]["labels"]["team"], "edge", "{case}");
        assert_eq!(pod["metadata"]["labels"][crate::names::DEPLOYMENT_LABEL], "m", "{case}: ours stay");
        assert_eq!(pod["metadata"]["annotations"]["example.com/note"], "n", "{case}");
        has_all(&container["env"], &["HTTPS_PROXY", "ZONE"], &case);
        has_all(&spec["volumes"], &["model", "ca", "more"], &case);
        has_all(&container["volumeMounts"], &["model", "ca"], &case);
        assert_eq!(names(&spec["imagePullSecrets"]), ["shared", "ours", "mine"], "{case}: each once");
        assert_eq!(spec["priorityClassName"], "serving", "{case}");
        assert_eq!(
            (&spec["hostNetwork"], &spec["dnsPolicy"]),
            (&json!(true), &json!("ClusterFirstWithHostNet")),
            "{case}"
        );
        let security = &spec["securityContext"];
        assert_eq!((&security["runAsUser"], &security["runAsGroup"]), (&json!(1000), &json!(65_532)), "{case}");
        assert_eq!(security["runAsNonRoot"], true, "{case}: never root");
        assert_eq!(
            security["seccompProfile"],
            json!({ "type": "Localhost", "localhostProfile": "lime.json" }),
            "{case}"
        );
        assert_eq!(security["appArmorProfile"]["type"], "Unconfined", "{case}");
        // What is said of a taint goes before what LIME says of it.
        let not_ready =
            spec["tolerations"].as_array().unwrap().iter().filter(|it| it["key"] == "node.kubernetes.io/not-ready");
        assert_eq!(not_ready.map(|it| it["tolerationSeconds"].as_i64()).collect::<Vec<_>>(), [Some(5)], "{case}");
        let serving = kind != Kind::Job;
        assert_eq!(
            container["args"].to_string().contains("--threads=4"),
            serving,
            "{case}: an inspection has no threads"
        );
        assert_eq!(container["resources"]["limits"]["nvidia.com/gpu"].is_string(), serving, "{case}");
        assert_eq!(spec["affinity"]["podAntiAffinity"].is_object(), serving, "{case}");
        assert!(container["resources"]["limits"]["memory"].is_string(), "{case}: what is not named stays");
    }
}

#[test]
fn the_pin_and_the_selector_hold_beside_the_affinity() {
    let selector = json!({ "matchLabels": { "pool": "a" } });
    let spec =
        json!({ "nodes": { "selector": selector }, "template": { "worker": everything(), "gateway": everything() } });
    for (kind, pod) in pods(spec, |_| {}) {
        let required = &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        let terms = required["nodeSelectorTerms"].as_array().unwrap();
        assert_eq!(terms.len(), 2);
        for (term, zone) in terms.iter().zip(["a", "b"]) {
            // One of the terms must hold: each has what LIME needs.
            assert_eq!(term["matchExpressions"][0]["values"][0], zone, "{kind:?}");
            match kind {
                Kind::Pod => assert_eq!(term["matchFields"][0]["key"], "metadata.name"),
                _ => {
                    assert_eq!(term["matchExpressions"][1], json!({ "key": "pool", "operator": "In", "values": ["a"] }))
                }
            }
        }
    }
    // No list of terms unpins a worker.
    let empty =
        json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [] } } });
    let template = serde_json::from_value(json!({ "affinity": empty })).unwrap();
    let pinned = json!(affinity::pinned("a", Some(&template)));
    let required = &pinned["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    assert_eq!(required["nodeSelectorTerms"][0]["matchFields"][0]["values"], json!(["a"]));
}

#[test]
fn every_change_of_the_workers_template_is_a_change_of_their_digest() {
    let digest = |worker: Value| {
        let objects = all(json!({ "template": { "worker": worker } }), |_| {});
        let pod = objects.iter().find(|object| object.kind == Kind::Pod).unwrap();
        pod.body["metadata"]["annotations"][crate::names::TEMPLATE_ANNOTATION].clone()
    };
    let mut seen = vec![digest(json!({}))];
    assert_eq!(seen[0], digest(json!({ "hostNetwork": false })));
    for (field, value) in everything().as_object().unwrap() {
        // A mount needs its volume.
        let worker = if field == "volumeMounts" {
            json!({ "volumes": everything()["volumes"], field: value })
        } else {
            json!({ field: value })
        };
        let one = match field.as_str() {
            "resources" => json!({ field: { "requests": { "cpu": "2" } } }),
            _ => worker,
        };
        let found = digest(one);
        assert!(!seen.contains(&found), "{field} is not in the digest");
        seen.push(found);
    }
}

#[test]
fn the_namespace_may_say_who_pods_are() {
    for (kind, pod) in pods(json!({}), |settings| settings.pod_user = PodUser::Namespace) {
        let security = &pod["spec"]["securityContext"];
        for field in ["runAsUser", "runAsGroup", "fsGroup"] {
            assert!(security.get(field).is_none(), "{kind:?}: {field} is the namespace's to say");
        }
        assert_eq!(security["runAsNonRoot"], true);
    }
    let given = json!({ "securityContext": { "runAsUser": 7 } });
    let found = pods(json!({ "template": { "worker": given } }), |settings| settings.pod_user = PodUser::Namespace);
    let worker = found.iter().find(|(kind, _)| *kind == Kind::Pod).unwrap();
    assert_eq!(worker.1["spec"]["securityContext"]["runAsUser"], 7);
}

#[test]
fn every_pod_has_the_operators_secrets_and_image() {
    let digest = "lime@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let found = pods(json!({}), |settings| {
        settings.image = digest.into();
        settings.image_pull_secrets = vec!["registry".into()];
    });
    for (kind, pod) in found {
        assert_eq!(names(&pod["spec"]["imagePullSecrets"]), ["registry"], "{kind:?}");
        assert_eq!(pod["spec"]["containers"][0]["image"], digest, "{kind:?}");
    }
}

/// Everything that the pods are made with is refused in a template by name: the lists of the API and what is built are one.
#[test]
fn nothing_that_lime_sets_can_be_set_by_a_template() {
    let specs = [
        json!({ "model": { "source": "hf://o/n", "revision": "r", "tokenSecretRef": { "name": "t", "key": "t" } } }),
        json!({ "transport": { "security": "MutualTLS" }, "endpoint": { "apiKeySecretRef": { "name": "k", "key": "k" } } }),
    ];
    for spec in specs {
        let made = pods(spec.clone(), |settings| {
            settings.ring_tls = true;
            settings.hub_endpoint = Some("https://mirror.example".into());
        });
        for (kind, pod) in made {
            let (volumes, container) = (&pod["spec"]["volumes"], &pod["spec"]["containers"][0]);
            let mut tries: Vec<Value> =
                names(&container["env"]).iter().map(|it| json!({ "env": [{ "name": it, "value": "x" }] })).collect();
            tries.extend(names(volumes).iter().map(|it| json!({ "volumes": [{ "name": it, "emptyDir": {} }] })));
            let mounts = container["volumeMounts"].as_array().unwrap().iter();
            // The inspection's scratch folder gives way to one of the template's.
            let mounts = mounts.filter(|mount| mount["mountPath"] != "/tmp");
            tries.extend(mounts.map(|mount| {
                let mine = json!({ "name": "mine", "mountPath": mount["mountPath"] });
                json!({ "volumes": [{ "name": "mine", "emptyDir": {} }], "volumeMounts": [mine] })
            }));
            let flags = container["args"].as_array().unwrap().iter().filter_map(Value::as_str);
            if kind != Kind::Job {
                tries.extend(flags.filter(|arg| arg.starts_with("--")).map(|arg| json!({ "args": [arg] })));
            }
            tries.extend(
                pod["metadata"]["labels"].as_object().unwrap().keys().map(|key| json!({ "labels": { key: "x" } })),
            );
            assert!(tries.len() > 5);
            for tried in tries {
                let deployment = testing::deployment(json!({ "template": { "worker": tried } }));
                let faults = Wish::check(&deployment).expect_err(&format!("{kind:?}: {tried} is taken"));
                assert_eq!(faults.len(), 1, "{tried}: {faults:?}");
            }
        }
    }
}

#[test]
fn on_the_nodes_network_everybody_is_where_the_spec_says() {
    let spec = json!({
        "endpoint": { "port": 8080 }, "transport": { "security": "Plaintext", "port": 7100 },
        "template": { "worker": { "hostNetwork": true }, "gateway": { "hostNetwork": true } },
    });
    let objects = all(spec, |_| {});
    for object in &objects {
        let text = object.body.to_string();
        // Whole numbers: a plan is full of others.
        let ports = text.split(|character: char| !character.is_ascii_digit());
        assert!(!ports.into_iter().any(|port| ["7000", "7001", "8000"].contains(&port)), "{}: {text}", object.name);
    }
    let gateway = objects.iter().find(|object| object.kind == Kind::Deployment).unwrap();
    let pod: core::Pod = serde_json::from_value(json!({ "spec": gateway.body["spec"]["template"]["spec"] })).unwrap();
    assert_eq!(served_at(&pod), 8080, "the operator asks it there");
    let service = objects.iter().find(|object| object.kind == Kind::Service && object.name == "m").unwrap();
    assert_eq!(service.body["spec"]["ports"][0]["targetPort"], 8080);
    assert!(in_force(&objects).workers.values().all(|uri| uri.ends_with(":7100")));
    let pod = objects.iter().find(|object| object.kind == Kind::Pod).unwrap();
    let ports: Vec<_> = pod.body["spec"]["containers"][0]["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["containerPort"].as_i64())
        .collect();
    assert_eq!(ports, [Some(7100), Some(7101)]);
}

#[test]
fn a_model_of_the_image_needs_no_volume() {
    for (kind, pod) in pods(json!({ "model": { "source": "file:///usr/share/lime/models/bard-2m" } }), |_| {}) {
        let text = pod.to_string();
        assert!(text.contains("/usr/share/lime/models/bard-2m") && !text.contains("hostPath"), "{kind:?}: {text}");
        assert!(!names(&pod["spec"]["volumes"]).contains(&"model"), "{kind:?}");
    }
}

/// A gateway on its node's network has the node's address: no selector of pods would let it in.
#[test]
fn a_gateway_on_its_nodes_network_reaches_the_workers() {
    let from = |gateway: Value| {
        let objects = all(json!({ "template": { "gateway": gateway } }), |_| {});
        let policy =
            objects.iter().find(|object| object.kind == Kind::NetworkPolicy && object.name == "m-ring").unwrap();
        policy.body["spec"]["ingress"][0].get("from").cloned()
    };
    assert!(from(json!({})).is_some_and(|from| from.as_array().unwrap().len() == 2));
    assert_eq!(from(json!({ "hostNetwork": true })), None);
}

#[test]
fn the_inspections_scratch_folder_gives_way_to_one_of_the_template() {
    let mine = json!({ "volumes": [{ "name": "big", "emptyDir": {} }], "volumeMounts": [{ "name": "big", "mountPath": "/tmp" }] });
    let found = pods(json!({ "model": { "source": "hf://o/n" }, "template": { "worker": mine } }), |_| {});
    let job = &found.iter().find(|(kind, _)| *kind == Kind::Job).unwrap().1;
    assert_eq!(names(&job["spec"]["volumes"]), ["big"]);
}
