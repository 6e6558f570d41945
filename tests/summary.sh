#!/bin/sh
# Counts what the tests of a build directory have said, from automake's logs (TAP).
#
# usage: summary.sh BUILD-DIR
#
# Prints one line with the totals, every skip with its reason, every failing point and the logs of
# the programs that failed; BUILD-DIR/check.totals gets "passed failed skipped" for scripts.
# A skip that gives no reason counts as failed. Exit status: 0 when nothing failed, else 1.
set -u
LC_ALL=C
export LC_ALL
cd "$1" || exit 1

trs=$(find tests -name '*.trs' 2>/dev/null | sort)
if [ -z "$trs" ]; then
    echo "no test has run in $1"
    echo "0 1 0" >check.totals
    exit 1
fi

# In a log the driver's lines stand between those of the test: "PASS: tests/unit/test_x 3 - text".
# A skip reads "SKIP: NAME 3 - text # SKIP reason", or "SKIP: NAME - reason" for a whole program.
logs=$(echo "$trs" | sed 's/\.trs$/.log/')
# shellcheck disable=SC2086 # one word per log
awk -v n_programs="$(echo "$trs" | wc -l)" '
    FNR == 1 { own = FILENAME; sub(/\.log$/, "", own); seen[own] = 0 }
    {
        kind = $1
        if (kind !~ /^(PASS|FAIL|XPASS|XFAIL|ERROR|SKIP):$/ || $2 != own) next
        seen[own]++
        text = substr($0, length(kind) + 2)
        if (kind == "PASS:" || kind == "XFAIL:") passed++
        else if (kind != "SKIP:") { failed++; bad[failed] = kind " " text; logs[own] = 1 }
        else {
            reason = text
            if (!sub(/.*# *SKIP */, "", reason) && !sub(/^[^ ]+ - /, "", reason)) reason = ""
            if (reason ~ /^ *$/) { failed++; bad[failed] = "SKIP without a reason: " text }
            else { skipped++; skip[skipped] = text }
        }
    }
    END {
        # A program that said nothing at all is a failure, not a success.
        for (own in seen) if (!seen[own]) { failed++; bad[failed] = "no result: " own; logs[own] = 1 }
        printf "%d test programs: %d passed, %d failed, %d skipped\n", n_programs, passed, failed, skipped
        for (i = 1; i <= skipped; i++) print "  skipped: " skip[i]
        for (i = 1; i <= failed; i++) print "  " bad[i]
        for (own in logs) {
            print "--- the end of " own ".log"
            fflush()
            system("tail -n 60 " own ".log")
        }
        printf "%d %d %d\n", passed, failed, skipped >"check.totals"
        exit failed != 0
    }' $logs
