#!/bin/sh
# The command line of dmlctl without a master: mistakes, help, exit codes, and the commands that
# need nobody.
set -u
LC_ALL=C.UTF-8
export LC_ALL
unset DML_MASTER
ctl=${top_builddir:-.}/dmlctl
src=${top_srcdir:-.}
tmp=$(mktemp -d "${TMPDIR:-/tmp}/dml-ctl.XXXXXX") || exit 99
trap 'rm -rf "$tmp"' EXIT
n=0
failed=0

# check STATUS TEXT WORD…: runs dmlctl WORD…; its exit status is STATUS and its output, of both
# kinds, has TEXT.
check() {
    want=$1 text=$2
    shift 2
    n=$((n + 1))
    out=$("$ctl" "$@" 2>&1)
    got=$?
    case $out in
    *"$text"*) found=1 ;;
    *) found=0 ;;
    esac
    if [ "$got" -eq "$want" ] && [ $found -eq 1 ]; then
        echo "ok $n - dmlctl $* → $want, $text"
    else
        failed=1
        echo "not ok $n - dmlctl $*"
        echo "# status $got, wanted $want; wanted '$text' in:"
        echo "$out" | sed 's/^/#   /'
    fi
}

check 2 'a command is missing'
check 0 'Usage: dmlctl' --help
check 0 'Usage: dmlctl' -h
check 0 'dmlctl 0' --version
check 2 "no command 'modles'; did you mean 'models'?" modles
check 2 "no command 'qqqqqqqq'." qqqqqqqq
check 2 'no option --jsno; did you mean --json?' models --jsno
check 2 'no option --model-dri; did you mean --model-dir?' models --model-dri x
check 2 'options have two dashes' models -x
check 2 '--json takes no value' models --json=1
check 2 '--model-dir needs a value' models --model-dir
check 2 "'c' is one argument too many" models b c
check 0 'cifar-cnn' models --model-dir "$src/etc/models"
check 0 '62006' models --model-dir="$src/etc/models" cifar-cnn
check 0 '"parameters": 62006' --json models --model-dir "$src/etc/models" cifar-cnn
check 0 '62006' models "$src/etc/models/cifar-cnn.model"
check 1 'cifar-cnn' models --model-dir "$src/etc/models" cifar-cn
check 1 'cannot read the models' models --model-dir "$tmp/none"
check 0 'cifar10' datasets
check 0 '"name": "csv"' datasets --json
mkdir "$tmp/plugins"
ln -s "$(cd "${top_builddir:-.}" && pwd)/src/plugins/.libs/fedavg.so" "$tmp/plugins/fedavg.so"
check 0 'McMahan' strategies --plugin-dir "$tmp/plugins"
check 0 '"name": "fedavg"' strategies --plugin-dir "$tmp/plugins" --json
check 1 'there are no strategies in' strategies --plugin-dir "$tmp/none"
check 2 'something is missing: dmlctl evaluate MODEL DATASET' evaluate x
check 1 "$tmp/none" evaluate "$tmp/none" cifar10

# Who may not open the socket is told which group may.
mkdir "$tmp/closed" && chmod 755 "$tmp" || exit 99
real=$ctl group=$(id -gn)
if [ "$(id -u)" = 0 ]; then # who may open anything
    group=daemon
    chgrp daemon "$tmp/closed" && chmod 750 "$tmp/closed"
    printf '#!/bin/sh\nexec setpriv --reuid=65534 --regid=65534 --clear-groups "%s" "$@"\n' "$ctl" >"$tmp/as"
    chmod 755 "$tmp/as"
    ctl=$tmp/as
else
    chmod 0 "$tmp/closed"
fi
if "$ctl" --version >"$tmp/said" 2>&1; then
    check 1 "a member of group $group (sudo adduser \$USER $group" --master "unix:$tmp/closed/x.sock" status
else
    n=$((n + 1))
    echo "ok $n - the group that may # SKIP another user cannot run $real: $(head -n 1 "$tmp/said")"
fi
ctl=$real
chmod 700 "$tmp/closed"

# Nobody listens there: exit status 3, a sentence that names the target.
none=unix:$tmp/none.sock
for command in status workers watch stop report; do
    check 3 "$tmp/none.sock" --master "$none" "$command"
