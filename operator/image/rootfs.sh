#!/usr/bin/env bash
# Lays out the smallest root file system that the given programs run in: the programs, the shared libraries that they
# name, certificates of the public authorities, and a user who is not root.
#   rootfs.sh ROOT PROGRAM...
set -euo pipefail
if [ $# -lt 2 ]; then
    sed -n '2,4s/^# *//p' "$0" >&2
    exit 2
fi
root=$1
shift
rm -rf "$root"
mkdir -p "$root"/{etc/ssl/certs,usr/local/bin,tmp,var/lib/lime}

for program in "$@"; do
    install -m 0755 "$program" "$root/usr/local/bin/"
    # Line tables are for debuggers, and larger than the program.
    if command -v strip >/dev/null; then strip --strip-debug "$root/usr/local/bin/$(basename "$program")"; fi
    # ldd says "not a dynamic executable" of a static one: that one needs nothing.
    libraries=$(ldd "$program" 2>/dev/null) || continue
    if grep -q 'not found' <<<"$libraries"; then
        echo "error: $program needs libraries that are not here:" >&2
        grep 'not found' <<<"$libraries" >&2
        exit 1
    fi
    # "libm.so.6 => /lib/…/libm.so.6 (0x…)", and the loader by its path alone.
    grep -oE '/[^ ]+' <<<"$libraries" | sort -u | while read -r library; do
        [ -e "$root$library" ] || install -D -m 0755 "$library" "$root$library"
    done
done

if [ -f /etc/ssl/certs/ca-certificates.crt ]; then
    install -m 0644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
else
    echo "note: no /etc/ssl/certs/ca-certificates.crt here: the image will trust no public server" >&2
fi
printf 'root:x:0:0:root:/:/sbin/nologin\nlime:x:65532:65532:lime:/var/lib/lime:/sbin/nologin\n' >"$root/etc/passwd"
printf 'root:x:0:\nlime:x:65532:\n' >"$root/etc/group"
printf 'passwd: files\ngroup: files\nhosts: files dns\n' >"$root/etc/nsswitch.conf"
chmod 0644 "$root"/etc/{passwd,group,nsswitch.conf}
find "$root" -type d -exec chmod 0755 {} +
chmod 1777 "$root/tmp" "$root/var/lib/lime"
