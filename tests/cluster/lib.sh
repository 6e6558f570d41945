# What the cluster test stands on: machines with a systemd of their own, the network between them,
# and a book of all that was made.
#
# A machine is a folder laid over the base system (overlayfs), a network namespace with one cable to
# a bridge, and systemd-nspawn that boots it. The bridge has a namespace too, so nothing of this can
# be reached from outside, and nothing outside from it. Pulling the plug is kill -9 of the machine's
# PID 1; what was on its disk stays, and machine_up boots it again.
#
# Whatever would outlive this script is written into the book: undo_all takes it back, last first,
# by what was recorded and never by a name that somebody else might use.
# shellcheck shell=bash

: "${run:?the folder of this run}" "${transcript:?a file}" "${base:?the base system}"
now_ms() { date +%s%3N; }
begin_ms=$(now_ms)

# ---- the book ----------------------------------------------------------------------------------

# $run is the folder of this run. A line of $run/book is a kind and what it takes to undo it.
book() { printf '%s\n' "$*" >>"$run/book"; }

# A number alone may have been given to another process since: a process is its number and the time
# it was started at. A dead one that nobody has waited for is gone too.
started_at() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 != "Z" { print $20 }'; }
is_process() { [ -n "$2" ] && [ "$(started_at "$1")" = "$2" ]; }
book_process() { # PID SIGNAL…: ended by these, one after the other; 0 only waits
    local pid=$1
    shift
    book process "$pid" "$(started_at "$pid")" "$@"
}

end_process() { # PID STARTED SIGNAL…
    local pid=$1 started=$2 i
    shift 2
    for signal in "$@"; do
        is_process "$pid" "$started" || return 0
        kill -s "$signal" "$pid" 2>/dev/null
        for ((i = 0; i < 30; i++)); do
            is_process "$pid" "$started" || return 0
            sleep 0.1
        done
    done
}

undo() {
    local kind=$1 i pid
    shift
    case $kind in
    process) end_process "$@" ;;
    mount) ! mountpoint -q "$1" || umount "$1" 2>/dev/null || umount -l "$1" ;;
    cgroup) [ ! -d "$1" ] || find "$1" -depth -type d -exec rmdir {} \; 2>/dev/null ;;
    netns)
        [ -e "/run/netns/$1" ] || return 0
        # All that is still inside was started inside.
        for ((i = 0; i < 50; i++)); do
            pid=$(ip netns pids "$1" 2>/dev/null)
            [ -n "$pid" ] || break
            # shellcheck disable=SC2086
            kill -KILL $pid 2>/dev/null
            sleep 0.1
        done
        ip netns del "$1"
        ;;
    esac
}

undo_all() { # FOLDER of a run
    [ ! -f "$1/book" ] || tac "$1/book" | while read -r line; do
        # shellcheck disable=SC2086
        undo $line
    done
    rm -rf --one-file-system "$1"
}

# ---- TAP ---------------------------------------------------------------------------------------

n_tests=0 n_failed=0

verdict() { # STATUS WHAT
    n_tests=$((n_tests + 1))
    if [ "$1" -eq 0 ]; then
        echo "ok $n_tests - $2"
    else
        echo "not ok $n_tests - $2"
        n_failed=$((n_failed + 1))
    fi
    return "$1"
}

# ok WHAT COMMAND…: passes when the command succeeds; its output is shown when it does not.
ok() {
    local what=$1 status=0
    shift
    "$@" >"$run/ok.out" 2>&1 || status=$?
    verdict $((status != 0)) "$what" && return
    echo "# failed ($status): $*"
    tail -n 25 "$run/ok.out" | cut -c 1-300 | sed 's/^/#   /'
}

# like WHAT TEXT PATTERN: an extended regular expression
like() {
    grep -qE -- "$3" <<<"$2"
    verdict $? "$1" && return
    echo "# wanted something like: $3"
    printf '%s\n' "$2" | tail -n 25 | cut -c 1-300 | sed 's/^/#   /'
}

is() { # WHAT GOT WANTED
    [ "$2" = "$3" ]
    verdict $? "$1" || echo "# got \"$2\", wanted \"$3\""
}

refused() { ! "$@"; }

# until_true COMMAND…: asks five times a second until it succeeds; given up after $patience seconds.
patience=60
until_true() {
    local i
    for ((i = 0; i < patience * 5; i++)); do
        ! "$@" >/dev/null 2>&1 || return 0
        sleep 0.2
    done
    echo "gave up after $patience s: $*"
    return 1
}

lap() { # WHAT: how far we are, in the output and in the transcript
    local ms=$(($(now_ms) - begin_ms))
    printf '# [%d.%d s] %s\n' $((ms / 1000)) $((ms % 1000 / 100)) "$*" | tee -a "$transcript"
}

# ---- network -----------------------------------------------------------------------------------

# Names of namespaces carry this script's number: two runs do not meet.
namespace() { echo "dml$$-$1"; }
switch_address=10.77.0.254

network_up() {
    local switch
    switch=$(namespace switch)
    book netns "$switch"
    ip netns add "$switch" &&
        ip -n "$switch" link set lo up &&
        ip -n "$switch" link add br0 type bridge &&
        ip -n "$switch" address add "$switch_address/24" dev br0 &&
        ip -n "$switch" link set br0 up
}

cable() { # MACHINE up|down: of an unplugged one the machine sees NO-CARRIER
    ip -n "$(namespace switch)" link set "to-$1" "$2"
}

