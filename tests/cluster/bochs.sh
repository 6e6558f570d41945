#!/bin/bash
# Runs programs of a build folder on a processor that is not here: one with AVX-512 (Skylake-X), as
# Bochs emulates it, some 30 million instructions a second. Neither qemu nor valgrind knows AVX-512.
#
# usage: bochs.sh <PLAN       in the build folder; no root
#
# A line of PLAN is [NAME=VALUE…] PROGRAM [ARGUMENT…], without quoting; PROGRAM is named from the
# build folder, the tree is at /dml (and in $top_srcdir). Prints what the machine prints, as
# guest_init.c frames it. Exit status: 0 when the machine came to the end of the plan, however its
# programs ended; 77 with a sentence when something is missing here; else 1.
#
#   DML_CLUSTER_DIR   Debian's kernel is kept here (default: dml-cluster in $TMPDIR); the first time
#                     it is downloaded by apt, and not installed
#   DML_BOCHS_LIMIT   seconds after which the machine is given up (default: 3600)
set -eu
export LC_ALL=C
here=$(dirname "$(readlink -f "$0")")
top=$(cd "$here/../.." && pwd)
cache=${DML_CLUSTER_DIR:-${TMPDIR:-/tmp}/dml-cluster}
vmlinuz=$cache/vmlinuz-cloud-amd64
boot_limit=600 # about 40 on an idle machine

die() { echo "bochs.sh: $*" >&2; exit 1; }
skip() { echo "bochs.sh: $*" >&2; exit 77; }
[ "$(uname -m)" = x86_64 ] || skip "runs this machine's own programs, and this is no amd64"
for tool in bochs:bochs xorriso:xorriso cpio:cpio /usr/lib/ISOLINUX/isolinux.bin:isolinux \
    /usr/lib/syslinux/modules/bios/ldlinux.c32:syslinux-common; do
    command -v "${tool%:*}" >/dev/null || [ -e "${tool%:*}" ] ||
        skip "needs ${tool%:*}: ./dml deps bochs isolinux syslinux-common xorriso cpio"
done
# Its screen is a VNC server (the one display that needs no display), which nobody shall see.
unshare --map-root-user --net true 2>/dev/null || skip "needs a network namespace (unshare)"

tmp=$(mktemp -d "${TMPDIR:-/tmp}/dml-bochs.XXXXXX")
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null || true; rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM HUP

if [ ! -s "$vmlinuz" ]; then
    package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: //p' | head -n 1)
    (mkdir -p "$cache" "$tmp/deb" && cd "$tmp/deb" && apt-get -q download "$package" &&
        dpkg-deb -x ./*.deb . && cp boot/vmlinuz-* "$vmlinuz.new") >"$tmp/log" 2>&1 ||
        { cat "$tmp/log" >&2; skip "cannot download Debian's kernel (linux-image-cloud-amd64)"; }
    mv "$vmlinuz.new" "$vmlinuz"
fi

# What the machine sees: the plan, the tree, the programs and their libraries.
root=$tmp/root
mkdir -p "$root"/{dev,proc,tmp,lib,build} "$tmp/iso"
cat >"$root/plan"
"$top/dist/copy-tree.sh" "$root/dml"
"${CC:-cc}" -O2 -static -o "$root/init" "$here/guest_init.c"
for program in $(tr ' ' '\n' <"$root/plan" | grep -E '^(tests|bench)/' | sort -u); do
    # What libtool leaves at a program's place is a script that names the libraries.
    real=$(dirname "$program")/.libs/$(basename "$program")
    [ -e "$real" ] || real=$program
    [ -e "$real" ] || die "there is no $program here; it runs in the build folder"
    mkdir -p "$root/build/$(dirname "$program")"
    cp "$real" "$root/build/$program"
    LD_LIBRARY_PATH=$PWD/.libs ldd "$real" >>"$tmp/ldd"
done
grep -o '/[^ ]*' "$tmp/ldd" | sort -u | while read -r library; do
    case $library in
    "$PWD"/*) cp "$library" "$root/lib/" ;;
    *) install -D "$library" "$root$library" ;;
    esac
done

# Two faults of Bochs 2.7: CPUID gives a wrong size of what xsavec stores, upon which Linux does
# without AVX, so it shall not use that; and vgatherdps with an index in one of zmm16 to zmm31 is
# an invalid opcode. OpenBLAS has that and shall run its AVX2; the engine has no gather. With the
# APIC's timer counts are 3.8 % above valgrind's, without 0.1 %. The rest is for speed.
append="quiet panic=-1 console=ttyS0,115200 clearcpuid=xsavec,xsaves OPENBLAS_CORETYPE=Haswell"
append+=" mitigations=off init_on_alloc=0 nolapic_timer tsc=reliable OPENBLAS_NUM_THREADS=1"
printf 'default dml\nlabel dml\nkernel vmlinuz\nappend initrd=initrd %s\n' \
    "$append top_srcdir=/dml top_builddir=/build" >"$tmp/iso/isolinux.cfg"
cp "$vmlinuz" "$tmp/iso/vmlinuz"
cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$tmp/iso/"
(cd "$root" && find . | cpio --quiet -o -H newc -R 0:0) >"$tmp/iso/initrd"
xorriso -as mkisofs -quiet -o "$tmp/iso.img" -b isolinux.bin -c boot.cat -no-emul-boot \
    -boot-load-size 4 -boot-info-table "$tmp/iso" 2>"$tmp/log" || { cat "$tmp/log" >&2; exit 1; }

# ips: so many instructions are a second of the machine's clock. Many, because at each of its 250
# ticks the kernel takes some thousand.
cat >"$tmp/bochsrc" <<RC
display_library: rfb, options="timeout=0"
plugin_ctrl: speaker=0, gameport=0
cpu: model=corei7_skylake_x, ips=2000000000
memory: guest=1024, host=1024
romimage: file=/usr/share/bochs/BIOS-bochs-latest, options=fastboot
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
ata0-master: type=cdrom, path=$tmp/iso.img, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$tmp/serial
clock: sync=none, time0=utc
log: $tmp/bochs.log
panic: action=fatal
error: action=ignore
RC
echo continue >"$tmp/debugger" # Debian's has a debugger in it, which asks before it starts
touch "$tmp/serial"
timeout -k 5 "${DML_BOCHS_LIMIT:-3600}" nice -n 10 unshare --map-root-user --net \
    bochs -q -f "$tmp/bochsrc" -rc "$tmp/debugger" >"$tmp/out" 2>&1 </dev/null &
pid=$!
SECONDS=0
until grep -q '^===' "$tmp/serial"; do
    if [ $SECONDS -gt $boot_limit ] || ! kill -0 "$pid" 2>/dev/null; then
        tail -n 20 "$tmp/out" "$tmp/bochs.log" "$tmp/serial" >&2
        die "the machine has not come up; given up after $SECONDS s"
    fi
    sleep 1
done
echo "# booted after $SECONDS s"
tail -s 0.5 -c +1 -f --pid="$pid" "$tmp/serial" | sed -u 's/\r$//; /^===/,$!d'
wait "$pid" || true # Bochs ends with 1 when its machine is switched off
pid=
grep -q '^=== end' "$tmp/serial" ||
    { tail -n 5 "$tmp/out" >&2; die "the machine did not come to the end of its plan"; }
