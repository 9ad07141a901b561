#!/bin/sh
# Packs the chart with the digest of its image in its values, and signs the package (helm verify checks it): who trusts the key has that image in
# every pod and no other.
#   package.sh FOLDER sha256:DIGEST [KEY KEYRING]
set -eu
if [ $# -ne 2 ] && [ $# -ne 4 ]; then
    sed -n '2,4s/^# *//p' "$0" >&2
    exit 2
fi
into=$1 digest=$2
if ! printf %s "$digest" | grep -qxE 'sha256:[0-9a-f]{64}'; then
    echo "error: $digest is no digest: oci-archive.sh and registries say it as sha256: and 64 hexadecimal digits" >&2
    exit 2
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -R "$(dirname "$0")" "$work/lime"
sed -i "s|^  digest: \"\"\$|  digest: \"$digest\"|" "$work/lime/values.yaml"
grep -qF "$digest" "$work/lime/values.yaml" || { echo "error: values.yaml has no image.digest to set" >&2; exit 1; }
if [ $# -eq 4 ]; then
    helm package "$work/lime" --destination "$into" --sign --key "$3" --keyring "$4"
else
    helm package "$work/lime" --destination "$into"
fi
