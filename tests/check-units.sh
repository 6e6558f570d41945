#!/bin/sh
# The units' sandbox: systemd's own measure of what a broken-in daemon could reach, 0 (nothing) to
# 10 (everything). Above the limit the test fails; the check is shown to fail on a bare unit.
set -u
limit=12 # tenths

n=0
failed=0
ok() { # STATUS TEXT
    n=$((n + 1))
    if [ "$1" -eq 0 ]; then
        echo "ok $n - $2"
    else
        echo "not ok $n - $2"
        failed=1
    fi
}

if ! command -v systemd-analyze >/dev/null 2>&1; then
    echo "1..0 # SKIP systemd-analyze is not here: apt install systemd"
    exit 0
fi
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT

measure() { # UNIT-FILE
    systemd-analyze security --offline=true --no-pager --threshold="$limit" "$1" >"$tmp/out" 2>&1
}

for name in dmlmasterd dmlworkerd; do
    unit=${top_builddir:-.}/etc/$name.service
    measure "$unit"
    status=$?
    ok $status "$name: exposure at most 1.2"
    sed -n 's/^.*Overall/# Overall/p' "$tmp/out"
    [ $status -eq 0 ] || sed 's/^/# /' "$tmp/out"
    grep -q '^ExecStart=/.*/'"$name\$" "$unit"
    ok $? "$name: knows where its program was installed"
    ! grep -qE '^(SocketBindDeny|IPAddressDeny|PrivateNetwork)=' "$unit" &&
        grep -qE '^RestrictAddressFamilies=.*AF_INET .*AF_INET6' "$unit"
    ok $? "$name: may listen, and be called from other machines"
done

printf '[Service]\nExecStart=/bin/true\n' >"$tmp/bare.service"
if measure "$tmp/bare.service"; then
    ok 1 "a bare unit is over the limit"
else
    ok 0 "a bare unit is over the limit"
fi
echo "1..$n"
exit $failed
