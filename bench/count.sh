#!/bin/bash
# Instructions per sample of training: the engine against the naive twin of the tests, where time
# means nothing. A Markdown table.
#
# usage: count.sh            this machine's processor, level base, by valgrind; in the build folder
#        count.sh arm64      cross-built in the chroot that tests/cluster/cross.sh made, counted by
#                            qemu-user's plugin on a Cortex-A53; as root
#
#   DML_CLUSTER_DIR, DML_SUITE, DML_MIRROR   as cross.sh has them
#   DML_COUNT   "MODEL:BATCH …" (default: sdss-mlp:32 cifar-cnn:32 mobilenetv2:8)
#
# Two runs that differ by one step: what starting, reading and filling takes is not counted.
# shellcheck disable=SC2016 # what stands in single quotes is for the chroot's shell
set -eu
export LC_ALL=C
here=$(dirname "$(readlink -f "$0")")
top=$(cd "$here/.." && pwd)
cases=${DML_COUNT:-sdss-mlp:32 cifar-cnn:32 mobilenetv2:8}
arch=${1:-native}
suite=${DML_SUITE:-$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)}
chroot=${DML_CLUSTER_DIR:-${TMPDIR:-/tmp}/dml-cluster}/cross-$suite-arm64

in_chroot() {
    cp -L /etc/resolv.conf "$chroot/etc/resolv.conf"
    unshare --mount --pid --fork --kill-child sh -eu -c '
        mount -t proc proc "$0/proc"
        exec chroot "$0" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root \
            DEBIAN_FRONTEND=noninteractive OPENBLAS_NUM_THREADS=1 "$@"' "$chroot" "$@" </dev/null
}

case $arch in
native)
    command -v valgrind >/dev/null || { echo "count.sh: needs valgrind" >&2; exit 77; }
    echo "$(uname -m), level base, valgrind"
    count() { # MODEL KIND BATCH STEPS
        DML_KERNEL=base OPENBLAS_NUM_THREADS=1 OPENBLAS_CORETYPE=Core2 ./libtool --mode=execute \
            valgrind --tool=cachegrind --cache-sim=no --cachegrind-out-file=/dev/null \
            bench/bench_count "$top/etc/models/$1.model" "$2" "$3" "$4" 2>&1 |
            sed -n 's/.*I *refs: *//p' | tr -d ,
    }
    ;;
arm64)
    [ -e "$chroot.ok" ] || { echo "count.sh: run tests/cluster/cross.sh arm64 first" >&2; exit 77; }
    trap 'rm -rf "$chroot/count"' EXIT
    rm -rf "$chroot/count"
    "$top/dist/copy-tree.sh" "$chroot/count/dml"
    in_chroot sh -eu -c 'cd /count/dml
        command -v qemu-aarch64 >/dev/null ||
            apt-get -q -y install --no-install-recommends qemu-user
        gcc -O2 -fPIC -shared -o /count/plugin.so bench/count_plugin.c
        ./bootstrap
        mkdir build
        cd build
        ../configure --host=aarch64-linux-gnu
        make -s proto/dml.pb-c.h
        make -s bench/bench_count' >"$chroot.count.log" 2>&1 ||
        { tail -n 30 "$chroot.count.log" >&2; exit 1; }
    echo "arm64 (Cortex-A53 baseline), qemu-user"
    count() {
        in_chroot sh -eu -c 'cd /count/dml/build
            ./libtool --mode=execute qemu-aarch64 -cpu cortex-a53 -plugin /count/plugin.so -d plugin \
                bench/bench_count "../etc/models/$1.model" "$2" "$3" "$4"' count "$@" 2>&1 |
            sed -n 's/^instructions //p'
    }
    ;;
*)
    echo "usage: count.sh [arm64]" >&2
    exit 64
    ;;
esac

per_sample() { # MODEL KIND BATCH
    local one two
    one=$(count "$1" "$2" "$3" 1)
    two=$(count "$1" "$2" "$3" 2)
    echo $(((two - one) / $3))
}

echo
echo "| model | batch | engine | naive twin | ratio |"
echo "|---|---|---|---|---|"
for c in $cases; do
    engine=$(per_sample "${c%:*}" engine "${c#*:}")
    naive=$(per_sample "${c%:*}" naive "${c#*:}")
    echo "$engine $naive" | awk -v m="${c%:*}" -v b="${c#*:}" \
        '{ printf "| %s | %s | %d | %d | %.1f |\n", m, b, $1, $2, $2 / $1 }'
done
