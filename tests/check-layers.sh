#!/bin/sh
# Does the tree still have the shape it was designed with?
#
# Five rules, each one test point, each a few lines of awk over the sources in src/ (and, for the
# length, everything that is code):
#
#   includes  point down: LAYERS names, for every directory, what it may include
#   doors     a foreign header is included only where DOORS allows it; a header that is neither in
#             DOORS nor in LIBC is refused, so that a new dependency is a decision and not an accident
#   length    no file over 500 lines without a line `Length: reason` in its head comment
#   exits     exit, _exit and abort are called in the programs' mains only
#   listed    every .c and .h stands in the Makefile.inc beside it (else it is missing from the tarball)
#
# Then the same five on a copy of the tree with one violation of each planted: a check that cannot
# fail is worth nothing.
#
# usage: check-layers.sh [SOURCE-TREE]        (default: $top_srcdir, else the tree it lies in)
set -u
LC_ALL=C
export LC_ALL

# Who may include what: a directory (all its headers) or a single header. Own headers always.
# `run` stands for the files in src/ itself: the flow and its variants. A plugin sees what a plugin outside this tree sees.
LAYERS='
base
data      base
nn        base data
strategy  base nn/vec.h
rpc       base
report    base
conf      base data nn strategy rpc report
paradigm  base data nn strategy conf rpc/comm.h report/event.h
run       base data nn strategy conf paradigm rpc/comm.h rpc/comm_local.h report/event.h
plugins   strategy/strategy.h base/opt.h nn/vec.h
master    base data nn strategy rpc report conf paradigm run
worker    base data nn strategy rpc report conf paradigm run
ctl       base data nn strategy rpc report conf paradigm run
'

# Foreign headers and the files that may include them. A trailing * matches any rest.
# jansson: JSON is written and read in report/, printed by dmlctl and base/log.c. zlib: gzipped files.
# openssl: SHA-256 of files and of cached shards.
DOORS='
<grpc/*                 rpc/channel.c rpc/listener.c rpc/loop.c rpc/settings.c rpc/settings.h rpc/stream.c rpc/transfer.c
*.pb-c.h                rpc/wire.c
<protobuf-c/*           rpc/wire.c
<cblas.h>               nn/gemm.c
<dlfcn.h>               strategy/loader.c
<systemd/sd-journal.h>  base/log.c report/*
<systemd/sd-daemon.h>   master/main.c worker/main.c
<systemd/sd-id128.h>    report/*
<jansson.h>             base/log.c report/* ctl/*
<zlib.h>                base/fileio.c
<openssl/*              base/fileio.c data/*
'

# What the C library, the kernel and the compiler bring.
LIBC='assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdalign
stdarg stdatomic stdbool stddef stdint stdio stdlib stdnoreturn string strings tgmath threads time
uchar wchar wctype dirent endian byteswap err fcntl fnmatch ftw getopt glob grp ifaddrs langinfo libgen
malloc netdb poll pthread pwd regex sched semaphore spawn stdio_ext sysexits syslog termios ucontext
unistd utime wordexp arpa/* asm/* bits/* linux/* net/* netinet/* sys/* arm_neon cpuid immintrin xmmintrin
pmmintrin'

MAINS='master/main.c worker/main.c ctl/main.c'
MAX_LINES=500

tree=${1:-${top_srcdir:-$(dirname "$0")/..}}
tree=$(cd "$tree" && pwd) || exit 99
tmp=$(mktemp -d "${TMPDIR:-/tmp}/dml-layers.XXXXXX") || exit 99
trap 'rm -rf "$tmp"' EXIT
trap 'exit 99' HUP INT TERM

# sources TREE DIR…: the C files below, one a line, relative to the tree.
sources() {
    (
        cd "$1" && shift || exit
        find "$@" -name '*.[ch]' ! -name '*.pb-c.[ch]' 2>/dev/null | sort
    )
}

# includes TREE: "file:line header" of every include in src/, quotes and brackets kept.
includes() {
    sources "$1" src | (cd "$1" && xargs awk '
        /^[ \t]*#[ \t]*include/ {
            h = $0
            sub(/^[ \t]*#[ \t]*include[ \t]*/, "", h)
            if (match(h, /^(<[^>]*>|"[^"]*")/)) print FILENAME ":" FNR, substr(h, 1, RLENGTH)
            else print FILENAME ":" FNR, h
        }' /dev/null)
}

