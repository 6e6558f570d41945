# The story itself: what is typed on the machines, in order, and what must come of it.
# Sourced by check-cluster when the machines are up. Waits are for something to happen; the only
# times asserted are those that systemd itself enforces.
# shellcheck shell=bash disable=SC2154

round_id=44899f261d5a473d9dc03b54c1ce70f3
lost_id=1f289564ec6246a883c5474027add0c1
saved_id=525c87c667c04b51af7b7304de366016
new_version=$(dpkg-deb -f "${debs[0]}" Version)
testcase=/etc/dml/testcase.conf

property() { inside "$1" systemctl show --property="$3" --value "$2"; } # MACHINE UNIT PROPERTY
has_property() { [ "$(property "$1" "$2" "$3")" = "$4" ]; }
status_has() { property "$1" "$2" StatusText | grep -qE -- "$3"; }
memory() { # MACHINE FIELD: of its worker, in MB
    inside "$1" cat "/proc/$(property "$1" dmlworkerd MainPID)/status" |
        awk -v f="$2:" '$1 == f { printf "%.1f", $2 / 1024 }'
}
version_of() { inside "$1" dpkg-query -W -f '${Version}' "$2"; }

worker_there() { inside master dmlctl workers | grep -q "^$1 "; }

# What the master's journal says from the mark on. (By time, which all machines here share:
# journalctl --after-cursor drops the first entry that matches.)
mark() { marked=@$(date +%s.%6N); }
journal() { inside master journalctl -u dmlmasterd --since="$marked" "$@"; }
told() { journal -o cat "$@" | grep -q .; } # MATCH…

# ---- the version before, edited, upgraded ------------------------------------------------------

ok "apt update on the master" typed master apt update
ok "apt update on worker1" typed worker1 apt update
ok "the previous version of the master" \
    typed master "apt install -y dml-master=0.0.9-1 dml-common=0.0.9-1 && apt-mark auto dml-common"
ok "the previous version of the worker" \
    typed worker1 "apt install -y dml-worker=0.0.9-1 dml-common=0.0.9-1 && apt-mark auto dml-common"
ok "its master is named" \
    typed worker1 "sed -i 's/^#* *master = .*/master = master/' /etc/dml/dmlworkerd.conf"
ok "the worker takes it" typed worker1 systemctl restart dmlworkerd
before=$(property worker1 dmlworkerd MainPID)
ok "the test case is edited" typed master \
    "sed -i -e 's/^nodes = .*/nodes = 1:1 3:3/' \
        -e 's/^dataset = .*/dataset = synth-images\nsynth-features = 3072\nsynth-classes = 10\nsynth-samples = 3000/' \
        -e 's/^name = grey-cnn/name = cifar-cnn/' -e 's/^rounds = .*/rounds = 4/' $testcase"
edited=$(inside master sha256sum "$testcase")

# Where the file of the new version and the edited one differ, Enter keeps the edited one.
enter="-o Dpkg::Options::=--force-confold"
ok "apt upgrade on the master" typed master apt upgrade -y $enter
ok "apt upgrade on the worker" typed worker1 apt upgrade -y $enter
is "the master is new" "$(version_of master dml-master)" "$new_version"
is "the worker is new" "$(version_of worker1 dml-worker)" "$new_version"
is "the edited test case is as it was" "$(inside master sha256sum "$testcase")" "$edited"
ok "the master's settings, never edited, are the new ones" \
    refused inside master grep -q 'as of 0.0.9' /etc/dml/dmlmasterd.conf
ok "the worker's, edited, are kept" inside worker1 grep -qx 'master = master' /etc/dml/dmlworkerd.conf
ok "with the new ones beside them" inside worker1 test -f /etc/dml/dmlworkerd.conf.dpkg-dist
ok "the worker runs" has_property worker1 dmlworkerd ActiveState active
ok "and it is another process than before" refused has_property worker1 dmlworkerd MainPID "$before"
ok "of the old library nothing is left" \
    refused inside worker1 sh -c 'ls /usr/lib/*/dml/libdml-0.0.9.so'
