#!/usr/bin/env bash
# Runs the clients of other makers against a running server: clients.py with what PyPI has, clients.mjs with what npm has.
#   LIME_BASE_URL=http://127.0.0.1:8000/v1 LIME_MODEL=bard tests/clients/run.sh
# LIME_API_KEY   a key that the server accepts, where it asks for one
# LIME_CLIENTS   where the packages go (target/clients)
# LIME_CLIENTS_ALL=1  evaluations.txt too, which brings half a gigabyte along
# Prints "skipped: ..." for what cannot be had, and ends well.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=${LIME_CLIENTS:-$here/../../target/clients}
mkdir -p "$folder"
# Only one at a time installs.
exec 9>"$folder/lock"
if command -v flock >/dev/null 2>&1; then flock 9; fi

python() {
    command -v python3 >/dev/null 2>&1 || { echo "skipped: python3 is not installed"; return 0; }
    if ! cmp -s "$here/requirements.txt" "$folder/installed.txt"; then
        if ! python3 -m venv "$folder/venv" >"$folder/pip.log" 2>&1 ||
            ! "$folder/venv/bin/python" -m pip install --quiet --retries 1 --timeout 30 -r "$here/requirements.txt" >>"$folder/pip.log" 2>&1; then
            echo "skipped: the Python clients cannot be installed: $(tail -n 1 "$folder/pip.log")"
            return 0
        fi
        cp "$here/requirements.txt" "$folder/installed.txt"
    fi
    if [ -z "${LIME_CLIENTS_ALL:-}" ]; then
        echo "skipped: evaluations.txt is not installed without LIME_CLIENTS_ALL=1"
    elif ! "$folder/venv/bin/python" -m pip install --quiet --retries 1 --timeout 60 -r "$here/evaluations.txt" >>"$folder/pip.log" 2>&1; then
        echo "skipped: evaluations.txt cannot be installed: $(tail -n 1 "$folder/pip.log")"
    fi
    "$folder/venv/bin/python" -m pip list 2>/dev/null | grep -iE '^(anthropic|guidance|instructor|langchain-openai|litellm|llama-index-llms-openai-like|llm|lm_eval|openai|outlines) ' || true
    "$folder/venv/bin/python" "$here/clients.py"
}

node() {
    command -v npm >/dev/null 2>&1 || { echo "skipped: npm is not installed"; return 0; }
    if ! cmp -s "$here/package.json" "$folder/package.json" || ! [ -d "$folder/node_modules" ]; then
        cp "$here/package.json" "$folder/package.json"
        if ! (cd "$folder" && npm install --no-audit --no-fund --silent --fetch-retries=1 --fetch-timeout=30000 >npm.log 2>&1); then
            rm "$folder/package.json"
            echo "skipped: the clients of npm cannot be installed: $(tail -n 1 "$folder/npm.log")"
            return 0
        fi
    fi
    # Modules look for packages beside themselves.
    cp "$here/clients.mjs" "$folder/clients.mjs"
    (cd "$folder" && npm ls --depth=0 && command node --test clients.mjs)
}

python
node
