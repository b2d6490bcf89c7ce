#!/bin/sh
# Looks for the judges: the real programs whose formats Holdfast reads and writes, and what their tests need. As root
# on Debian the missing ones are installed. Elsewhere the script says which checks will be left out; with CI=true that
# is a failure, because a check that was left out must not look like one that passed.
#
#   scripts/install-judges.sh [demo|test]     demo: only what `make demo` asks; test (the default): everything
set -eu

what=${1:-test}

# program:package:what is left out without it
judges='
lvm:lvm2:vgck and lvs on everything written to the LUN
sanlock:sanlock:sanlock direct dump of host ids and leases
qemu-img:qemu-utils:qemu-img check and info of qcow2 volumes
'
test_judges='
qemu-nbd:qemu-utils:the NBD client against qemu-nbd
nbdkit:nbdkit:the NBD client against nbdkit
qemu-system-x86_64:qemu-system-x86:make vmtest and make guest-test, a real kernel and a real guest
qemu-storage-daemon:qemu-system-common:the QMP client against QEMU
strace:strace:system call checks
gcc:gcc:the race detector and the peer of the lease benchmark
ip:iproute2:failure injection on networks
mkfs.ext4:e2fsprogs:failure injection on disks
ipmi_sim:openipmi:IPMI power devices against a simulated BMC
ipmitool:ipmitool:fence_ipmilan against a simulated BMC
fence_ipmilan:fence-agents:power devices that are fence agents
'
[ "$what" = demo ] || judges="$judges$test_judges"
# The judges live in sbin, which is not on everybody's path.
PATH=$PATH:/usr/sbin:/sbin

# missing prints the line of every judge that is not there.
missing() {
    echo "$judges" | while IFS=: read -r prog pkg why; do
        [ -n "$prog" ] || continue
        command -v "$prog" >/dev/null 2>&1 || echo "$prog:$pkg:$why"
    done
    # The race detector links against the C library; its headers come in a package of their own.
    if [ "$what" = test ] && command -v gcc >/dev/null 2>&1 && [ ! -e /usr/include/stdlib.h ]; then
        echo "libc headers:libc6-dev:the race detector"
    fi
}

can_install() {
    [ "$(id -u)" = 0 ] && [ -e /etc/debian_version ] && command -v apt-get >/dev/null 2>&1
}

install_packages() {
    export DEBIAN_FRONTEND=noninteractive
    # A machine with a stale or unreachable mirror for one source can still have the packages: try in any case.
    apt-get update -qq >/dev/null 2>&1 || echo "judges: apt-get update failed, trying with the lists at hand" >&2
    # shellcheck disable=SC2086 # one word per package is what apt-get wants
    apt-get install -y -qq --no-install-recommends $1 >/dev/null
}

lost=$(missing)
[ -z "$lost" ] && exit 0

if can_install; then
    packages=$(echo "$lost" | cut -d: -f2 | sort -u | tr '\n' ' ')
    case "$packages" in *gcc*) packages="$packages libc6-dev" ;; esac
    echo "judges: installing $packages"
    install_packages "$packages" || echo "judges: apt-get could not install all of them" >&2
    lost=$(missing)
    [ -z "$lost" ] && exit 0
fi

echo "judges: not installed, these checks are left out:"
echo "$lost" | while IFS=: read -r prog pkg why; do
    echo "  $prog (Debian package $pkg): $why"
done
if [ "${CI:-}" = true ]; then
    echo "judges: CI=true, and a missing judge is a failure" >&2
    exit 1
fi
