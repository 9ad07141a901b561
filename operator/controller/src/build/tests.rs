use k8s_openapi::api::{
    apps::v1 as apps, batch::v1 as batch, core::v1 as core, networking::v1 as networking, policy::v1 as policy,
};
use lime_api::LimePlan;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use super::*;
use crate::{
    candidates, planning,
    settings::{Addressing, Settings, WeightStore},
    shards, testing,
};

mod exposure;
mod template;

fn plan(wish: &Wish) -> LimePlan {
    let snapshot = testing::snapshot(json!({}));
    let found = candidates::candidates(&snapshot, wish);
    let spec = planning::make(wish, &testing::card(), &found, lime_plan::Bytes::mib(8));
    LimePlan {
        metadata: kube::core::ObjectMeta { name: Some("m-12345678".into()), ..Default::default() },
        spec,
        status: None,
    }
}

/// Every field name is one that Kubernetes knows: what the typed form would drop is found here.
fn known_fields<K: Serialize + DeserializeOwned>(body: &Value) {
    let typed: K = serde_json::from_value(body.clone()).unwrap();
    assert_eq!(&serde_json::to_value(typed).unwrap(), body);
}

fn all(spec: Value, change: impl Fn(&mut Settings)) -> Vec<Object> {
    let wish = Wish::check(&testing::deployment(spec)).unwrap();
    let mut settings = testing::settings();
    change(&mut settings);
    let plan = plan(&wish);
    let snapshot = testing::snapshot(json!({}));
    let shards = shards::shards(&snapshot, &plan, &[], true);
    let mut objects = standing(&wish, &plan);
    objects.push(inspection(&wish, &settings));
    objects.extend(plan_file(&wish, &plan, &shards, &settings, 7).map(|(file, _)| file));
    objects.extend(workers(&wish, &plan, &settings));
    objects.push(gateway(&wish, &plan, &settings));
    objects
}

#[test]
fn objects_have_only_fields_that_kubernetes_knows() {
    let specs = [
        json!({}),
        json!({ "transport": { "security": "MutualTLS" }, "endpoint": { "port": 80, "apiKeySecretRef": { "name": "k", "key": "k" } } }),
        json!({ "model": { "source": "hf://o/n", "revision": "r", "tokenSecretRef": { "name": "t", "key": "t" } } }),
        json!({ "model": { "source": "pvc://claim/path" }, "nodes": { "runtimeClassName": "nvidia" } }),
        json!({ "nodes": { "selector": {
            "matchLabels": { "pool": "a" }, "matchExpressions": [{ "key": "gpu", "operator": "DoesNotExist" }],
        }}}),
        json!({ "endpoint": { "ingress": {} } }),
    ];
    for spec in specs {
        for object in all(spec.clone(), |settings| settings.ring_tls = true) {
            let body = &object.body;
            match object.kind {
                Kind::Pod => known_fields::<core::Pod>(body),
                Kind::Deployment => known_fields::<apps::Deployment>(body),
                Kind::Service => known_fields::<core::Service>(body),
                Kind::ConfigMap => known_fields::<core::ConfigMap>(body),
                Kind::Secret => known_fields::<core::Secret>(body),
                Kind::NetworkPolicy => known_fields::<networking::NetworkPolicy>(body),
                Kind::PodDisruptionBudget => known_fields::<policy::PodDisruptionBudget>(body),
                Kind::Job => known_fields::<batch::Job>(body),
                Kind::PersistentVolumeClaim => known_fields::<core::PersistentVolumeClaim>(body),
                Kind::Ingress => known_fields::<networking::Ingress>(body),
            }
            let owner = &body["metadata"]["ownerReferences"][0];
            assert_eq!((owner["uid"].as_str(), owner["controller"].as_bool()), (Some("uid-m"), Some(true)));
        }
    }
}

#[test]
fn workers_are_pinned_by_affinity_and_named_after_the_plan() {
    let objects = all(json!({}), |_| {});
    let pods: Vec<_> = objects.iter().filter(|object| object.kind == Kind::Pod).collect();
    assert!(pods.len() > 1);
    for (index, pod) in pods.iter().enumerate() {
        assert_eq!(pod.name, format!("m-12345678-{index}"));
        let spec = &pod.body["spec"];
        assert!(spec.get("nodeName").is_none());
        let terms =
            &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
        assert_eq!(terms[0]["matchFields"][0]["key"], "metadata.name");
        let (requests, limits) =
            (&spec["containers"][0]["resources"]["requests"], &spec["containers"][0]["resources"]["limits"]);
        assert_eq!(requests["memory"], limits["memory"]);
    }
}

