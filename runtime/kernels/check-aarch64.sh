#!/usr/bin/env bash
# Compiles lime-kernels for aarch64 and runs its tests under qemu, so that NEON is compared with scalar bit for bit.
# Where the tools are not to be had it prints "skipped: why" and exits 0. Debian's compiler is used, since rustup's
# may have no aarch64 standard library; LIME_AARCH64_INSTALL=0 keeps it from installing anything.
set -euo pipefail

cd "$(dirname "$0")/../.."

skip() {
    echo "skipped: aarch64 kernels: $1"
    exit 0
}

# qemu runs the tests on the C library of arm64 itself: the cross one hangs in pthread_create.
packages=(rustc-web libstd-rust-web-dev:arm64 libc6:arm64 gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)
rustc=/usr/bin/rustc

ready() {
    [ -x "$rustc" ] && [ -d "$("$rustc" --print sysroot)/lib/rustlib/aarch64-unknown-linux-gnu/lib" ] &&
        command -v aarch64-linux-gnu-gcc qemu-aarch64 >/dev/null && [ -e /lib/ld-linux-aarch64.so.1 ]
}

install_tools() {
    [ "${LIME_AARCH64_INSTALL:-1}" = 1 ] || return 1
    [ "$(id -u)" = 0 ] && command -v apt-get dpkg >/dev/null || return 1
    [ "$(dpkg --print-architecture)" = amd64 ] || return 1
    export DEBIAN_FRONTEND=noninteractive
    dpkg --add-architecture arm64 &&
        apt-get update -qq &&
        apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
}

[ "$(uname -m)" != aarch64 ] || skip "this machine is aarch64: its own tests cover NEON"
ready || install_tools >&2 || skip "no cross compiler and qemu, and they could not be installed"
ready || skip "the packages hold no aarch64 standard library for $("$rustc" --version 2>/dev/null || echo rustc)"

export RUSTC="$rustc"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/aarch64"
export CARGO_BUILD_TARGET=aarch64-unknown-linux-gnu
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /"
# Emulation is slow; the cases are many all the same.
export PROPTEST_CASES="${PROPTEST_CASES:-32}"

cargo test -p lime-kernels --lib --tests
# A CPU without sdot takes other instructions for quantized weights.
QEMU_CPU=cortex-a53 cargo test -p lime-kernels --lib simd::dots --test quants
