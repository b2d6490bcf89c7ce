#!/bin/busybox sh
# The guest's first process: mounts, modules, the script, its status, the end.
/bin/busybox mkdir -p /bin /sbin /proc /sys /dev /run/lock /tmp /etc
/bin/busybox --install -s /bin
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/ LC_ALL=C
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
ln -sf /proc/self/fd /dev/fd
token=$(sed -n 's/.*vmtest\.token=\([0-9a-f]*\).*/\1/p' /proc/cmdline)
status=127
ok=1
while read -r module; do
    insmod "/modules/$module" || { echo "vmtest: module $module does not load"; ok=0; }
done </modules.order
if [ "$ok" = 1 ]; then
    sh /script
    status=$?
fi
sync
echo "vmtest $token exit $status"
poweroff -f