lap "upgraded"

# ---- the user's story --------------------------------------------------------------------------

inside worker2 find / -xdev -not -type d | sort >"$run/before-install"
for name in worker2 worker3; do
    ok "apt update on $name" typed $name apt update
    ok "apt install dml-worker on $name" typed $name apt install -y dml-worker
    size=$(sed -n 's/^After this operation, \(.*\) of additional disk space.*/\1/p' "$run/ok.out")
    ok "it runs" has_property $name dmlworkerd ActiveState active
    ok "and will after a boot" inside $name systemctl is-enabled dmlworkerd
    ok "it says that it seeks a master" until_true status_has $name dmlworkerd 'trying to reach'
    ok "its master is named" typed $name \
        "printf '[worker]\nmaster = master\n' | tee /etc/dml/dmlworkerd.conf.d/master.conf"
    ok "the worker takes it" typed $name systemctl restart dmlworkerd
done
echo "# dml-worker with all it needs beyond the base system: ${size:-unknown}"

ok "a worker whose master is not there goes on trying" \
    until_true status_has worker2 dmlworkerd 'trying to reach master'
ok "and stays active" has_property worker2 dmlworkerd ActiveState active
like "systemctl status says so" "$(typed worker2 systemctl status dmlworkerd)" \
    'Status: "trying to reach master'

ok "the master was not started by its installation" has_property master dmlmasterd ActiveState inactive
ok "dmlctl check" typed master "dmlctl check $testcase"
mark
ok "systemctl start dmlmasterd" typed master systemctl start dmlmasterd
lap "started"
ok "the test case runs to its end" until_true told MESSAGE_ID=$saved_id
lap "trained"
# Results are saved after every run; the last of two is over when the master is idle again.
ok "and the master is idle, with three workers" until_true status_has master dmlmasterd '^idle, 3 workers'

journal -o json MESSAGE_ID=$round_id >"$run/rounds.json"
typed master "journalctl -u dmlmasterd -o json-pretty MESSAGE_ID=$round_id -n 1" >/dev/null
ok "the journal has every round with its times, by MESSAGE_ID" python3 - "$run/rounds.json" <<'PYTHON'
import json, sys
rounds = [json.loads(line) for line in open(sys.argv[1])]
print(len(rounds), "rounds")
assert len(rounds) == 8, "wanted 4 of each of the two cases"
for r in rounds:
    print({k: r[k] for k in sorted(r) if k.startswith("DML_")})
    t, w, o = (int(r["DML_%s_US" % x]) for x in "TWO")
    assert t > 0 and w > 0 and t == w + o
    assert r["DML_ROUNDS"] == "4"
assert sorted(r["DML_PARTICIPANTS"] for r in rounds) == ["1"] * 4 + ["3"] * 4
assert [r["DML_ROUND"] for r in rounds] == ["1", "2", "3", "4"] * 2
PYTHON
like "journalctl -x explains and says what to do" \
    "$(typed master journalctl -x -u dmlmasterd --no-pager)" 'dmlctl report. prints'
results=$(typed master dmlctl report)
like "dmlctl report has a row of one worker" "$results" '1:1 '
like "and one of three" "$results" '3:3 '
inside master cat /var/lib/dml/results/testcase.json >"$run/results.json"
ok "results as JSON" python3 - "$run/results.json" <<'PYTHON'
import json, sys
r = json.load(open(sys.argv[1]))
print(json.dumps(r)[:2000])
cases = r["cases"]
assert [c["label"] for c in cases] == ["1:1", "3:3"]
for c in cases:
    assert c["t_s"] > 0 and abs(c["t_s"] - c["w_s"] - c["o_s"]) < 1e-5 * max(1, c["t_s"])
