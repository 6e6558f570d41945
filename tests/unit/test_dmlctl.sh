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
