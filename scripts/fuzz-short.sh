#!/bin/sh
# Runs every fuzz target of the module for a short time, one after the other: Go fuzzes one target of one package at a
# time. The first failure ends the run; its input is then in the package's testdata.
# Inputs are hardly made smaller: that may take a minute each, and a short run would do nothing else.
set -eu

time=${1:-10s}
go=${GO:-go}

for pkg in $($go list ./...); do
    dir=$($go list -f '{{.Dir}}' "$pkg")
    for target in $(cat "$dir"/*_test.go 2>/dev/null | sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p'); do
        echo "fuzz $pkg $target"
        $go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 10x -timeout 10m "$pkg"
    done
done