done
n=$((n + 1))
DML_MASTER=$none "$ctl" status >"$tmp/out" 2>&1
if [ $? -eq 3 ] && grep -q none.sock "$tmp/out"; then
    echo "ok $n - DML_MASTER names the master"
else
    failed=1
    echo "not ok $n - DML_MASTER names the master"
    sed 's/^/# /' "$tmp/out"
fi

# Speed: it runs, and what it says is JSON; nothing about the figures.
printf 'name quick\ninput 3 8 8\nconv 4 kernel 3\nrelu\nmax-pool 2\nlinear 3\n' >"$tmp/quick.model"
bench="bench --model $tmp/quick.model --seconds 0.02"
check 0 'samples/s' $bench
check 0 'backward' $bench --layers --threads 2
check 0 '"samples_per_s": ' $bench --json
check 0 '"layer": "conv 4 kernel 3, relu, max-pool 2"' $bench --json --layers --batch 5 --optimizer adam
check 0 '"infer": true' $bench --json --infer --batch 3 --threads 2
check 0 '"recompute": true' $bench --json --recompute
printf 'name many\ninput 4\nlinear 70000\n' >"$tmp/many.model"
check 1 'many tells 70000 classes apart: data can have at most 65536' bench --model "$tmp/many.model"
printf 'name large\ninput 16777216\nlinear 2\n' >"$tmp/large.model"
check 1 'samples of large are possible' bench --model "$tmp/large.model" --batch 33
check 2 'about learning' $bench --recompute --infer
check 0 'softmax' bench --model-dir "$src/etc/models" --seconds 0.01 --batch 2
check 2 'a whole number from 1 to 65536' $bench --batch 0
check 2 'must be above 0' bench --seconds 1x
check 2 'must be sgd, adam or adamw' $bench --optimizer sdg
check 1 "$tmp/none.model" bench --model "$tmp/none.model"
if command -v python3 >/dev/null; then
    n=$((n + 1))
    if "$ctl" $bench --json --layers | python3 -c 'import json, sys; json.load(sys.stdin)'; then
        echo "ok $n - bench --json is JSON"
    else
        failed=1
        echo "not ok $n - bench --json is JSON"
    fi
fi
n=$((n + 1))
if DML_KERNEL=base "$ctl" $bench --json | grep -Eq '"level": "(base|neon)"'; then
    echo "ok $n - DML_KERNEL limits the level"
else
    failed=1
    echo "not ok $n - DML_KERNEL limits the level"
fi

# Results in a file need no master.
results=$src/tests/fuzz/corpus/results
check 0 'cifar10-nodes: cifar-cnn on cifar10' report "$results/three-cases.json"
check 0 'accuracy%' report "$results/three-cases.json"
check 0 'name,label,nodes' report --csv "$results/three-cases.json"
check 0 '"w_share_sd":' report --json "$results/three-cases.json"
check 0 '4 plots are in' report --plots "$tmp/plots/deep" "$results/three-cases.json"
check 2 'needs the name of a folder' report --plots '' "$results/three-cases.json"
check 2 '--csv and --json are two answers' report --csv --json "$results/three-cases.json"
check 1 'no node of these results has figures' report --csv --nodes "$results/three-cases.json"
check 0 'No node has figures of its own' report --nodes "$results/three-cases.json"
n=$((n + 1))
out=$(ulimit -f 0 && "$ctl" report --plots "$tmp/limited" "$results/three-cases.json" 2>&1)
got=$?
case $got:$out in
1:*'File too large'*) echo "ok $n - plots beyond the limit of a file's size are an error" ;;
*)
    failed=1
    echo "not ok $n - plots beyond the limit of a file's size are an error"
    echo "# status $got, wanted 1; said: $out"
    ;;
esac
check 1 'not a file of results' report "$results/empty.json"
check 1 'not valid JSON' report "$results/torn.json"
check 1 "$tmp/none.json" report "$tmp/none.json"
n=$((n + 1))
if [ "$(ls "$tmp/plots/deep")" = "cifar10-nodes-break-even.svg
cifar10-nodes-curves.svg
cifar10-nodes-speedup.svg
cifar10-nodes-times.svg" ]; then
    echo "ok $n - the plots are there"
else
    failed=1
    echo "not ok $n - the plots are there"
    ls "$tmp/plots/deep" | sed 's/^/# /'
fi

# full WORD…: dmlctl WORD… onto a full disk fails and says so.
full() {
    n=$((n + 1))
    out=$("$ctl" "$@" 2>&1 >/dev/full)
    got=$?
    case $got:$out in
    1:*'cannot write the answer'*) echo "ok $n - dmlctl $* on a full disk" ;;
    *)
        failed=1
        echo "not ok $n - dmlctl $* on a full disk"
        echo "# status $got, wanted 1; said: $out"
        ;;
    esac
}
if [ -c /dev/full ]; then
    full report --csv "$results/three-cases.json"
    full report --json "$results/three-cases.json"
    full report "$results/three-cases.json"
    full report --help
    full --help
    full --version
