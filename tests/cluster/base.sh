#!/bin/bash
# The system that every machine of the cluster test starts from: a minimal Debian that boots.
#
# usage: base.sh SUITE FOLDER        makes FOLDER/base-SUITE, unless it is there and of this recipe
#
# What is in it decides what `apt install dml-worker` has to bring, so it holds nothing beyond an
# image of Raspberry Pi OS Lite: Debian's essential packages, systemd, the bus, apt and the tools to
# look at the network. Prints the path. Needs root, mmdebstrap, and a Debian mirror (DML_MIRROR).
set -eu
here=$(dirname "$(readlink -f "$0")")
suite=${1:?which release of Debian}
folder=${2:?where to}
mirror=${DML_MIRROR:-http://deb.debian.org/debian}
base=$folder/base-$suite
packages=apt,dbus,init-system-helpers,iproute2,iputils-ping,netbase,systemd,systemd-sysv

# A test machine has no disk to check, no console to log in at, no time server and no network but the
# one it is given; and timers of apt would take its lock in the middle of a test.
masked="apt-daily.timer apt-daily-upgrade.timer console-getty.service dpkg-db-backup.timer
    e2scrub_all.timer e2scrub_reap.service fstrim.timer getty@tty1.service systemd-networkd.service
    systemd-resolved.service systemd-timesyncd.service"

recipe=$(sha256sum <"$here/base.sh" | cut -c 1-16)
if [ "$(cat "$base/.recipe" 2>/dev/null)" = "$recipe" ]; then
    echo "$base"
    exit 0
fi
command -v mmdebstrap >/dev/null || { echo "base.sh: needs mmdebstrap (apt install mmdebstrap)" >&2; exit 1; }

mkdir -p "$folder"
rm -rf --one-file-system "$base" "$base.new"
sources="deb $mirror $suite main
deb $mirror $suite-updates main
deb ${DML_SECURITY_MIRROR:-${mirror%/}-security} $suite-security main"
printf '%s\n' "$sources" | mmdebstrap --quiet --variant=minbase --include="$packages" \
    --aptopt='Acquire::Languages "none"' "$suite" "$base.new" - >&2
for unit in $masked; do
    ln -sf /dev/null "$base.new/etc/systemd/system/$unit"
done
rm -f "$base.new/etc/resolv.conf"
: >"$base.new/etc/machine-id" # every machine gets its own at its first boot
mkdir -p "$base.new/var/log/journal" # a journal that outlives a power cut
# The journal of a test is small, and its disk is shared.
mkdir -p "$base.new/etc/systemd/journald.conf.d"
printf '[Journal]\nSystemMaxUse=64M\n' >"$base.new/etc/systemd/journald.conf.d/test.conf"
echo "$recipe" >"$base.new/.recipe"
mv "$base.new" "$base"
echo "$base"
