#!/bin/bash
# A signed apt repository from a folder of .debs, to be served by any web server or as file:.
#
# usage: apt-repo.sh [-o FOLDER] [-u URI] [-s SUITE] [-k KEY] [DEB|FOLDER]…
#
#   -o FOLDER   the repository (default: apt-repo). Replaced as a whole, once all is ready
#   -u URI      where the machines will find it (default: file:FOLDER)
#   -s SUITE    release of Debian that the packages were built for (default: this machine's).
#               Other suites in FOLDER stay, so that one folder can serve several releases
#   -k KEY      what signs: a key id or mail address known to gpg, or a file with a secret key
#               (default: a key of its own, made at the first time and kept in FOLDER.key)
#
# Without a DEB, the packages are built first, by build-debs.sh. All architectures go in together:
# give it the .debs of amd64, arm64 and armhf. What is not given again is no longer in the suite.
#
# Each suite gets one file FOLDER/dml-SUITE.sources, with the key in it: put into
# /etc/apt/sources.list.d it is all a machine needs. Keep FOLDER.key to yourself; with it the next
# version is accepted by machines that have the file already. Wants apt-utils and gpg.
set -eu
here=$(dirname "$(readlink -f "$0")")
out=apt-repo uri='' suite='' key=''
while getopts o:u:s:k: option; do
    case $option in
    o) out=$OPTARG ;;
    u) uri=$OPTARG ;;
    s) suite=$OPTARG ;;
    k) key=$OPTARG ;;
    *) exit 64 ;;
    esac
done
shift $((OPTIND - 1))
fail() { echo "apt-repo.sh: $*" >&2; exit 1; }

command -v apt-ftparchive >/dev/null || fail "needs apt-ftparchive (apt install apt-utils)"
command -v gpg >/dev/null || fail "needs gpg (apt install gnupg)"
[ -n "$suite" ] || suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
[ -n "$suite" ] || fail "this system does not say its release: give one with -s"
case $suite in
*[!a-z0-9.-]*) fail "'$suite' is no name of a release" ;;
esac

mkdir -p "$(dirname "$out")"
out=$(readlink -f "$out")
uri=${uri:-file:$out}
[ ! -f "$key" ] || key=$(readlink -f "$key")
work=$(mktemp -d "${TMPDIR:-/tmp}/dml-repo.XXXXXX")
clean_up() {
    # gpg leaves its agent running in the background.
    [ ! -d "$work/gnupg" ] || gpgconf --homedir "$work/gnupg" --kill all 2>/dev/null || true
    rm -rf "$work" "$out.new"
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

# ---- packages ----------------------------------------------------------------------------------

if [ $# -eq 0 ]; then
    "$here/build-debs.sh" "$work/built"
    set -- "$work/built"
fi
rm -rf "$out.new"
if [ -d "$out" ]; then cp -a "$out" "$out.new"; else mkdir "$out.new"; fi
pool=pool/$suite dist=dists/$suite
rm -rf "${out:?}.new/$pool" "$out.new/$dist"
mkdir -p "$out.new/$pool"
for given in "$@"; do
    [ -e "$given" ] || fail "$given: not there"
    # Symbols of a debugger are larger than all else, and no Pi asks for them.
    find -L "$given" -maxdepth 1 -type f -name '*.deb' ! -name '*-dbgsym_*' \
        -exec cp -t "$out.new/$pool" {} +
done
cd "$out.new"
architectures=$(for deb in "$pool"/*.deb; do
    [ ! -e "$deb" ] || dpkg-deb -f "$deb" Architecture
done | grep -vx all | sort -u | tr '\n' ' ')
ls "$pool"/*.deb >/dev/null 2>&1 || fail "no .deb in $*"
architectures=${architectures:-$(dpkg --print-architecture)}

# ---- index -------------------------------------------------------------------------------------

for a in $architectures; do
    mkdir -p "$dist/main/binary-$a"
    apt-ftparchive --arch "$a" packages "$pool" >"$dist/main/binary-$a/Packages"
    gzip -9nk "$dist/main/binary-$a/Packages"
done
# No Valid-Until: the clock of a Pi may be wrong, and a classroom does not publish every week.
field=APT::FTPArchive::Release
apt-ftparchive -o $field::Origin=dml -o $field::Label=dml -o $field::Suite="$suite" \
    -o $field::Codename="$suite" -o $field::Architectures="${architectures% }" \
    -o $field::Components=main -o $field::Description="dml for $suite" \
    release "$dist" >"$work/Release"
mv "$work/Release" "$dist/Release"

# ---- signature ---------------------------------------------------------------------------------

gpg=(gpg --batch --quiet --no-auto-check-trustdb)
if [ -z "$key" ] || [ -f "$key" ]; then
    # A keyring of its own, gone afterwards. In $work because gpg's agent wants a short path.
    export GNUPGHOME=$work/gnupg
    mkdir -m 700 "$GNUPGHOME"
    if [ -z "$key" ]; then
        key=$out.key
        if [ ! -f "$key" ]; then
            name='dml packages <packages@dml.invalid>'
            "${gpg[@]}" --passphrase '' --quick-generate-key "$name" ed25519 sign never
            (umask 077 && "${gpg[@]}" --export-secret-keys --armor "$name" >"$key.new")
            mv "$key.new" "$key"
        fi
    fi
    "${gpg[@]}" --import "$key" || fail "$key: gpg cannot read a key from it"
    key=$("${gpg[@]}" --list-secret-keys --with-colons |
        awk -F: '$1 == "fpr" { print $10; exit }')
    [ -n "$key" ] || fail "the file holds no secret key"
fi
"${gpg[@]}" --local-user "$key" --clearsign --output "$dist/InRelease" "$dist/Release" ||
    fail "gpg could not sign with '$key'"
"${gpg[@]}" --local-user "$key" --detach-sign --armor --output "$dist/Release.gpg" \
    "$dist/Release"

{
    echo "# dml for Debian $suite and the Raspberry Pi OS made of it. Goes to /etc/apt/sources.list.d/."
    echo "Types: deb"
    echo "URIs: $uri"
    echo "Suites: $suite"
    echo "Components: main"
    echo "Signed-By:"
    "${gpg[@]}" --export --armor --export-options export-minimal "$key" |
        sed -e 's/^$/./' -e 's/^/ /'
} >"dml-$suite.sources"

# ---- all is ready ------------------------------------------------------------------------------

chmod -R a+rX .
rm -rf "$out.old"
[ ! -d "$out" ] || mv "$out" "$out.old"
mv "$out.new" "$out"
rm -rf "$out.old"
debs=("$out/$pool"/*.deb)
echo "$out: ${#debs[@]} packages for $suite (${architectures% }), at $uri"
