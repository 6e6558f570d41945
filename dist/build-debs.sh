#!/bin/bash
# Builds the Debian packages from a copy of this source tree, so that the tree itself stays clean.
#
# usage: build-debs.sh [-s] [-v VERSION] [-x COMMAND] [-o DPKG-OPTION]… FOLDER
#
#   -s              the source package, too
#   -v VERSION      as if the tree had this version (0.0.9-1): for tests of upgrades
#   -x COMMAND      run by a shell in the copy before it is built
#   -o DPKG-OPTION  handed on to dpkg-buildpackage, such as -o -aarm64
#
# The .deb, .changes and .buildinfo files are in FOLDER afterwards, and build.log. Wants dpkg-dev
# and what debian/control asks for; DEB_BUILD_OPTIONS and DEB_BUILD_PROFILES mean what they always do.
# Two builds of the same tree give the same bits: make check-reproducible.
set -eu
top=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)
version='' command='' what=-b options=()
while getopts sv:x:o: option; do
    case $option in
    s) what=-F ;;
    v) version=$OPTARG ;;
    x) command=$OPTARG ;;
    o) options+=("$OPTARG") ;;
    *) exit 64 ;;
    esac
done
shift $((OPTIND - 1))
folder=${1:?build-debs.sh: where the packages go}
fail() { echo "build-debs.sh: $*" >&2; exit 1; }

command -v dpkg-buildpackage >/dev/null || fail "needs dpkg-buildpackage (apt install dpkg-dev)"
[ -f "$top/debian/control" ] || fail "no debian/ in $top"
mkdir -p "$folder"
folder=$(readlink -f "$folder")
work=$(mktemp -d "${TMPDIR:-/tmp}/dml-build.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP

"$top/dist/copy-tree.sh" "$work/dml"
cd "$work/dml"
if [ -n "$version" ]; then
    sed -i "1s/([^)]*)/($version)/" debian/changelog
    sed -i "s/^AC_INIT(\[dml\], \[[^]]*\]/AC_INIT([dml], [${version%-*}]/" configure.ac
    grep -qF "[${version%-*}]" configure.ac || fail "configure.ac did not take the version"
fi
[ -z "$command" ] || sh -eu -c "$command"
if ! dpkg-buildpackage -us -uc $what "${options[@]}" >"$folder/build.log" 2>&1; then
    tail -n 40 "$folder/build.log" >&2
    fail "dpkg-buildpackage failed, see $folder/build.log"
fi
find "$work" -maxdepth 1 -type f -exec mv -t "$folder" {} +
