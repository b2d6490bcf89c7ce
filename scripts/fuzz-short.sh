#!/bin/sh
# Runs every fuzz target of the module for a short time, one after the other: Go fuzzes one target of one package at a
# time. The first failure ends the run; its input is then in the package's testdata.
# Inputs are hardly made smaller: that may take a minute each, and a short run would do nothing else.
# A target that came no further than the inputs it has is given a hundred more, however long they take: one that tried nothing
# new is a failure.
set -eu

time=${1:-10s}
go=${GO:-go}
out=$(mktemp)
trap 'rm -f "$out"' EXIT

# number prints the last number in the output behind a text.
number() { sed -n "s|.*$1\\([0-9][0-9]*\\).*|\\1|p" "$out" | tail -1; }

# run fuzzes a target and sets seeds and execs: what it began with, and what it tried besides.
run() { # package target time
    if ! $go test -run '^$' -fuzz "^$2\$" -fuzztime "$3" -fuzzminimizetime 10x -timeout 10m "$1" >"$out" 2>&1; then
        cat "$out"
        exit 1
    fi
    seeds=$(number 'coverage: [0-9]*/')
    execs=$(number 'execs: ')
    seeds=${seeds:-0}
    execs=$((${execs:-0} - seeds))
}

targets=0
all=0
for pkg in $($go list ./...); do
    dir=$($go list -f '{{.Dir}}' "$pkg")
    for target in $(cat "$dir"/*_test.go 2>/dev/null | sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p'); do
        run "$pkg" "$target" "$time"
        if [ "$execs" -le 0 ]; then
            run "$pkg" "$target" "$((seeds + 100))x"
        fi
        echo "fuzz $pkg $target: $execs inputs beside the $seeds it had"
        if [ "$execs" -le 0 ]; then
            cat "$out"
            echo "$pkg $target tried no new input" >&2
            exit 1
        fi
        targets=$((targets + 1))
        all=$((all + execs))
    done
done
echo "$targets targets, $all inputs"
if [ "$targets" -eq 0 ]; then
    echo "no fuzz target was found" >&2
    exit 1
fi
