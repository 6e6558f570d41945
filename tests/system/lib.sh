# What the system tests share: real daemons on the loopback, in a folder that is gone afterwards.
#
# A test is a POSIX shell script that sources this file, states what differs from the defaults,
# breaks something, and looks at what comes out, in TAP. Nothing is asserted about time: every wait
# is for something to happen, and bounded only so that a bug cannot hang `make check`.
#
#     . "$top_srcdir/tests/system/lib.sh"
#     master_start; worker_start w1; worker_start w2
#     testcase 'rounds = 3'
#     ok "a run of three rounds" dmlctl run "$work/testcase.conf"
#     done_testing
set -u
: "${top_srcdir:=$(cd "$(dirname "$0")/../.." && pwd)}" "${top_builddir:=$PWD}"
LC_ALL=C
OPENBLAS_NUM_THREADS=1
export LC_ALL OPENBLAS_NUM_THREADS

PATIENCE=${DML_TEST_PATIENCE:-60} # seconds until a wait is given up
work=$(mktemp -d "${TMPDIR:-/tmp}/dml-system.XXXXXX") || exit 99
pids=
n_tests=0
n_failed=0

# Plugins lie where libtool puts them before they are installed.
mkdir -p "$work/models" "$work/results" "$work/plugins" "$work/cache" || exit 99
for so in "$top_builddir"/.libs/*.so "$top_builddir"/src/plugins/.libs/*.so; do
    case $so in
    */libdml*) ;;
    *) [ ! -e "$so" ] || ln -s "$so" "$work/plugins/" ;;
    esac
done

cat >"$work/models/tiny.model" <<'MODEL'
name  tiny
input 6 1 1
linear 16
relu
linear 3
loss cross-entropy
MODEL

