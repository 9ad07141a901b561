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
