#!/bin/bash
# Instructions per sample of training: the engine against the naive twin of the tests, where time
# means nothing. A Markdown table.
#
# usage: count.sh            this machine's processor, level base, by valgrind; in the build folder
#        count.sh arm64      cross-built in the chroot that tests/cluster/cross.sh made, counted by
#                            qemu-user's plugin on a Cortex-A53; as root
#        count.sh avx512     this machine's programs on a processor with AVX-512, counted by Bochs
#                            (tests/cluster/bochs.sh): the three levels of the engine beside each
#                            other; in the build folder
#
#   DML_CLUSTER_DIR, DML_SUITE, DML_MIRROR   as cross.sh has them
#   DML_COUNT   "MODEL:BATCH[:STEPS] …" (default: sdss-mlp:32 cifar-cnn:32 mobilenetv2:8; for avx512
#               the list below)
#
# Two runs that differ by STEPS (1 unless named): what starting, reading and filling takes is not
# counted. Bochs counts the kernel's instructions too, and loading takes some hundred thousand more
# or less from run to run: there the STEPS make tens of millions.
# shellcheck disable=SC2016 # what stands in single quotes is for the chroot's shell
set -eu
export LC_ALL=C
here=$(dirname "$(readlink -f "$0")")
top=$(cd "$here/.." && pwd)
kinds="engine naive" header="| model | batch | engine | naive twin | ratio |"
arch=${1:-native}
cases=${DML_COUNT:-sdss-mlp:32 cifar-cnn:32 mobilenetv2:8}
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
avx512)
    kinds="avx512 avx2 base" header="| model | batch | avx512 | avx2 | base | ratio |"
    cases=${DML_COUNT:-sdss-mlp:32:200 sdss-mlp:128:50 sdss-mlp:1024:6 cifar-cnn:4:20
        cifar-cnn:32:3 cifar-cnn:128:1 mobilenetv2:32:1}
    out=$(mktemp "${TMPDIR:-/tmp}/dml-count.XXXXXX")
    trap 'rm -f "$out"' EXIT
    {
        # The first to use the libraries pays for all.
        echo "bench/bench_count /dml/etc/models/sdss-mlp.model engine 1 1"
        for c in $cases; do
            IFS=: read -r model batch steps <<<"$c"
            for kind in $kinds; do
                work="bench/bench_count /dml/etc/models/$model.model engine $batch"
                printf "DML_KERNEL=$kind $work %d\n" 1 $((1 + ${steps:-1}))
            done
        done
    } | "$top/tests/cluster/bochs.sh" >"$out"
    if grep -E '^--- [1-9]' "$out"; then
        echo "count.sh: bench_count failed" >&2
        exit 1
    fi
    echo "amd64 (Skylake-X), Bochs"
    count() {
        awk -v line="=== DML_KERNEL=$2 bench/bench_count /dml/etc/models/$1.model engine $3 $4" '
            $1 == "===" { mine = $0 == line }
            mine && $1 == "---" && $2 == 0 { print $3; exit }' "$out"
    }
    ;;
*)
    echo "usage: count.sh [arm64|avx512]" >&2
    exit 64
    ;;
esac

per_sample() { # MODEL KIND BATCH STEPS
    local one more
    one=$(count "$1" "$2" "$3" 1)
    more=$(count "$1" "$2" "$3" $((1 + $4)))
    echo $(((more - one) / $3 / $4))
}

echo
echo "$header"
echo "$header" | sed 's/[^|]\+/---/g'
for c in $cases; do
    IFS=: read -r model batch steps <<<"$c"
    for kind in $kinds; do
        per_sample "$model" "$kind" "$batch" "${steps:-1}"
    done | awk -v row="| $model | $batch |" '
        { row = row " " $1 " |"; n[NR] = $1 }
        END { printf "%s %.1f |\n", row, n[NR] / n[1] }'
done