fi

# Test cases.
tiny=$tmp/tiny.conf
cat >"$tmp/tiny.model" <<END
name tiny
input 4
linear 3
loss cross-entropy
END
cat >"$tiny" <<END
[testcase]
name = tiny
nodes = 1:1 2:2
repeats = 2
[data]
dataset = synth
synth-samples = 300
synth-features = 4
synth-classes = 3
[model]
name = $tmp/tiny.model
[train]
rounds = 3
END
plugins="--plugin-dir $tmp/plugins"
check 0 'learning-rate' check --keys
check 0 'learning-rate' check --help-keys
check 2 'something is missing' check
check 2 'there is no JSON of it' check --keys --json
check 2 "without it 'extra' is checked" check --keys extra
printf '\357\273\277' | cat - "$src/etc/models/softmax.model" >"$tmp/marked.model"
check 0 'linear' models "$tmp/marked.model"
check 0 'tiny: 2 cases, 4 runs' check $plugins "$tiny"
check 0 '"worker_bytes":' check $plugins --json "$tiny"
sed 's/rounds/ruonds/' "$tiny" >"$tmp/slip.conf"
check 1 "slip.conf:13:" check $plugins "$tmp/slip.conf"
check 1 "rounds" check $plugins "$tmp/slip.conf"
check 1 "$tmp/none.conf" check "$tmp/none.conf"

# A model that cannot fit its data set, before anything runs.
sed 's/synth-features = 4/synth-features = 5/' "$tiny" >"$tmp/wide.conf"
check 1 'takes samples of 4×1×1, the data set has 5×1×1 (dataset = synth)' check $plugins "$tmp/wide.conf"
sed 's/synth-classes = 3/synth-classes = 4/' "$tiny" >"$tmp/many.conf"
check 1 'has 3 outputs, the data set has 4 classes' run --local 2 $plugins "$tmp/many.conf"
fits() { # DATASET LINE
    printf '[model]\nname = %s\n[data]\ndataset = %s\n%s\n' "$tmp/tiny.model" "$@" >"$tmp/fits.conf"
}
fits cifar10 ''
check 1 'the data set has 3×32×32 (dataset = cifar10)' check $plugins "$tmp/fits.conf"
fits mnist ''
check 1 'the data set has 1×28×28 (dataset = mnist)' check $plugins "$tmp/fits.conf"
fits text 'path = x'
check 1 'the data set has 64×1×1 (dataset = text)' check $plugins "$tmp/fits.conf"
fits synth-images 'synth-features = 12'
check 1 'the data set has 3×2×2 (dataset = synth-images)' check $plugins "$tmp/fits.conf"
fits csv 'path = x
features = a b c'
check 1 'the data set has 3×1×1 (dataset = csv)' check $plugins "$tmp/fits.conf"
fits csv 'path = x
features = a b c d'
check 0 '1 case' check $plugins "$tmp/fits.conf"
fits idx 'path = x'
check 0 '1 case' check $plugins "$tmp/fits.conf"

# Runs inside the process.
check 2 'a whole number from 1 to 255' run --local x "$tiny"
check 2 'except with --local' run --save x "$tiny"
check 1 'case 2:2 wants 2 workers, --local gives 1' run --local 1 $plugins "$tiny"
check 1 'slip.conf:13:' run --local 2 $plugins "$tmp/slip.conf"
check 3 "$tmp/none.sock" run --master "$none" "$tiny"
fits csv "path = $tmp/none.csv"
printf '[testcase]\nrepeats = 4\n' >>"$tmp/fits.conf"
check 1 '3 more runs failed for the same reason' run --local 2 $plugins --results-dir "$tmp/fits" \
    "$tmp/fits.conf"
