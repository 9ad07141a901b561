#!/usr/bin/env bash
# Runs conformance.py, or the script that LIME_SCRIPT names, with the official openai client against a running server:
#   LIME_BASE_URL=http://127.0.0.1:8000/v1 tests/openai/run.sh
# LIME_API_KEY      a key that the server accepts, where it asks for one
# LIME_CAPACITY     slots and queue of the server together: tells how to fill it
# PYTHON            the interpreter (python3)
# LIME_OPENAI_VENV  where the package goes if it is not installed (target/openai-venv)
# Prints "skipped: ..." and ends well where the package cannot be had.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}
venv=${LIME_OPENAI_VENV:-$here/../../target/openai-venv}

if ! command -v "$python" >/dev/null 2>&1; then
    echo "skipped: $python is not installed"
    exit 0
fi
if ! "$python" -c 'import openai' >/dev/null 2>&1; then
    mkdir -p "$venv"
    # Only one at a time installs.
    exec 9>"$venv.lock"
    if command -v flock >/dev/null 2>&1; then flock 9; fi
    if ! "$venv/bin/python" -c 'import openai' >/dev/null 2>&1; then
        if ! "$python" -m venv "$venv" >"$venv.log" 2>&1 ||
            ! "$venv/bin/python" -m pip install --quiet -r "$here/requirements.txt" >>"$venv.log" 2>&1; then
            echo "skipped: the openai package is not installed and cannot be: $(tail -n 1 "$venv.log")"
            exit 0
        fi
    fi
    exec 9>&-
    python=$venv/bin/python
fi
exec "$python" "$here/${LIME_SCRIPT:-conformance.py}" "$@"