# serve FOLDER: a web server on the bridge, as a master or any other machine may run one
serve() {
    ip netns exec "$(namespace switch)" python3 -m http.server --directory "$1" \
        --bind "$switch_address" 80 >"$run/http.log" 2>&1 </dev/null &
    book_process $! TERM KILL
    until_true ip netns exec "$(namespace switch)" \
        python3 -c "import socket; socket.create_connection(('$switch_address', 80))"
}

# ---- machines ----------------------------------------------------------------------------------

root_of() { echo "$run/machines/$1/root"; }
pid1_of() { cat "$run/machines/$1/pid1" 2>/dev/null; }

# machine_new NAME ADDRESS: plugged in, not booted. One at a time: ip netns add is not atomic.
machine_new() {
    local name=$1 folder=$run/machines/$1 ns switch
    ns=$(namespace "$name") switch=$(namespace switch)
    mkdir -p "$folder/upper" "$folder/work" "$folder/root" || return
    book netns "$ns"
    ip netns add "$ns" &&
        ip -n "$ns" link set lo up &&
        ip -n "$switch" link add "to-$name" type veth peer name host0 netns "$ns" &&
        ip -n "$switch" link set "to-$name" master br0 up &&
        ip -n "$ns" address add "$2/24" dev host0 &&
        ip -n "$ns" link set host0 up || return
    book mount "$folder/root"
    mount -t overlay "$ns" -o "lowerdir=$base,upperdir=$folder/upper,workdir=$folder/work" \
        "$folder/root" || return
    echo "$name" >"$folder/root/etc/hostname"
    cp "$run/hosts" "$folder/root/etc/hosts"
}

# A host without systemd has nobody who would give each machine a place in the control groups: it
# gets one here, in every hierarchy there is. With systemd, nspawn asks it for a scope.
join_cgroups() { # NAME: of the process that calls
    local group
    while read -r mount; do
        group=$mount/$(namespace "$1")
        mkdir -p "$group" 2>/dev/null || continue
        if [ -e "$group/cpuset.cpus" ] && [ -z "$(cat "$group/cpuset.cpus")" ]; then
            cat "$mount/cpuset.cpus" >"$group/cpuset.cpus"
            cat "$mount/cpuset.mems" >"$group/cpuset.mems"
        fi 2>/dev/null
        echo "$BASHPID" >"$group/cgroup.procs" 2>/dev/null || true
    done < <(awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/mounts)
}

host_has_systemd() { [ -d /run/systemd/system ]; }

# machine_up NAME: boots it and waits until it is up. Several may be booted at once.
machine_up() {
    local name=$1 folder=$run/machines/$1 nspawn child i keep=
    rm -f "$folder/pid1"
    host_has_systemd || keep=--keep-unit
    (
        if [ -n "$keep" ]; then
            while read -r mount; do
                book cgroup "$mount/$(namespace "$name")"
            done < <(awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/mounts)
            join_cgroups "$name"
        fi
        # The unified hierarchy is what every supported release boots with.
        exec setsid env -i PATH="$PATH" SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 \
            systemd-nspawn --quiet --directory="$folder/root" --machine="$(namespace "$name")" \
            --hostname="$name" --register=no $keep \
            --network-namespace-path="/run/netns/$(namespace "$name")" \
            --resolv-conf=off --timezone=off --link-journal=no --console=pipe --boot
    ) </dev/null >>"$folder/console.log" 2>&1 &
    nspawn=$!
    book_process $nspawn 0 KILL # ends by itself when its machine has
    echo "$nspawn $(started_at $nspawn)" >"$folder/nspawn"
    for ((i = 0; i < 200; i++)); do
        for child in $(ps -o pid= --ppid $nspawn); do
            [ "$(cat "/proc/$child/comm" 2>/dev/null)" != systemd ] || echo "$child" >"$folder/pid1"
        done
        [ ! -s "$folder/pid1" ] || break
        if ! kill -0 $nspawn 2>/dev/null; then
            tail -n 10 "$folder/console.log"
            return 1
        fi
        sleep 0.05
    done
    book_process "$(pid1_of "$name")" KILL
    until_true test -S "/proc/$(pid1_of "$name")/root/run/dbus/system_bus_socket" || return
    inside "$name" systemctl is-system-running --wait
}

# inside NAME COMMAND…: as root on the machine, in all its namespaces and with nothing of our
# environment.
inside() {
    local name=$1
    shift
    nsenter --target "$(pid1_of "$name")" --all env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        LANG=C.UTF-8 HOME=/root TERM=dumb DEBIAN_FRONTEND=noninteractive SYSTEMD_PAGER=cat \
        "$@" </dev/null
}

# typed NAME WORDS: what a person would type on that machine, by its shell; kept in the transcript.
typed() {
    local name=$1 status=0 t0
    shift
    t0=$(now_ms)
    inside "$name" sh -c "$*" >"$run/typed.out" 2>&1 || status=$?
    {
        printf '\n%s# %s\n' "$name" "$*"
        cut -c 1-200 "$run/typed.out"
        printf '(exit %d after %d ms)\n' $status $(($(now_ms) - t0))
    } >>"$transcript"
    cat "$run/typed.out"
    return $status
}

wait_gone() { # NAME: until nspawn has ended
    local pid started
    read -r pid started <"$run/machines/$1/nspawn"
    wait "$pid" 2>/dev/null # its status is the machine's
    until_true refused is_process "$pid" "$started"
    rm -f "$run/machines/$1/pid1"
}

machine_cut() { # NAME: the plug is pulled
    kill -KILL "$(pid1_of "$1")" && wait_gone "$1"
}

machine_off() { # NAME: shut down in order
    inside "$1" systemctl poweroff >/dev/null 2>&1
    wait_gone "$1"
}
