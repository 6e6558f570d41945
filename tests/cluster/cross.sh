#!/bin/bash
# The packages for another architecture, or another release: built, and their tests run. TAP.
#
# usage: cross.sh ARCH        as root; ARCH is arm64, armhf, or this machine's own
#
# In a chroot of this machine's architecture with ARCH beside it, so that the machine's own apt never
# hears of ARCH: the packages are cross-built, the unit, algorithm and fuzz tests are run by qemu-user
# as processors without extensions (Cortex-A53, the Pi 3; Cortex-A7, the Pi 2), and baseline.sh looks
# for instructions that not every machine of ARCH has. qemu is called by name, nothing is registered
# with the kernel. The daemons themselves start other programs and are left to check-cluster.
#
#   DML_CLUSTER_DIR   the chroots are kept here, and the packages put (debs-SUITE-ARCH)
#                     (default: dml-cluster in $TMPDIR)
#   DML_SUITE         release of Debian (default: this machine's)
#   DML_TESTS         which tests, an extended regular expression (default: all; under qemu those of
#                     the gradients alone take many minutes)
#   DML_MIRROR        Debian's mirror. Its main suite alone: all a build needs, and for every ARCH
#
# Wants root, mmdebstrap and a mirror; is skipped with a sentence without the first two.
# shellcheck disable=SC2317 # functions are called by ok
set -u
export LC_ALL=C
here=$(dirname "$(readlink -f "$0")")
top=$(cd "$here/../.." && pwd)
arch=${1:?cross.sh: which architecture}
own=$(dpkg --print-architecture)
suite=${DML_SUITE:-$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)}
cache=${DML_CLUSTER_DIR:-${TMPDIR:-/tmp}/dml-cluster}
chroot=$cache/cross-$suite-$arch
out=$cache/debs-$suite-$arch
mirror=${DML_MIRROR:-http://deb.debian.org/debian}

skip_all() { echo "1..0 # SKIP $*"; exit 0; }
[ "$(id -u)" = 0 ] || skip_all "needs root, for a chroot"
command -v mmdebstrap >/dev/null || skip_all "needs mmdebstrap (apt install mmdebstrap)"
case $arch in
arm64) qemu="qemu-aarch64-static -cpu cortex-a53" ;;
armhf) qemu="qemu-arm-static -cpu cortex-a7" ;;
"$own") qemu='' ;;
*)
    echo "cross.sh: nothing is known about '$arch'" >&2
    exit 64
    ;;
esac

n=0 failed=0
ok() { # WHAT COMMAND…
    local what=$1 t0=$SECONDS
    shift
    n=$((n + 1))
    if "$@" >"$cache/cross-$arch.log" 2>&1; then
        echo "ok $n - $what"
        echo "# $((SECONDS - t0)) s"
        return 0
    fi
    echo "not ok $n - $what"
    failed=$((failed + 1))
    tail -n 60 "$cache/cross-$arch.log" | cut -c 1-200 | sed 's/^/#   /'
    return 1
}
finish() { echo "1..$n"; [ $failed -eq 0 ]; exit; }

# in_chroot COMMAND…: with a /proc, and gone with all it started when this script goes. The network is
# this machine's, for apt.
in_chroot() {
    cp -L /etc/resolv.conf "$chroot/etc/resolv.conf"
    # shellcheck disable=SC2016
    unshare --mount --pid --fork --kill-child sh -eu -c '
        mount -t proc proc "$0/proc"
        exec chroot "$0" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root \
            DEBIAN_FRONTEND=noninteractive "$@"' "$chroot" "$@" </dev/null
}

make_chroot() {
    local packages=build-essential,debhelper,fakeroot architectures=$own
    if [ -n "$qemu" ]; then
        packages=$packages,crossbuild-essential-$arch,libc6:$arch,qemu-user-static
        architectures=$own,$arch
    fi
    rm -rf --one-file-system "$chroot"
    echo "deb $mirror $suite main" | mmdebstrap --variant=buildd --architectures="$architectures" \
        --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
        --dpkgopt='path-exclude=/usr/share/man/*' --include="$packages" "$suite" "$chroot" - &&
        touch "$chroot.ok"
}

build_dependencies() {
    in_chroot sh -eu -c "cd /build/dml
        apt-get -q update
        apt-get -q -y build-dep --host-architecture $arch -P ${qemu:+cross,}nocheck ."
}

# The tests are run afterwards, where they can be counted.
build() {
    in_chroot sh -eu -c "cd /build/dml
        DEB_BUILD_OPTIONS='nocheck parallel=$(nproc)' DEB_BUILD_PROFILES='${qemu:+cross }nocheck' \
            dpkg-buildpackage -us -uc -b -a$arch"
}

# What libtool builds before installation are scripts that set a path and then start the program:
# libtool itself knows how to put qemu between the two. Tests that are scripts themselves start other
# programs, which only the kernel could hand to qemu.
tests() {
    # shellcheck disable=SC2016
    in_chroot sh -eu -c 'cd /build/dml
        make -s -k -j"$1" V=0 check TESTS=
        tests=$(make -s --eval="list: ; @echo \$(TESTS)" list | tr " " "\n" |
            grep -E "^tests/(unit|algo|fuzz)/[a-z0-9_]*$" | grep -E "$3")
        [ -n "$tests" ]
        make -s -k -j"$1" V=0 check TESTS="$(echo $tests)" \
            LOG_COMPILER="${2:+$PWD/libtool --mode=execute $2}" >/dev/null || true
        tests/summary.sh .' tests "$(nproc)" "$qemu" "${DML_TESTS:-.}"
}

baseline() {
    cp "$here/baseline.sh" "$chroot/build/"
    # debian/tmp has them as they were linked, debhelper strips copies.
    # shellcheck disable=SC2016
    in_chroot bash -eu -c 'cd /build/dml/debian/tmp
        mapfile -t files < <(find . -type f \( -name "*.so*" -o -path "*/bin/*" -o -path "*/sbin/*" \))
        printf "%s\n" "${files[@]}"
        [ ${#files[@]} -ge 4 ]
        /build/baseline.sh "$1" "${files[@]}"' baseline "$arch"
}

right_machine() {
    local deb
    for deb in "$out"/*.deb; do
        [ "$(dpkg-deb -f "$deb" Architecture)" = "$arch" ] || { echo "$deb"; return 1; }
    done
}

mkdir -p "$cache" || exit 99
[ -e "$chroot.ok" ] || ok "a chroot of $suite for $arch" make_chroot || finish
trap 'rm -rf "$chroot/build"' EXIT
trap 'exit 130' INT TERM HUP
rm -rf "$chroot/build" "$out"
mkdir -p "$chroot/build" "$out"
"$top/dist/copy-tree.sh" "$chroot/build/dml" || exit 99
ok "what the build needs" build_dependencies || finish
ok "the packages" build || finish
mv "$chroot"/build/*.deb "$out/"
ok "are of $arch" right_machine
if [ -n "$qemu" ]; then
    ok "no instruction beyond the baseline of $arch" baseline
    grep 'different instructions' "$cache/cross-$arch.log" | sed 's/^/# /'
fi
ok "the tests${DML_TESTS:+ of $DML_TESTS}" tests
sed -n 's/^[0-9]* test programs: .*/# &/p' "$cache/cross-$arch.log"
finish
