#!/bin/bash
# Unit tests on a processor with AVX-512, which bochs.sh emulates. TAP, a point for each program;
# the last line, `N passed, N failed`, counts the points of the programs.
#
# usage: avx512.sh [TEST…]      in the build folder, with the tests built; no root
#
# Without names: those of the kernels at every level, and of whole models at AVX-512 as far as they
# take minutes (test_gradient takes forty times as long as test_kernel). DML_CLUSTER_DIR and
# DML_BOCHS_LIMIT as bochs.sh has them; without what that wants, skipped with a sentence.
set -u
export LC_ALL=C
here=$(dirname "$(readlink -f "$0")")
[ $# -gt 0 ] || set -- test_kernel test_channels test_patch test_winograd test_winograd_3 test_smooth test_loss \
    test_team test_golden_layers test_model test_golden

tmp=$(mktemp -d "${TMPDIR:-/tmp}/dml-avx512.XXXXXX") || exit 99
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM HUP
printf 'tests/unit/%s\n' "$@" | "$here/bochs.sh" 2>"$tmp/err" |
    awk -v wanted=$# -v totals="$tmp/totals" '
    function point(good, text) {
        printf "%sok %d - %s\n", good ? "" : "not ", ++n, text
        fflush()
        return !good
    }
    /^=== end/ { ended = 1 }
    /^=== tests/ { name = $NF; p = f = s = 0; planned = -1; told = 0 }
    # Failed points with what they say, and the last words of the kernel.
    /^(not )?ok / { told = $1 == "not" }
    /^not ok / { f++ }
    /^ok .*# SKIP/ { s++; print "# " $0 }
    /^ok / && !/# SKIP/ { p++ }
    /^1\.\./ { planned = substr($0, 4) + 0 }
    /^# level / { level = $3 }
    told || /^# (\[|booted)/ { sub(/^# /, ""); print "#   " $0; fflush() }
    /^--- / {
        bad = point($2 == 0 && f == 0 && p > 0 && p + f + s == planned,
            sprintf("%s: %d of %d points, status %d", name, p, p + f + s, $2))
        passed += p
        failed += f + (bad && !f) # died, or did not come to its end
        programs++
    }
    END {
        if (!n && !ended) exit # bochs.sh says why
        failed += point(ended && programs == wanted, programs + 0 " of " wanted " have run")
        if (level != "") failed += point(level == "avx512", "the engine runs level " level)
        print "1.." n
        printf "%d passed, %d failed\n", passed, failed >totals
    }'
status=${PIPESTATUS[1]}
if [ "$status" = 77 ]; then
    echo "1..0 # SKIP $(tail -n 1 "$tmp/err" | sed 's/^bochs.sh: //')"
    exit 0
fi
sed 's/^/# /' "$tmp/err"
[ -s "$tmp/totals" ] || echo "0 passed, 1 failed" >"$tmp/totals"
cat "$tmp/totals"
[ "$status" = 0 ] && grep -q ' 0 failed$' "$tmp/totals"
