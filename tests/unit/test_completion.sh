#!/bin/bash
# The completion of bash knows what `dmlctl --help` and `dmlctl COMMAND --help` know, and nothing
# else. What it uses of the package bash-completion is stood in for here, so that nothing need be
# installed.
set -u
LC_ALL=C.UTF-8
export LC_ALL
ctl=${top_builddir:-.}/dmlctl
src=${top_srcdir:-.}
n=0
failed=0

_init_completion()
{
    words=("${COMP_WORDS[@]}") cword=$COMP_CWORD
    cur=${words[cword]} prev=${words[cword - 1]}
}
_filedir() { COMPREPLY+=("FILE${1:+.$1}"); }
dmlctl()
{
    if [ "$1" = models ]; then
        "$ctl" models --model-dir "$src/etc/models"
    else
        "$ctl" "$@"
    fi
}
. "$src/etc/dmlctl.bash-completion" || exit 99

# complete_words WORD…: what may stand for the last word, sorted, on one line.
complete_words()
{
    COMP_WORDS=(dmlctl "$@") COMP_CWORD=$#
    COMPREPLY=()
    _dmlctl
    printf '%s\n' "${COMPREPLY[@]}" | sort | paste -s -d ' '
}

# is WHAT GOT WANTED
is()
{
    n=$((n + 1))
    if [ "$2" = "$3" ]; then
        echo "ok $n - $1"
    else
        failed=1
        echo "not ok $n - $1"
        echo "# got    $2"
        echo "# wanted $3"
    fi
}

sorted() { sort | paste -s -d ' '; }
# The options of a help text, all or those with a value.
options() { sed -n 's/^  \(--[a-z-]*\) .*/\1/p' | sorted; }
valued() { sed -n 's/^  \(--[a-z-]*\) [A-Z]\{1,\} .*/\1/p'; }

help=$("$ctl" --help)
commands=$(echo "$help" | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p')
is "commands" "$(complete_words '')" "$(echo "$commands" | sorted)"
is "at least those of the first version" "$(($(echo "$commands" | wc -l) >= 12))" 1
is "options of every command" "$(complete_words --)" "$(echo "$help" | options)"
for command in $commands; do
    help=$("$ctl" "$command" --help)
    is "options of $command" "$(complete_words "$command" --)" "$(echo "$help" | options)"
    for option in $(echo "$help" | valued); do
        case " $(complete_words "$command" "$option" '') " in
        *" run "* | *" --"*) is "$command $option wants a value" "$(complete_words "$command" "$option" '')" "" ;;
        *) is "$command $option wants a value" "" "" ;;
        esac
        # Its value is no argument: behind it, the first argument is still to come.
        is "and one only" "$(complete_words "$command" "$option" value '')" \
            "$(complete_words "$command" '')"
    done
done
is "--master's value is no command" "$(complete_words --master host ru)" run
is "part of an option" "$(complete_words bench --op)" --optimizer
is "optimizers" "$(complete_words bench --optimizer ada)" 'adam adamw'
is "models, without the table's title" "$(complete_words models mo | sed 's/ *FILE.model *//')" mobilenetv2
is "a model and files" "$(complete_words bench --model cifar)" 'FILE.model cifar-cnn'
is "test cases" "$(complete_words run '')" FILE.conf
is "evaluate: a file" "$(complete_words evaluate '')" FILE.dmlmodel
is "then a data set" "$(complete_words evaluate my.dmlmodel cif)" cifar10
echo "1..$n"
exit $failed
