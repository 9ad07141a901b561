#!/usr/bin/env bash
# Runs a test of the page in a real browser against a running server:
#   LIME_BASE_URL=http://127.0.0.1:8000 LIME_WORKERS=PID,PID,PID tests/page/run.sh page.mjs
# LIME_WORKERS       the workers' processes; one is killed while an answer streams
# LIME_PAGE_SHOTS    a folder for screenshots; default: none are kept
# LIME_PAGE_MODULES  where the packages go (target/page-modules)
# CHROMIUM           the browser (chromium, chromium-browser or google-chrome)
# Prints "skipped: ..." and ends well where browser or packages cannot be had.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
modules=${LIME_PAGE_MODULES:-$here/../../target/page-modules}

for program in node npm; do
    if ! command -v "$program" >/dev/null 2>&1; then
        echo "skipped: $program is not installed"
        exit 0
    fi
done
for name in "${CHROMIUM:-chromium}" chromium-browser google-chrome; do
    if chromium=$(command -v "$name" 2>/dev/null); then break; fi
done
if [ -z "$chromium" ]; then
    echo "skipped: there is no chromium (Debian: apt-get install chromium)"
    exit 0
fi
mkdir -p "$modules"
# Only one at a time installs.
exec 9>"$modules/lock"
if command -v flock >/dev/null 2>&1; then flock 9; fi
if ! cmp -s "$here/package.json" "$modules/installed.json"; then
    cp "$here/package.json" "$modules/package.json"
    if ! npm install --prefix "$modules" --no-package-lock --no-audit --no-fund >"$modules/log" 2>&1; then
        echo "skipped: playwright-core is not installed and cannot be: $(tail -n 1 "$modules/log")"
        exit 0
    fi
    cp "$here/package.json" "$modules/installed.json"
fi
exec 9>&-
export CHROMIUM=$chromium LIME_PAGE_MODULES=$modules
exec node "$here/$1"
