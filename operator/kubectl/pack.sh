#!/usr/bin/env bash
# Packs the plugin as krew wants it: pack.sh BINARY FOLDER writes FOLDER/kubectl-lime-OS-ARCH.tar.gz and FOLDER/lime.yaml with its sum.
set -euo pipefail
binary=$1
folder=$2
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
os=$(uname -s | tr '[:upper:]' '[:lower:]')
case $(uname -m) in
x86_64) arch=amd64 ;;
aarch64 | arm64) arch=arm64 ;;
*)
    echo "pack.sh: the manifest has no platform for $(uname -m)" >&2
    exit 1
    ;;
esac
archive=kubectl-lime-$os-$arch.tar.gz
staged=$(mktemp -d)
trap 'rm -rf "$staged"' EXIT
install -m 755 "$binary" "$staged/kubectl-lime"
install -m 644 "$root/LICENSE" "$staged/LICENSE"
mkdir -p "$folder"
# The same binary gives the same archive.
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -C "$staged" -cf - LICENSE kubectl-lime | gzip -n >"$folder/$archive"
sum=$(sha256sum "$folder/$archive" | cut -d' ' -f1)
awk -v archive="$archive" -v sum="$sum" '
    index($0, "/" archive) { ours = 1 }
    ours && /sha256:/ { sub(/"[0-9a-f]*"/, "\"" sum "\""); ours = 0; filled = 1 }
    { print }
    END { exit !filled }
' "$root/manifests/krew/lime.yaml" >"$folder/lime.yaml"
echo "$folder/$archive"
