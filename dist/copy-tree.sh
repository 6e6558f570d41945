#!/bin/bash
# A copy of this source tree without what was built in it, for a build elsewhere.
#
# usage: copy-tree.sh FOLDER        FOLDER is made; the tree's files are in it afterwards
#
# In a clone: the files that git knows, as they are now. In an unpacked tarball: all of it.
set -eu
top=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)
folder=${1:?copy-tree.sh: where to}
mkdir -p "$folder"
folder=$(readlink -f "$folder")
cd "$top"
if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    # A file that was deleted but not yet committed is still in git's list.
    git ls-files -z | while IFS= read -r -d '' f; do
        [ ! -e "$f" ] || printf '%s\0' "$f"
    done | tar --null -T - -cf - | tar -C "$folder" -xf -
else
    tar --exclude='./build*' --exclude-vcs -cf - . | tar -C "$folder" -xf -
    chmod -R u+w "$folder"
fi