PYTHON
is "and as CSV, a line for each round and a head" \
    "$(inside master cat /var/lib/dml/results/testcase.csv | wc -l)" 9
like "dmlctl workers lists the three" "$(typed master dmlctl workers)" 'worker3'
echo "# resident memory of an idle worker: $(memory worker3 VmRSS) MB"
lap "the user's story"

# ---- what must not break it --------------------------------------------------------------------

# A long experiment, and a master that gives a silent worker up after 12 s instead of 30: two beats of
# the workers and a little.
ok "a long experiment" typed master "systemctl stop dmlmasterd
    sed -i -e 's/^nodes = .*/nodes = 3:3/' -e 's/^rounds = .*/rounds = 1000000/' $testcase
    printf '[cluster]\nround-deadline = 10\nquorum = 0.3\n' >>$testcase
    printf '[master]\nbeat-timeout = 12 s\n' >/etc/dml/dmlmasterd.conf.d/test.conf
    systemctl start dmlmasterd"
mark
ok "rounds of three" until_true told MESSAGE_ID=$round_id DML_PARTICIPANTS=3
until_true status_has master dmlmasterd left # it is told twice a second
like "systemctl status: round, workers, time left" "$(typed master systemctl status dmlmasterd)" \
    'Status: "testcase: round [0-9]+/1000000, 3 workers, [0-9.]+ (s|min|h) left"'
echo "# resident memory of a worker that trains the CNN: $(memory worker3 VmRSS) MB," \
    "at most $(memory worker3 VmHWM) MB"

mark
killed=$(property worker2 dmlworkerd MainPID)
ok "kill -9 of worker2's daemon" typed worker2 "kill -9 $killed"
ok "the master tells" until_true told MESSAGE_ID=$lost_id DML_WORKER=worker2
ok "systemd starts it again" until_true has_property worker2 dmlworkerd NRestarts 1
ok "the worker runs" until_true has_property worker2 dmlworkerd ActiveState active
mark
ok "and takes part again" until_true told MESSAGE_ID=$round_id DML_PARTICIPANTS=3
like "journalctl -x: the remedy of a lost worker" \
    "$(typed master journalctl -x -u dmlmasterd MESSAGE_ID=$lost_id)" 'weak power supplies'
lap "killed and restarted"

mark
cable worker3 down # or the kernel, which lives on, would say goodbye for it
ok "worker3's plug is pulled" machine_cut worker3
ok "the master gives it up" until_true told MESSAGE_ID=$lost_id DML_WORKER=worker3
mark
ok "the rounds go on with two" until_true told MESSAGE_ID=$round_id DML_PARTICIPANTS=2
cable worker3 up
ok "worker3 boots" machine_up worker3
ok "its worker runs by itself" until_true has_property worker3 dmlworkerd ActiveState active
mark
ok "and takes part again" until_true told MESSAGE_ID=$round_id DML_PARTICIPANTS=3
lap "cut and booted"

ok "systemctl stop in the middle of a round" typed master systemctl stop dmlmasterd
is "ends well" "$(property master dmlmasterd Result)" success
ok "the workers try to reach it again" until_true status_has worker1 dmlworkerd 'trying'

ok "a slip in the test case" typed master "sed -i 's/^rounds = /ruonds = /' $testcase"
ok "makes the start fail" refused typed master systemctl start dmlmasterd
is "at once, and for good" "$(property master dmlmasterd ActiveState)" failed
status=$(typed master systemctl status dmlmasterd)
like "systemctl status has file and line" "$status" 'testcase\.conf:[0-9]+:.*ruonds'
like "and the right word" "$status" 'rounds'
ok "corrected" typed master "sed -i 's/^ruonds = /rounds = /' $testcase"
mark
ok "it starts" typed master systemctl start dmlmasterd
ok "and trains" until_true told MESSAGE_ID=$round_id DML_PARTICIPANTS=3
lap "stopped, mistaken, corrected"

# ---- flash, plug in, joined --------------------------------------------------------------------