check_includes() {
    includes "$1" | awk -v layers="$LAYERS" '
        BEGIN {
            n = split(layers, row, "\n")
            for (i = 1; i <= n; i++) {
                m = split(row[i], w, " ")
                if (!m) continue
                known[w[1]] = 1
                for (j = 2; j <= m; j++) may[w[1] "|" w[j]] = 1
            }
        }
        # What a file or a header belongs to: its directory, or "run" for those in src/ itself.
        function unit(p) { return p ~ /\// ? substr(p, 1, index(p, "/") - 1) : "run" }
        $2 ~ /^"/ && $2 !~ /pb-c\.h"$/ {
            h = substr($2, 2, length($2) - 2)
            if (h == "config.h") next
            f = $1
            sub(/^src\//, "", f)
            from = unit(f)
            to = unit(h)
            if (!(from in known)) { print $1 ": directory " from " has no row in the table of layers"; next }
            if (from == to || ((from "|" to) in may) || ((from "|" h) in may)) next
            print $1 ": " from " includes " $2 ", which its layer may not see"
        }'
}

check_doors() {
    includes "$1" | awk -v doors="$DOORS" -v libc="$LIBC" '
        BEGIN {
            n = split(doors, row, "\n")
            for (i = 1; i <= n; i++) {
                m = split(row[i], w, " ")
                if (m < 2) continue
                door[++n_doors] = w[1]
                for (j = 2; j <= m; j++) open[w[1]] = open[w[1]] " " w[j]
            }
            n_libc = split(libc, own, /[ \n]+/)
        }
        # Does text match the pattern, which may have one * at its start or end?
        function like(text, pat,    l) {
            l = length(pat) - 1
            if (pat ~ /\*$/) return substr(text, 1, l) == substr(pat, 1, l)
            if (pat ~ /^\*/) return substr(text, length(text) - l + 1) == substr(pat, 2)
            return text == pat
        }
        {
            f = $1
            sub(/^src\//, "", f)
            sub(/:.*/, "", f)
            bare = substr($2, 2, length($2) - 2)
            for (d = 1; d <= n_doors; d++) {
                if (!like($2, door[d]) && !like(bare, door[d])) continue
                m = split(open[door[d]], w, " ")
                for (j = 1; j <= m; j++) if (like(f, w[j])) next
                print $1 ": includes " $2 ", allowed only in" open[door[d]]
                next
            }
            if ($2 ~ /^"/) next
            for (i = 1; i <= n_libc; i++) if (like(bare, own[i]) || bare == own[i] ".h") next
            print $1 ": includes " $2 ", a foreign header without a door: name the one file that may"
        }'
}

check_length() {
    {
        sources "$1" src tests bench
        (cd "$1" && find dml tests bench -name '*.sh' -o -name dml -type f) 2>/dev/null
    } | while read -r f; do
        n=$(wc -l <"$1/$f")
        # The head comment ends at the first line of code; a hundred lines is a generous head.
        if [ "$n" -gt "$MAX_LINES" ] && ! head -n 100 "$1/$f" | grep -q '^[ #/*]*Length: .'; then
            echo "$f: $n lines, over $MAX_LINES, and no line 'Length: reason' in its head comment"
        fi
    done
}

check_exits() {
    sources "$1" src | (cd "$1" && xargs awk -v mains="$MAINS" '
        FNR == 1 { comment = 0; f = FILENAME; sub(/^src\//, "", f); is_main = index(" " mains " ", " " f " ") }
        !is_main {
            line = $0
            out = ""
            # Strings first, as far as one line tells, then comments.
            while (line != "") {
                if (comment) {
                    if (!(p = index(line, "*/"))) break
                    line = substr(line, p + 2)
                    comment = 0
                } else if (match(line, /\/\*|\/\/|"([^"\\]|\\.)*"/)) {
                    out = out substr(line, 1, RSTART - 1)
                    mark = substr(line, RSTART, 2)
                    line = substr(line, RSTART + RLENGTH)
                    if (mark == "//") break
                    if (mark == "/*") comment = 1
                } else {
                    out = out line
                    break
                }
            }
            if (match(out, /(^|[^A-Za-z0-9_])(exit|_exit|_Exit|quick_exit|abort)[ \t]*\(/))
                print FILENAME ":" FNR ": ends the process: only a main may"
        }' /dev/null)
}

check_listed() {
    sources "$1" src tests bench | while read -r f; do
        list=$(dirname "$f")/Makefile.inc
        # A test program without _SOURCES is its own .c file: its name without .c stands for it.
        grep -qsE "(^|[[:space:]])(${f%.*}\\.${f##*.}|\\\$\\(srcdir\\)/$f)([[:space:]]|\$)" "$1/$list" ||
            { [ "${f##*.}" = c ] && grep -qsE "(^|[[:space:]])${f%.c}([[:space:]]|\$)" "$1/$list"; } ||
            echo "$f: not in $list"
    done
}

n=0
failed=0
point() { # point STATUS TEXT
    n=$((n + 1))
    if [ "$1" -eq 0 ]; then
        echo "ok $n - $2"
    else
        echo "not ok $n - $2"
        failed=1
    fi
}

[ -d "$tree/src" ] || {
    echo "Bail out! $tree has no src/"
    exit 99
}
for rule in includes doors length exits listed; do
    "check_$rule" "$tree" >"$tmp/found" 2>&1
    if [ -s "$tmp/found" ]; then
        point 1 "$rule"
        sed 's/^/# /' "$tmp/found"
    else
        point 0 "$rule"
    fi
done

# plant RULE FILE TEXT: adds FILE to a fresh copy of the tree and expects the rule to name it.
plant() {
    rm -rf "$tmp/copy"
    mkdir "$tmp/copy"
    (cd "$tree" && tar cf - $(ls -d dml src tests bench 2>/dev/null)) | (cd "$tmp/copy" && tar xf -)
    chmod -R u+w "$tmp/copy"
    printf '%b' "$3" >>"$tmp/copy/$2"
    "check_$1" "$tmp/copy" >"$tmp/found" 2>&1
    if grep -q "^$2:" "$tmp/found"; then
        point 0 "planted and found: $1 in $2"
    else
        point 1 "planted and found: $1 in $2"
        echo "# expected a line that starts with $2, got:"
        sed 's/^/#   /' "$tmp/found"
    fi
}

plant includes src/base/planted.h '#include "nn/vec.h"\n'
plant includes src/paradigm/planted.c '#include "rpc/server.h"\n'
plant includes src/nn/planted.c '#include "planted.h"\n'
plant includes src/run.c '#include "master/planted.h"\n'
plant doors src/paradigm/planted.c '#include <grpc/grpc.h>\n'
plant doors src/rpc/planted.c '#include "proto/dml.pb-c.h"\n'
plant doors src/base/planted.c '#include <curl/curl.h>\n'
plant length src/base/planted.c "$(awk 'BEGIN { for (i = 0; i < 501; i++) printf "int x%d;\\n", i }')"
plant exits src/base/planted.c 'void f(void)\n{\n    exit(1);\n}\n'
plant listed src/base/planted.c 'int x;\n'

# And what the rules must not complain about.
rm -rf "$tmp/copy"
mkdir -p "$tmp/copy/src/base"
{
    printf '/* exit(1) in a comment,\n   abort() too\n   Length: one table */\n'
    printf '#include <stdio.h>\n#include "base/err.h"\nconst char *s = "exit(3)"; // exit(2)\n'
    awk 'BEGIN { for (i = 0; i < 600; i++) print "int y" i ";" }'
} >"$tmp/copy/src/base/fine.c"
echo 'libdml_la_SOURCES += src/base/fine.c' >"$tmp/copy/src/base/Makefile.inc"
for rule in includes doors length exits listed; do
    "check_$rule" "$tmp/copy"
done >"$tmp/fine" 2>&1
[ ! -s "$tmp/fine" ]
point $? "clean code passes"
sed 's/^/# /' "$tmp/fine"

echo "1..$n"
exit "$failed"