clean_up() {
    trap '' INT TERM HUP
    for p in $pids; do kill -CONT "$p" 2>/dev/null; kill "$p" 2>/dev/null; done
    for p in $pids; do
        i=0
        while kill -0 "$p" 2>/dev/null && [ $i -lt 50 ]; do
            sleep 0.1
            i=$((i + 1))
        done
        kill -9 "$p" 2>/dev/null
        wait "$p" 2>/dev/null
    done
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 99' INT TERM HUP

# ---- TAP ---------------------------------------------------------------------------------------

# ok WHAT COMMAND…: passes when the command succeeds; its output is shown when it does not.
ok() {
    what=$1
    shift
    n_tests=$((n_tests + 1))
    if "$@" >"$work/ok.out" 2>&1; then
        echo "ok $n_tests - $what"
        return 0
    fi
    echo "not ok $n_tests - $what"
    n_failed=$((n_failed + 1))
    echo "# failed: $*"
    tail -n 20 "$work/ok.out" | sed 's/^/#   /'
    return 1
}

# is WHAT GOT WANTED
is() {
    n_tests=$((n_tests + 1))
    if [ "$2" = "$3" ]; then
        echo "ok $n_tests - $1"
        return 0
    fi
    echo "not ok $n_tests - $1"
    n_failed=$((n_failed + 1))
    echo "# got \"$2\", wanted \"$3\""
    return 1
}

note() { echo "# $*"; }

# Nothing that follows can work.
bail_out() {
    tail -n 10 "$work"/*.log | sed 's/^/# /'
    echo "Bail out! $*"
    exit 99
}

skip_all() {
    echo "1..0 # SKIP $*"
    exit 0
}

done_testing() {
    if [ $n_failed -gt 0 ]; then
        for log in "$work"/*.log; do
            echo "# --- end of $(basename "$log")"
            tail -n 25 "$log" | cut -c 1-400 | sed 's/^/#   /'
        done
    fi
    echo "1..$n_tests"
    [ $n_failed -eq 0 ] || exit 1
    exit 0
}

# ---- waiting -----------------------------------------------------------------------------------

# until_true COMMAND…: asks ten times a second until the command succeeds or patience ends.
until_true() {
    i=0
    while ! "$@" >/dev/null 2>&1; do
        i=$((i + 1))
        if [ $i -ge $((PATIENCE * 10)) ]; then
            echo "gave up after $PATIENCE s: $*"
            return 1
        fi
        sleep 0.1
    done
}

logged() { grep -q -- "$2" "$work/$1.log"; } # NAME PATTERN
count() { grep -c -- "$2" "$work/$1.log" || true; } # NAME PATTERN
gone() { ! kill -0 "$1" 2>/dev/null; }
running() { kill -0 "$1" 2>/dev/null; }

# ends_with CODE PID: waits for a process of ours to end, and looks at its exit code.
ends_with() {
    until_true gone_or_zombie "$2" || return 1
    code=0
    wait "$2" 2>/dev/null || code=$?
    [ $code -eq "$1" ] || { echo "ended with $code"; false; }
}

gone_or_zombie() {
    state=$(sed 's/.*) //; s/ .*//' "/proc/$1/stat" 2>/dev/null) || return 0
    [ "${state:-Z}" = Z ]
}

# ---- daemons -----------------------------------------------------------------------------------

# A port of the loopback where nobody listens. /proc/net/tcp lists those in use, in hex.
free_port() {
    cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v seed="$$$(date +%N)" '
        { n = split($2, a, ":"); used[a[n]] = 1 }
        END {
            srand(seed % 2147483647)
            do p = 20000 + int(rand() * 12000); while (sprintf("%04X", p) in used)
            print p
        }'
}

# start NAME COMMAND…: in the background, output appended to $work/NAME.log, pid in $pid.
start() {
    log=$work/$1.log
    shift
    "$@" >>"$log" 2>&1 </dev/null &
    pid=$!
    pids="$pids $pid"
}

MASTER="$top_builddir/dmlmasterd"
WORKER="$top_builddir/dmlworkerd"

# master_start OPTION…: $master is its pid, $port its port. The same port again after a restart.
master_start() {
    : "${port:=$(free_port)}"
    before=$(count master master-started 2>/dev/null)
    : >>"$work/master.conf"
    start master ${WRAP:-} "$MASTER" --config "$work/master.conf" --listen "127.0.0.1:$port" \
        --control-socket "$work/control.sock" --results-dir "$work/results" \
        --model-dir "$work/models" --plugin-dir "$work/plugins" --testcase "" --log json "$@"
    master=$pid
    until_true started "${before:-0}"
    logged_more "${before:-0}" || bail_out "the master does not start"
}

logged_more() { more_than master master-started "$1"; }
started() { logged_more "$1" || gone_or_zombie "$master"; }

more_than() { [ "$(count "$1" "$2")" -gt "$3" ]; }

# worker_start NAME OPTION…: $pid is its pid.
worker_start() {
    name=$1
    shift
    : >>"$work/worker.conf"
    start "$name" ${WRAP:-} "$WORKER" --config "$work/worker.conf" --master "127.0.0.1:$port" \
        --id "$name" --cache-dir "$work/cache/$name" --model-dir "$work/models" \
        --plugin-dir "$work/plugins" --backoff-max 1 --log json "$@"
}

dmlctl() { "$top_builddir/dmlctl" "$@"; }
ctl() { dmlctl "$@" --master "unix:$work/control.sock"; }

# run_start FILE: dmlctl run in the background; $pid is its pid.
run_start() {
    start run "$top_builddir/dmlctl" run --master "unix:$work/control.sock" "$1"
}

# joined N: N workers are there.
joined() { ctl status --json | grep -q "\"workers\": *$1[,}]"; }

# testcase NODES LINE…: writes $work/testcase.conf. A line beginning with '[' opens a section;
# others go to the section last opened, or to [train].
testcase() {
    nodes=$1
    shift
    {
        printf '[testcase]\nname = t\nnodes = %s\n' "$nodes"
        printf '[data]\ndataset = synth\nsynth-samples = %s\nsynth-features = 6\n' "${samples:-1200}"
        printf 'synth-classes = 3\n[model]\nname = tiny\n'
        printf '[parallel]\nparadigm = federated\n[strategy]\nname = fedavg\n'
        printf '[train]\nlearning-rate = 0.05\nseed = 7\n'
        printf '%s\n' "$@"
    } >"$work/testcase.conf"
}
