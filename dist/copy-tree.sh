#!/bin/bash
# A copy of this source tree without what was built in it, for a build elsewhere.
#
# usage: copy-tree.sh FOLDER        FOLDER is made; the tree's files are in it afterwards
#
# In a clone: the files that git knows, as they are now. In an unpacked tarball: all of it. Who may
# read the files is the same whatever the umask is or was, since it ends up in the source package.
set -eu
umask 022
mode=u+rwX,go+rX,go-w
top=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)
folder=${1:?copy-tree.sh: where to}
mkdir -p "$folder"
folder=$(readlink -f "$folder")
cd "$top"
if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    # A file that was deleted but not yet committed is still in git's list.
    git ls-files -z | while IFS= read -r -d '' f; do
        [ ! -e "$f" ] || printf '%s\0' "$f"
    done | tar --mode=$mode --null -T - -cf - | tar -C "$folder" -xf -
else
    tar --mode=$mode --exclude='./build*' --exclude-vcs -cf - . | tar -C "$folder" -xf -
fi
