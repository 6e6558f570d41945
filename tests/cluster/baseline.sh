#!/bin/bash
# Does compiled code keep to what every processor of an architecture has?
#
# usage: baseline.sh arm64|armhf FILE…     ELF files that are not stripped
#
# What objdump reads out of the files is given back to the assembler, told to know the baseline alone:
# ARMv8.0-A without optional extensions for arm64 (a Pi 3 or 4 has neither dot products, nor half
# floats, nor atomics of v8.1, nor AES), ARMv7-A with VFPv3-D16 for armhf (Debian's; no NEON). What it
# then refuses is printed, and the exit status is 1. So there is no list of forbidden instructions
# here that the next processor would make incomplete.
#
# None of our ARM code is chosen at run time (nn/kernel.c: NEON is in the baseline of arm64, and armhf
# does without); once some is, its functions have to be left out as libgcc's are below.
# Wants the binutils of that architecture.
set -eu
export LC_ALL=C
arch=${1:?architecture}
shift
work=$(mktemp -d "${TMPDIR:-/tmp}/dml-baseline.XXXXXX")
trap 'rm -rf "$work"' EXIT

# A refusal names what was missing. Other complaints are of the round trip (a branch to an address that
# is nowhere, data among the code), and say nothing about the processor.
refusal='selected (processor|FPU) does not support|D register out of range for selected VFP'

case $arch in
arm64)
    prefix=aarch64-linux-gnu-
    modes=("-march=armv8-a")
    planted='.arch armv8.5-a+dotprod+fp16
        sdot v0.4s, v1.16b, v2.16b
        fadd v0.8h, v1.8h, v2.8h
        casal x0, x1, [x2]
        .arch_extension crypto
        aese v0.16b, v1.16b'
    n_planted=4
    ;;
armhf)
    prefix=arm-linux-gnueabihf-
    # Thumb code and ARM code cannot be told apart in text: refused is what both refuse.
    modes=("-march=armv7-a -mfpu=vfpv3-d16 -mthumb -mimplicit-it=always"
        "-march=armv7-a -mfpu=vfpv3-d16")
    planted='.syntax unified
        .thumb
        .arch armv8-a
        .fpu neon-vfpv4
        vadd.f32 q0, q1, q2
        vfma.f32 s0, s1, s2
        vadd.f64 d0, d1, d17
        sdiv r0, r1, r2'
    n_planted=4
    ;;
*)
    echo "baseline.sh: nothing is known about '$arch'" >&2
    exit 64
    ;;
esac

# Every instruction once, one a line. Symbols and comments say nothing, and literal pools are no code.
# libgcc brings atomics of both kinds in functions of these names, and asks the kernel which to take.
instructions() { # FILE…
    "${prefix}objdump" -d --no-show-raw-insn "$@" | awk -F '\t' '
        /^[0-9a-f]+ <.*>:$/ { chosen = $0 ~ /<__aarch64_(cas|swp|ldadd|ldclr|ldeor|ldset)[0-9]+_/ }
        !chosen && NF >= 2 && $1 ~ /^ *[0-9a-f]+:/ {
            t = $2
            for (i = 3; i <= NF; i++) t = t " " $i
            gsub(/<[^>]*>/, "", t)
            sub(/[ \t]*(\/\/|;|@).*/, "", t)
            if (t !~ /^(\.|udf|<)/) print t
        }' | sort -u
}

refused() { # FILE…: the instructions that the baseline does not have
    local mode n=0
    instructions "$@" >"$work/code"
    for mode in "${modes[@]}"; do
        n=$((n + 1))
        { [ "$arch" = arm64 ] || echo '.syntax unified'; cat "$work/code"; } >"$work/code.s"
        # shellcheck disable=SC2086
        "${prefix}as" $mode -o /dev/null "$work/code.s" 2>&1 | grep -E "$refusal" |
            sed 's/^[^:]*:\([0-9]*\):.*/\1/' | sort -u >"$work/refused.$n" || true
    done
    # Line numbers, sorted as text both times.
    comm -12 "$work/refused.1" "$work/refused.$n" | while read -r line; do
        sed -n "${line}p" "$work/code.s"
    done
}

# First something that must be found.
printf '%s\n' "$planted" | "${prefix}as" -o "$work/planted.o" -
found=$(refused "$work/planted.o" | wc -l)
if [ "$found" -ne $n_planted ]; then
    echo "baseline.sh: found $found of $n_planted planted instructions: this check does not work" >&2
    exit 2
fi

bad=$(refused "$@")
echo "$# files, $(wc -l <"$work/code") different instructions, $(grep -c . <<<"$bad" || true) beyond the baseline"
[ -z "$bad" ] || { printf '%s\n' "$bad"; exit 1; }
