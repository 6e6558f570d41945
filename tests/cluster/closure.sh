#!/bin/bash
# What Debian has to add so that packages can be installed where there is no internet.
#
# usage: closure.sh BASE FOLDER DEB…     downloads to FOLDER what the DEBs need beyond the system BASE
#
# With an apt state of its own: the status is the base's, sources are the base's, lists and archives
# are FOLDER's. Already downloaded files stay and are taken again. EXTRA names more packages.
set -eu
base=${1:?a base system} folder=${2:?where to}
shift 2
mkdir -p "$folder/lists/partial" "$folder/archives/partial"
folder=$(readlink -f "$folder") base=$(readlink -f "$base")
debs=()
for deb in "$@"; do debs+=("$(readlink -f "$deb")"); done
apt_get() {
    apt-get -qq -o Dir::Etc="$base/etc/apt" -o Dir::Etc::trustedparts="$base/etc/apt/trusted.gpg.d" \
        -o Dir::State="$folder" -o Dir::State::status="$base/var/lib/dpkg/status" \
        -o Dir::State::lists="$folder/lists" -o Dir::Cache="$folder" \
        -o Dir::Cache::archives="$folder/archives" -o APT::Sandbox::User=root \
        -o Acquire::Languages=none -o Debug::NoLocking=1 "$@"
}
# A list of today is new enough, and without a network an old one is better than none.
[ -n "$(find "$folder/lists" -name '*Packages*' -newermt '-1 day' -print -quit)" ] ||
    apt_get update || [ -n "$(find "$folder/lists" -name '*Packages*' -print -quit)" ]
# shellcheck disable=SC2086
apt_get install --yes --no-install-recommends --download-only "${debs[@]}" ${EXTRA:-} >/dev/null