local="run --local 2 $plugins --results-dir $tmp/results"
check 0 "Results: $tmp/results/tiny.json" $local "$tiny"
check 0 'tiny 2:2, run 2/2 ended' $local "$tiny"
check 0 'round 3/3: 2 of 2 workers' $local "$tiny"
check 0 '"name": "tiny"' $local --json --quiet "$tiny"
check 0 'mean ± sd of 2 runs' report "$tmp/results/tiny.json"

# The model that was trained is judged as the run judged it.
n=$((n + 1))
"$ctl" $local --quiet --json --save "$tmp/last.dmlmodel" "$tiny" >"$tmp/run.json" 2>/dev/null
"$ctl" evaluate --json "$tmp/last.dmlmodel" synth synth-samples=300 synth-features=4 \
    synth-classes=3 >"$tmp/eval.json"
want=$(sed -n 's/^ *"accuracy": \([0-9.]*\),$/\1/p' "$tmp/run.json" | tail -n 1)
got=$(sed -n 's/^ *"accuracy": \([0-9.]*\),$/\1/p' "$tmp/eval.json")
if [ -n "$want" ] && [ "$want" = "$got" ]; then
    echo "ok $n - evaluate gives the run's accuracy, $want"
else
    failed=1
    echo "not ok $n - evaluate gives the run's accuracy"
    echo "# got '$got', wanted '$want'"
fi
check 0 'class' evaluate "$tmp/last.dmlmodel" synth synth-samples=300 synth-features=4 synth-classes=3
check 1 'did you mean synth-features' evaluate "$tmp/last.dmlmodel" synth synth-feature=4
check 1 'is not KEY=VALUE' evaluate "$tmp/last.dmlmodel" synth 4
check 1 '4' evaluate "$tmp/last.dmlmodel" synth synth-features=5
printf 'a,b,c,d,class\n' >"$tmp/large.csv"
for i in 1 2 3 4 5 6 7 8 9; do
    echo "3e38,-3e38,3e38,-3e38,class-$((i % 3))" >>"$tmp/large.csv"
done
sed 's/^rounds.*/rounds = 1\nlearning-rate = 1000/' "$tiny" >"$tmp/steep.conf"
check 0 'tiny 2:2, run 2/2 ended' $local --save "$tmp/steep.dmlmodel" "$tmp/steep.conf"
check 1 'is not a number: they hold values too large for tiny' evaluate "$tmp/steep.dmlmodel" csv \
    path="$tmp/large.csv" label=class test-fraction=0.5

# Drop-ins count.
mkdir "$tiny.d"
printf '[testcase]\nrepeats = 1\n' >"$tiny.d/once.conf"
check 0 'tiny: 2 cases, 2 runs' check $plugins "$tiny"

# Ctrl-C: what was measured is printed, and the exit status says that it was not all.
sed 's/^rounds.*/rounds = 1000000/' "$tiny" >"$tmp/long.conf"
"$ctl" $local "$tmp/long.conf" >"$tmp/out" 2>"$tmp/err" &
pid=$!
i=0
while ! grep -q 'round 2/' "$tmp/err" && [ $i -lt 300 ]; do
    sleep 0.1
    i=$((i + 1))
done
kill -TERM $pid
wait $pid
got=$?
n=$((n + 1))
if [ $got -eq 1 ] && grep -q '1:1, run 1 failed: stopped' "$tmp/out" &&
    grep -q 'dmlctl: stopped' "$tmp/err"; then
    echo "ok $n - a signal ends a run in order"
else
    failed=1
    echo "not ok $n - a signal ends a run in order"
    echo "# status $got, wanted 1"
    tail -n 3 "$tmp/err" | sed 's/^/# /'
    sed 's/^/# /' "$tmp/out"
fi
for command in $("$ctl" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\).*/\1/p'); do
    check 0 "Usage: dmlctl $command" "$command" --help
done

# A reader that went away is a failed write.
if [ -w /dev/full ]; then
    n=$((n + 1))
    "$ctl" --help >/dev/full 2>/dev/null
    "$ctl" datasets >/dev/full 2>/dev/null
    if [ $? -eq 1 ]; then
        echo "ok $n - an answer that cannot be written is a failure"
    else
        failed=1
        echo "not ok $n - an answer that cannot be written is a failure"
    fi
fi
echo "1..$n"
exit $failed
