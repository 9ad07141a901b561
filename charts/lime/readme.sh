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
| operator | secrets | any | create delete get list patch watch |
| operator | deployments.apps | any | create delete get list patch watch |
| operator | jobs.batch | any | create delete get list patch watch |
| operator | networkpolicies.networking.k8s.io | any | create delete get list patch watch |
| operator | poddisruptionbudgets.policy | any | create delete get list patch watch |
| operator | events.events.k8s.io | any | create patch |
| operator | events | any | list |
| operator | leases.coordination.k8s.io | any | create get list watch |
| operator | leases.coordination.k8s.io | lime-operator | get update |
| agent | nodes | any | get |
| agent | limenodeprofiles.lime.dev | any | create get list patch |
| agent | limenodeprofiles.lime.dev/status | any | patch |
| agent | leases.coordination.k8s.io | any | create patch |
TEXT