# What is on the card: a system with cloud-init, and the file of doc/ with its two places filled in.
flash() {
    local root
    root=$(root_of pi)
    machine_new pi 10.77.0.21 && offer pi &&
        ip netns exec "$(namespace pi)" chroot "$root" env DEBIAN_FRONTEND=noninteractive \
            sh -c 'apt-get -q update && apt-get -q -y --no-install-recommends install cloud-init' || return
    rm "$root/etc/apt/sources.list.d/dml.sources"
    mkdir -p "$root/var/lib/cloud/seed/nocloud"
    echo 'instance-id: pi' >"$root/var/lib/cloud/seed/nocloud/meta-data"
    awk -v sources="$run/www/dml/dml-$suite.sources" '
        skip && /^$/ { skip = 0 }
        !skip { print }
        /path: .*dml.sources/ { getline; print; skip = 1
            while ((getline line <sources) > 0) print "      " line }
    ' "$top/doc/cloud-init/user-data.yaml" | sed 's/pi-master\.local/master/' \
        >"$root/var/lib/cloud/seed/nocloud/user-data"
    # Names, users, keys and languages are the image's business, and this is no image of a Pi.
    printf '%s\n' 'datasource_list: [NoCloud]' 'network: {config: disabled}' \
        'cloud_init_modules: [write-files]' 'cloud_config_modules: [runcmd]' \
        'cloud_final_modules: [scripts-user]' >"$root/etc/cloud/cloud.cfg.d/99-test.cfg"
    # Its clock is the host's, and right.
    echo 'f /run/systemd/timesync/synchronized' >"$root/etc/tmpfiles.d/test.conf"
}
ok "dmlctl stop" typed master dmlctl stop
ok "leaves the master idle" until_true status_has master dmlmasterd '^idle'
ok "a card is written" flash
ok "the Pi boots for the first time" machine_up pi
ok "and joins" until_true worker_there pi
like "dmlctl workers lists it" "$(typed master dmlctl workers)" '^pi .*10\.77\.0\.21'
like "cloud-init is content" "$(typed pi cloud-init status --wait --long)" 'status: done'
mark
ok "systemctl restart" typed master systemctl restart dmlmasterd
ok "and rounds of three again" until_true told MESSAGE_ID=$round_id DML_PARTICIPANTS=3
lap "flashed, plugged in, joined"

# ---- nothing is left ---------------------------------------------------------------------------

ok "apt purge dml-worker" typed worker2 "apt purge -y dml-worker && apt autoremove -y --purge"
ok "apt purge dml-master, in the middle of a round" typed master \
    "apt purge -y dml-master && apt autoremove -y --purge"
for name in worker2 master; do
    is "nothing of dml runs on $name" \
        "$(inside $name sh -c 'cat /proc/[0-9]*/comm 2>/dev/null' | grep ^dml)" ''
    ok "no user dml" refused inside $name getent passwd dml
    ok "no group dml" refused inside $name getent group dml
    is "no unit" "$(inside $name systemctl list-unit-files --no-legend 'dml*')" ''
    ok "no entry in the catalog" refused inside $name sh -c "journalctl --list-catalog $round_id | grep ."
    is "no package" "$(inside $name dpkg-query -W -f '${Package} ' 'dml*' 2>/dev/null)" ''
done
# What Debian itself keeps: its logs, caches, lists, and copies of the file before the last change.
inside worker2 find / -xdev -not -type d | sort >"$run/after-purge"
is "no file that was not there before" "$(comm -13 "$run/before-install" "$run/after-purge" |
    grep -vE '^/var/(log|cache|lib/(apt|dpkg|systemd))/|^/(proc|sys|run|tmp)/|^/etc/.*-$')" ''
is "no folder" "$(inside worker2 find / -xdev -type d -name '*dml*' -not -path '/proc/*')" ''
lap "purged"
ok "a machine shuts down in order" machine_off worker1