#[test]
fn workers_keep_prefixes_on_disk_where_the_wish_says_so() {
    for (spec, told) in [
        (json!({}), None),
        (json!({ "disk": "2Gi" }), Some("2147483648")),
        (json!({ "disk": "0" }), None),
        (json!({ "disk": "2Gi", "enabled": false }), None),
    ] {
        let objects = all(json!({ "prefixCache": spec }), |_| {});
        for pod in objects.iter().filter(|object| object.kind == Kind::Pod) {
            let arguments = pod.body["spec"]["containers"][0]["args"].as_array().unwrap();
            let at = arguments.iter().position(|argument| argument == "--prefix-disk");
            assert_eq!(at.and_then(|at| arguments[at + 1].as_str()), told, "{spec}");
        }
    }
}

#[test]
fn every_pod_is_restricted() {
    for object in all(json!({ "model": { "source": "pvc://c/p" } }), |_| {}) {
        let template = match object.kind {
            Kind::Pod => &object.body["spec"],
            Kind::Deployment | Kind::Job => &object.body["spec"]["template"]["spec"],
            _ => continue,
        };
        assert_eq!(template["securityContext"]["runAsNonRoot"], true);
        assert_eq!(template["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        assert_eq!(template["automountServiceAccountToken"], false);
        let container = &template["containers"][0]["securityContext"];
        assert_eq!(container["allowPrivilegeEscalation"], false);
        assert_eq!(container["readOnlyRootFilesystem"], true);
        assert_eq!(container["capabilities"]["drop"], json!(["ALL"]));
        assert!(!template["volumes"].to_string().contains("hostPath"), "restricted namespaces refuse hostPath");
    }
}

#[test]
fn weights_are_kept_where_the_settings_say() {
    let hub = || json!({ "model": { "source": "hf://o/n" } });
    let claims =
        |objects: &[Object]| objects.iter().filter(|object| object.kind == Kind::PersistentVolumeClaim).count();
    assert!(claims(&all(hub(), |_| {})) > 1);
    assert_eq!(claims(&all(hub(), |settings| settings.weight_store = WeightStore::HostPath)), 0);
    assert_eq!(claims(&all(json!({}), |_| {})), 0, "files on the node need no claim");
}

#[test]
fn a_gateway_is_told_of_prefixes_where_the_wish_is_another() {
    for (spec, told) in [
        (json!({}), vec![]),
        (json!({ "enabled": true, "sharedAcrossKeys": false }), vec![]),
        (json!({ "enabled": false }), vec!["--prefix-cache=off"]),
        (json!({ "sharedAcrossKeys": true }), vec!["--prefixes-across-keys"]),
        (json!({ "enabled": false, "sharedAcrossKeys": true }), vec!["--prefix-cache=off"]),
    ] {
        let wish = Wish::check(&testing::deployment(json!({ "prefixCache": spec }))).unwrap();
        let gateway = gateway(&wish, &plan(&wish), &testing::settings());
        let arguments = &gateway.body["spec"]["template"]["spec"]["containers"][0]["args"];
        let arguments = arguments.as_array().unwrap().iter().filter_map(Value::as_str);
        assert_eq!(arguments.filter(|flag| flag.starts_with("--prefix")).collect::<Vec<_>>(), told, "{spec}");
    }
}

#[test]
fn a_model_from_a_server_is_fetched_by_gateway_and_workers_alike() {
    let spec =
        json!({ "model": { "source": "hf://o/n", "revision": "v1", "tokenSecretRef": { "name": "t", "key": "k" } } });
    let objects = all(spec, |_| {});
    for object in objects.iter().filter(|object| matches!(object.kind, Kind::Pod | Kind::Deployment)) {
        let spec = object.body.pointer("/spec/template/spec").unwrap_or(&object.body["spec"]);
        let container = &spec["containers"][0];
        let arguments = container["args"].to_string();
        for wanted in ["hf://o/n", "--revision", "v1", "--store", "/store"] {
            assert!(arguments.contains(wanted), "{}: {arguments} without {wanted}", object.name);
        }
        assert_eq!(container["env"][0]["name"], "HF_TOKEN", "{}", object.name);
        assert!(container["volumeMounts"].to_string().contains("/store"), "{}", object.name);
    }
}

#[test]
fn a_gateway_is_strict_where_the_wish_is() {
    let arguments = |strict: bool| {
        let objects = all(json!({ "endpoint": { "strict": strict } }), |_| {});
        let gateway = objects.iter().find(|object| object.kind == Kind::Deployment).unwrap();
        gateway.body["spec"]["template"]["spec"]["containers"][0]["args"].to_string()
    };
    assert!(arguments(true).contains("\"--strict\"") && !arguments(false).contains("--strict"));
}

#[test]
fn a_gguf_file_is_mounted_with_its_folder_and_goes_by_way_of_a_store() {
    for (source, volume, mount) in [
        ("file:///models/a/b.gguf", json!({ "path": "/models/a", "type": "Directory" }), None),
        ("pvc://c/a/b.gguf", json!({ "claimName": "c", "readOnly": true }), Some("a")),
        ("pvc://c/b.gguf", json!({ "claimName": "c", "readOnly": true }), None),
    ] {
        let wish = Wish::check(&testing::deployment(json!({ "model": { "source": source } }))).unwrap();
        let settings = testing::settings();
        for object in [gateway(&wish, &plan(&wish), &settings), inspection(&wish, &settings)] {
            let spec = &object.body["spec"]["template"]["spec"];
            let container = &spec["containers"][0];
            assert!(container["args"].to_string().contains("/model/b.gguf"), "{source}: {}", container["args"]);
            let named =
                |list: &Value| list.as_array().unwrap().iter().find(|it| it["name"] == "model").cloned().unwrap();
            let (found, mounted) = (named(&spec["volumes"]), named(&container["volumeMounts"]));
            assert!([&found["hostPath"], &found["persistentVolumeClaim"]].contains(&&volume), "{source}: {found}");
            assert_eq!(mounted.get("subPath").and_then(Value::as_str), mount, "{source}");
            let writable = container["volumeMounts"].as_array().unwrap().len();
            assert!(writable > 1, "{source}: small files need a place");
        }
    }
}

#[test]
fn a_mirror_is_told_to_whoever_fetches_from_the_hub_and_to_nobody_else() {
    let told = |source: &str| {
        let wish = Wish::check(&testing::deployment(json!({ "model": { "source": source } }))).unwrap();
        let settings = Settings { hub_endpoint: Some("https://mirror.example".into()), ..testing::settings() };
        let mut objects = workers(&wish, &plan(&wish), &settings);
        objects.extend([gateway(&wish, &plan(&wish), &settings), inspection(&wish, &settings)]);
        objects.retain(|object| object.kind != Kind::PersistentVolumeClaim);
        assert!(objects.len() > 3);
        let told = json!({ "name": "HF_ENDPOINT", "value": "https://mirror.example" }).to_string();
        objects.iter().map(|object| object.body.to_string().contains(&told)).collect::<Vec<_>>()
    };
    assert!(told("hf://o/n").into_iter().all(|it| it));
    assert!(!told("https://models.example/n").into_iter().any(|it| it));
}

/// The plan in force, as the gateway reads it.
fn in_force(objects: &[Object]) -> lime_plan::PlanInForce {
    let file = objects.iter().find(|object| object.name == "m-plan").unwrap();
    assert!(file.body.get("immutable").is_none(), "it changes with the plan, and the kubelet must see that");
    lime_plan::PlanInForce::from_json(file.body["data"][PLAN_FILE].as_str().unwrap()).unwrap()
}

#[test]
fn the_gateway_is_told_the_plan_and_where_its_workers_are() {
    let found = in_force(&all(json!({}), |_| {}));
    assert_eq!((found.name.as_str(), found.generation), ("m-12345678", 7));
    let first = &found.plan.devices[0].name;
    assert_eq!(found.workers[first], "http://m-12345678-0.m-ring.llm.svc:7000");
    assert_eq!(found.workers.len(), found.plan.devices.len());
    // Without DNS, those that have an address yet.
    let found = in_force(&all(json!({}), |settings| settings.addressing = Addressing::PodIp));
    assert!(found.workers.is_empty());
}

#[test]
fn the_gateway_itself_changes_with_what_belongs_to_it_and_not_with_the_plan() {
    let of = |spec: Value, change: fn(&mut LimePlan)| {
        let wish = Wish::check(&testing::deployment(spec)).unwrap();
        let mut plan = plan(&wish);
        change(&mut plan);
        gateway(&wish, &plan, &testing::settings()).body["spec"]["template"].clone()
    };
    let before = of(json!({}), |_| {});
    assert_eq!(
        of(json!({ "serving": { "maxContextTokens": 128 } }), |plan| plan.metadata.name = Some("m-2".into())),
        before
    );
    assert_eq!(of(json!({ "nodes": { "maxCount": 2 }, "offload": { "policy": "Always" } }), |_| {}), before);
    for other in [
        json!({ "endpoint": { "apiKeySecretRef": { "name": "k", "key": "k" } } }),
        json!({ "serving": { "kvCacheType": "F32" } }),
        json!({ "model": { "source": "file:///models/other" } }),
    ] {
        assert_ne!(of(other.clone(), |_| {}), before, "{other}");
    }
}

#[test]
fn the_gateway_guesses_as_the_wish_says() {
    for (said, told) in [
        (json!({}), None),
        (json!({ "speculation": {} }), None),
        (json!({ "speculation": { "window": 0 } }), Some("--speculate=off")),
        (json!({ "speculation": { "window": 7 } }), Some("--speculate=7")),
    ] {
        let wish = Wish::check(&testing::deployment(said.clone())).unwrap();
        let made = gateway(&wish, &plan(&wish), &testing::settings());
        let arguments = made.body["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap().clone();
        let mut found = arguments.iter().filter_map(Value::as_str).filter(|flag| flag.starts_with("--speculate"));
        assert_eq!(found.next(), told, "{said}");
    }
}

#[test]
fn pages_that_may_ask_are_told_to_the_gateway() {
    let spec = json!({ "endpoint": { "allowedOrigins": ["https://chat.example", "*"] } });
    let wish = Wish::check(&testing::deployment(spec)).unwrap();
    let made = gateway(&wish, &plan(&wish), &testing::settings());
    let arguments = made.body["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap();
    let told: Vec<_> = arguments.iter().filter_map(|one| one.as_str()?.strip_prefix("--allow-origin=")).collect();
    assert_eq!(told, ["https://chat.example", "*"]);
}

/// Whoever probes it needs no certificate, and gets nothing of the API.
#[test]
fn an_api_with_tls_tells_its_health_beside_it() {
    let wish = json!({ "endpoint": { "port": 443, "tlsSecretRef": { "name": "cert" }, "ingress": {} } });
    let objects = all(wish, |_| {});
    // The workers' Service has no address of its own.
    let is = |object: &&Object, kind: Kind| object.kind == kind && object.body["spec"]["clusterIP"] != "None";
    let body = |kind: Kind| &objects.iter().find(|object| is(object, kind)).unwrap().body["spec"];
    let pod = &body(Kind::Deployment)["template"]["spec"];
    let arguments = pod["containers"][0]["args"].to_string();
    for flag in ["--listen=0.0.0.0:8000", "--status-listen=0.0.0.0:8001", "--api-tls-cert=/api-tls/tls.crt"] {
        assert!(arguments.contains(flag), "{flag} is not in {arguments}");
    }
    assert!(pod["volumes"].to_string().contains(r#""secretName":"cert""#), "{}", pod["volumes"]);
    let ports = pod["containers"][0]["ports"].as_array().unwrap();
    let ports: Vec<_> =
        ports.iter().map(|port| (port["name"].as_str().unwrap(), port["containerPort"].as_u64())).collect();
    assert_eq!(ports, [("http", Some(8001)), ("https", Some(8000))], "probes ask at http");
    let service = &body(Kind::Service)["ports"][0];
    assert_eq!(
        (service["name"].as_str(), service["port"].as_u64(), service["targetPort"].as_u64()),
        (Some("https"), Some(443), Some(8000))
    );
    let backend = &body(Kind::Ingress)["rules"][0]["http"]["paths"][0]["backend"]["service"]["port"];
    assert_eq!(backend["name"], "https");
}

#[test]
fn a_gateway_on_a_lost_node_is_waited_for_as_long_as_its_workers() {
    let wish = Wish::check(&testing::deployment(json!({ "failure": { "nodeLossGraceSeconds": 25 } }))).unwrap();
    let made = gateway(&wish, &plan(&wish), &testing::settings());
    let tolerated = made.body["spec"]["template"]["spec"]["tolerations"].as_array().unwrap();
    let keys: Vec<_> = tolerated.iter().map(|one| one["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]);
    assert!(tolerated.iter().all(|one| one["tolerationSeconds"] == 25 && one["effect"] == "NoExecute"));
}

#[test]
fn a_ring_speaks_tls_from_end_to_end_or_not_at_all() {
    for (security, ring_tls, secured) in [
        ("MutualTLS", true, true),
        ("MutualTLS", false, false),
        ("Plaintext", true, false),
        ("Plaintext", false, false),
    ] {
        let spec = json!({ "transport": { "security": security } });
        let objects = all(spec, |settings| settings.ring_tls = ring_tls);
        let gateway = objects.iter().find(|object| object.kind == Kind::Deployment).unwrap().body.to_string();
        let case = format!("{security} {ring_tls}");
        let scheme = if secured { "https://" } else { "http://" };
        assert!(in_force(&objects).workers.values().all(|uri| uri.starts_with(scheme)), "{case}");
        assert_eq!(gateway.contains("--tls=/tls") && gateway.contains("m-gateway-tls"), secured, "{case}");
        for pod in objects.iter().filter(|object| object.kind == Kind::Pod) {
            let (text, container) = (pod.body.to_string(), &pod.body["spec"]["containers"][0]);
            assert_eq!(text.contains("\"--tls\",\"/tls\"") && text.contains("m-worker-tls"), secured, "{case}: {text}");
            assert!(!text.contains("m-ca"), "the authority's key stays with the operator");
            for probe in ["startupProbe", "readinessProbe"] {
                assert!(container[probe]["tcpSocket"].is_object(), "the kubelet has no certificate to show");
            }
            // A worker that hangs is made anew: asked in plain text, at a port that only says so.
            assert_eq!(container["livenessProbe"]["httpGet"], json!({ "path": "/health", "port": "health" }));
            let port = container["ports"].as_array().unwrap().iter().find(|port| port["name"] == "health").unwrap();
            assert!(text.contains(&format!("\"--health\",\"0.0.0.0:{}\"", port["containerPort"])), "{text}");
            let typed: core::Pod = serde_json::from_value(pod.body.clone()).unwrap();
            let as_made = |security: &str| {
                let asked = all(json!({ "transport": { "security": security } }), |settings| settings.ring_tls = true);
                is_as_made(&typed, asked.iter().find(|object| object.name == pod.name).unwrap())
            };
            assert_eq!((as_made("MutualTLS"), as_made("Plaintext")), (secured, !secured), "{case}");
        }
    }
}

#[test]
fn what_is_not_pinned_obeys_the_selector_too() {
    let selector =
        json!({ "matchLabels": { "pool": "a" }, "matchExpressions": [{ "key": "gpu", "operator": "Exists" }] });
    let objects = all(json!({ "nodes": { "selector": selector } }), |_| {});
    let expected = json!([{ "matchExpressions": [
        { "key": "pool", "operator": "In", "values": ["a"] }, { "key": "gpu", "operator": "Exists" },
    ]}]);
    for kind in [Kind::Deployment, Kind::Job] {
        let object = objects.iter().find(|object| object.kind == kind).unwrap();
        let pod = &object.body["spec"]["template"]["spec"];
        let required = &pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        assert_eq!(required["nodeSelectorTerms"], expected, "{kind:?}");
    }
    let free = all(json!({}), |_| {});
    assert!(free.iter().all(|object| object.body["spec"]["template"]["spec"].get("affinity").is_none()));
}

/// Of pods without a controller that scales Kubernetes counts only `minAvailable`, and only as a number: with anything else every
/// eviction is refused for ever.
#[test]
fn the_disruption_budget_is_one_that_kubernetes_can_count() {
    let objects = all(json!({}), |_| {});
    let workers = objects.iter().filter(|object| object.kind == Kind::Pod).count();
    let budget = objects.iter().find(|object| object.kind == Kind::PodDisruptionBudget).unwrap();
    let spec = &budget.body["spec"];
    assert_eq!((spec["minAvailable"].as_u64(), spec.get("maxUnavailable")), (Some(workers as u64 - 1), None));
}

#[test]
fn traces_go_where_the_operator_is_told_and_nowhere_else() {
    let named = |object: &Object| object.body.to_string().contains("OTEL_EXPORTER_OTLP_ENDPOINT");
    assert!(!all(json!({}), |_| ()).iter().any(named));
    let traced = all(json!({}), |settings| settings.otlp_endpoint = Some("http://collector:4317".into()));
    let who: Vec<String> =
        traced.iter().filter(|object| named(object)).map(|object| format!("{:?}", object.kind)).collect();
    assert!(who.contains(&"Deployment".to_owned()) && who.contains(&"Pod".to_owned()), "{who:?}");
    assert!(!who.contains(&"Job".to_owned()), "an inspection serves no requests: {who:?}");
}
