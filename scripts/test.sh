#!/bin/bash
# All tests with the race detector, and a short run of failure injection. The end-to-end tests of cmd/holdfast mostly wait, for leases to run out among other things, so
# they run beside the other packages and not after them, in two processes: those with pools, one pool at a time, and the rest.
# Usage: GO=go TESTP=2 TIMEOUT=40m test.sh
set -u
cd "$(dirname "$0")/.."
GO=${GO:-go} TESTP=${TESTP:-2} TIMEOUT=${TIMEOUT:-40m}
export CGO_ENABLED=1
mkdir -p bin
log=$(mktemp -d bin/test.XXXXXX)
trap 'rm -rf "$log"' EXIT

# lane NAME COMMAND... runs a command in the background; its output is shown when it ends.
lane() {
	local name=$1
	shift
	(
		"$@" >"$log/$name" 2>&1
		echo $? >"$log/$name.status"
	) &
}

alone='TestSanlock_|TestLeaseDump_'
e2e() { (cd cmd/holdfast && ../../bin/holdfast.test -test.timeout "$TIMEOUT" "$@"); }

"$GO" test -race -c -o bin/holdfast.test ./cmd/holdfast || exit 1
lane pools e2e -test.skip "$alone"
lane sanlock e2e -test.run "$alone"
# shellcheck disable=SC2046 # package names have no spaces
"$GO" test -race -p "$TESTP" -timeout "$TIMEOUT" $("$GO" list ./... | grep -v '/cmd/holdfast$')
status=$?
# Failure injection, while the tests of pools still wait for this and that.
make --no-print-directory jepsen-short || status=1
wait
for name in pools sanlock; do
	got=$(cat "$log/$name.status" 2>/dev/null || echo 1)
	if [ "$got" = 0 ]; then
		echo "ok  	cmd/holdfast ($name)"
	else
		cat "$log/$name"
		echo "FAIL	cmd/holdfast ($name)"
		status=1
	fi
done
exit $status
