#!/bin/sh
# Writes the table of values in README.md from values.yaml: sh charts/lime/readme.sh > charts/lime/README.md
cd "$(dirname "$0")" || exit 1
cat <<'TEXT'
# lime

The operator, the agents and the kinds of LIME.

    helm install lime charts/lime --namespace lime-system --create-namespace

`operator.weightStore: claim` (the default) works in namespaces with restricted pod security; `host-path` does not.
`file://` models are hostPath volumes of the workers: their namespaces must allow those.
Uninstalling keeps the CustomResourceDefinitions and every LimeDeployment unless `crds.keep` is false.

The CustomResourceDefinitions are templates: every install, upgrade and rollback makes them what the chart says. Where somebody else has
changed one, Helm 4 says so and changes nothing: `--force-conflicts` makes it the chart's again (Helm 3 does so unasked). Definitions of an earlier
release that was uninstalled are taken over with `--take-ownership`.

`helm test lime --namespace lime-system --logs` serves a model of 4.5 MiB, which is in the image, from the cluster's nodes, and streams an answer.

Without the operator nothing hangs: no object of LIME has a finalizer, and everything is owned by its LimeDeployment.

## Values

| Value | Default | Meaning |
|---|---|---|
TEXT
awk '
  /^[ ]*#/ { line = $0; sub(/^[ ]*# ?/, "", line); note = note (note == "" ? "" : " ") line; next }
  /^[ ]*[A-Za-z]+:/ {
    depth = match($0, /[^ ]/) - 1; key = $0; sub(/^[ ]*/, "", key); value = key
    sub(/:.*/, "", key); sub(/^[A-Za-z]+:[ ]?/, "", value)
    path[depth / 2] = key; name = path[0]
    for (i = 1; i <= depth / 2; i++) name = name "." path[i]
    if (value != "") printf "| `%s` | `%s` | %s |\n", name, value, note
    note = ""; next
  }
' values.yaml
cat <<'TEXT'

## Access

What each service account may do, besides what every account may: `kubectl auth can-i --list` in the release's namespace, where
a test compares it with this table. Leases are of that namespace only, but for the operators' own (`lime-operator`), which may be read anywhere; the rest is of the cluster. An agent may write the profile and the Lease of
its own node only (`agent.admissionPolicy`).

With `watchNamespaces` the operator has in these namespaces alone what the table says, and elsewhere only nodes, profiles and that
Lease; the namespaces must be there. It then does not see what pods of other namespaces have requested (a shard that finds no place is
planned elsewhere), and leaves the column LENT to an operator of the whole cluster: give such operators nodes of their own
(`spec.nodes.selector`).

| Account | Resources | Names | Verbs |
|---|---|---|---|
| operator | limedeployments.lime.dev | any | get list watch |
| operator | limedeployments.lime.dev/status | any | patch |
| operator | limeplans.lime.dev/status | any | patch |
| operator | limeplans.lime.dev | any | create delete get list patch watch |
| operator | limenodeprofiles.lime.dev/status | any | patch |
| operator | limenodeprofiles.lime.dev | any | get list watch |
| operator | limedeployments.lime.dev/finalizers | any | update |
| operator | nodes | any | get list watch |
| operator | pods | any | create delete get list patch watch |
| operator | services | any | create delete get list patch watch |
| operator | configmaps | any | create delete get list patch watch |
| operator | persistentvolumeclaims | any | create get list patch watch |
| operator | resourcequotas | any | list |
| operator | secrets | any | create delete get list patch watch |
| operator | deployments.apps | any | create delete get list patch watch |
| operator | jobs.batch | any | create delete get list patch watch |
| operator | networkpolicies.networking.k8s.io | any | create delete get list patch watch |
| operator | ingresses.networking.k8s.io | any | create delete get list patch watch |
| operator | poddisruptionbudgets.policy | any | create delete get list patch watch |
| operator | events.events.k8s.io | any | create patch |
| operator | events | any | list |
| operator | leases.coordination.k8s.io | any | create get list watch |
| operator | leases.coordination.k8s.io | lime-operator | get update |
| agent | nodes | any | get |
| agent | limenodeprofiles.lime.dev | any | create get list patch |
| agent | limenodeprofiles.lime.dev/status | any | patch |
| agent | leases.coordination.k8s.io | any | create patch |

People who have Kubernetes' own roles in a namespace may do there with LIME's kinds (`rbac.aggregateClusterRoles`): `view`: read them; `edit`:
make, change, scale and delete LimeDeployments; `admin`: that, and, bound for the whole cluster, change profiles.

## Beside cert-manager's and CloudNativePG's charts

Looked at: cert-manager's main branch and cloudnative-pg 0.29.0. "As here" is what this chart has for the same.

| What they offer | cert-manager | CloudNativePG | Here |
|---|---|---|---|
| Values refused by name | schema | schema | schema; `ci/` has values that use all of them |
| Definitions with the chart | templates, off by default | templates | templates; kept by default (`crds.keep`); a test has an upgrade mend a definition |
| Namespaced mode | no | `config.clusterWide` | `watchNamespaces`, with Roles |
| Aggregated roles | view, edit | view, edit; off by default | view, edit, admin |
| Roles and accounts of one's own | `global.rbac.create`, `serviceAccount` | `rbac.create`, `serviceAccount` | `rbac.create`, `operator.serviceAccount`, `agent.serviceAccount` |
| Labels and annotations of everything | `global.commonLabels` | `commonAnnotations` | `commonLabels`, `commonAnnotations` |
| Further objects | `extraObjects` | no | `extraObjects` |
| Labels and annotations of pods | `podLabels`, `podAnnotations` | the same | the same, for operator and agents |
| Image by tag or digest, registry, pull secrets | yes | tag | tag or digest, and in every pod that the operator makes; `package.sh` signs values that name the digest |
| Priority, affinity, tolerations, node selector, spread | yes | yes | yes, for operator and agents; for workers and gateways by `spec.template` |
| RuntimeClass | yes | no | yes |
| Security contexts | yes | yes | `podUser` for all pods (OpenShift's policy by itself), `podSecurityContext` to add; what a container may do is fixed |
| Probes | liveness can be set | all can be set | liveness and readiness can be set |
| Replicas, strategy, disruption budget | yes | replicas, strategy | yes |
| Arguments, environment, volumes | yes | arguments, environment | yes |
| Host network and DNS policy | webhook | yes | yes |
| NetworkPolicies | ingress, egress; off by default | no | ingress on by default, `networkPolicy.egress` |
| ServiceMonitor, PodMonitor | both | PodMonitor | both, with labels; enabling both is refused |
| Alerts, dashboards | no | dashboard | both |
| A test of the installation | a Job that waits for the API | no | `helm test`: a model is served and an answer streams |
| Artifact Hub | annotations, signing key | no | annotations: kinds, examples, capabilities |
| Names | `nameOverride`, `fullnameOverride`, `namespace` | the same | no: the release's name comes first in every name, and `--namespace` says where |
| Webhooks, configuration file, feature gates | yes | yes | nothing of the kind: rules are in the definitions (CEL), settings are arguments |

`helm lint --strict`, kubeconform (by the schemas of a real API server), the API server's own dry run and kube-score look at the chart in CI:
`tests/cluster/tests/control_plane/chart_checks.rs`, where what kube-score wants and the chart does not do has its reason.
TEXT
