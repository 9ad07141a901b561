#!/usr/bin/env bash
# Packs a root file system as an OCI archive of one image, without a container engine. The same files give the same bytes.
#   oci-archive.sh ROOT OUT NAME:TAG ENTRYPOINT...
# IMAGE_USER (default 65532:65532) and IMAGE_ARCH (default: this machine's) go into the image's configuration.
set -euo pipefail
if [ $# -lt 4 ]; then
    sed -n '2,4s/^# *//p' "$0" >&2
    exit 2
fi
root=$1 out=$2 name=$3
shift 3

case ${IMAGE_ARCH:-$(uname -m)} in
x86_64 | amd64) architecture=amd64 ;;
aarch64 | arm64) architecture=arm64 ;;
*)
    echo "error: no image architecture is known for $(uname -m): set IMAGE_ARCH to amd64 or arm64" >&2
    exit 1
    ;;
esac
# The time in the image: the commit's where a release says so, else the epoch. Never the clock's.
created=$(date -u -d "@${SOURCE_DATE_EPOCH:-0}" +%Y-%m-%dT%H:%M:%SZ)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
blobs=$work/blobs/sha256
mkdir -p "$blobs"

pack() { # pack FOLDER OUT MEMBER...: a tar whose bytes depend on names, modes and contents alone
    local folder=$1 archive=$2
    shift 2
    tar --create --file "$archive" --directory "$folder" --format=ustar --sort=name \
        --mtime="@${SOURCE_DATE_EPOCH:-0}" --owner=0 --group=0 --numeric-owner "$@"
}

store() { # store FILE: moves it among the blobs; sets $digest and $size
    digest=$(sha256sum "$1" | cut -d' ' -f1)
    size=$(stat -c %s "$1")
    mv "$1" "$blobs/$digest"
}

quote() { # a JSON string of a plain argument
    case $1 in *[\"\\]*)
        echo "error: quotes and backslashes are not for an entry point: $1" >&2
        exit 1
        ;;
    esac
    printf '"%s"' "$1"
}

entrypoint=
for word in "$@"; do
    entrypoint+=${entrypoint:+,}$(quote "$word")
done

pack "$root" "$work/layer" .
store "$work/layer"
layer=$digest layer_size=$size

cat >"$work/config" <<JSON
{"architecture":"$architecture","os":"linux","created":"$created","config":{"User":"${IMAGE_USER:-65532:65532}","Env":["PATH=/usr/local/bin:/usr/bin:/bin"],"Entrypoint":[$entrypoint],"WorkingDir":"/"},"rootfs":{"type":"layers","diff_ids":["sha256:$layer"]}}
JSON
store "$work/config"
config=$digest config_size=$size

cat >"$work/manifest" <<JSON
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:$config","size":$config_size},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:$layer","size":$layer_size}]}
JSON
store "$work/manifest"

cat >"$work/index.json" <<JSON
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:$digest","size":$size,"platform":{"architecture":"$architecture","os":"linux"},"annotations":{"io.containerd.image.name":"$name","org.opencontainers.image.ref.name":"${name##*:}"}}]}
JSON
echo '{"imageLayoutVersion":"1.0.0"}' >"$work/oci-layout"

mkdir -p "$(dirname "$out")"
pack "$work" "$out.tmp" oci-layout index.json blobs
mv "$out.tmp" "$out"
echo "$out: $name, $architecture, $(($(stat -c %s "$out") / 1048576)) MiB, sha256:$digest"
