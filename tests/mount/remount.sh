#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# remount.sh - what was there is there again: after umount, after a kill, by way
# of fstab options; and what is wrong is told in one line.
. "$(dirname "$0")/lib.sh"

one_line()
{
	local text=$1 want=$2 words=$3 out status
	shift 3
	out=$("$@" 2>&1)
	status=$?
	same "$text: status" "$want" "$status"
	same "$text: one line" 1 "$(printf '%s\n' "$out" | wc -l)"
	case $out in
	"mount.memsnapfs: "*"$words"*) ok "$text: $out" ;;
	*) fail "$text: $out" ;;
	esac
}

make_pool
mount_pool -o mode=auto
mkdir "$M/d"
head -c 10M /dev/urandom >"$M/d/data"
echo text >"$M/d/text"
mkdir "$M/.snap/s"
echo changed >"$M/d/text"
want=$(sum "$M/d/data")
unmount_pool

# At once, while the last daemon may still be saving
for i in 1 2 3 4 5; do
	mount_pool
	same "mount $i" "$want" "$(sum "$M/d/data")"
	echo "$i" >"$M/count"
	umount "$M" || fail "umount"
done
mount_pool
same "the last count" 5 "$(cat "$M/count")"
same "changed" changed "$(cat "$M/d/text")"
same "in the restore point" text "$(cat "$M/.snap/s/d/text")"

one_line "mounted already" 1 "$P" timeout 60 mount.memsnapfs "$P" "$MSNAP_TMP"

# Killed: what was synced is there
echo synced >"$M/synced"
sync "$M/synced"
seq 1000 >"$M/after"
kill -9 "$(daemon)"
wait_gone
umount "$M"
mount_pool
same "after a kill" synced "$(cat "$M/synced")"
same "data after a kill" "$want" "$(sum "$M/d/data")"
same "restore point after a kill" text "$(cat "$M/.snap/s/d/text")"

# Ended by a signal: like umount
"$PYTHON" - <<'EOF' || fail "SIGTERM"
import mmap, os
m = os.environ["M"]
fd = os.open(m + "/mapped", os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 1 << 20)
mem = mmap.mmap(fd, 1 << 20)
mem[500_000:500_005] = b"store"
os.kill(int(os.popen("pgrep -f 'mount.memsnapfs %s' | head -n 1" %
                     os.environ["P"]).read()), 15)
while any(" %s fuse" % m in line for line in open("/proc/self/mounts")):
    pass
os._exit(0)
EOF
wait_gone
mount_pool
same "SIGTERM keeps what was stored" store \
	"$(dd if="$M/mapped" bs=1 skip=500000 count=5 status=none)"
unmount_pool

# As mount(8) calls it, with what fstab lines have
mount_pool -o rw,noatime,nofail,x-systemd.automount,commit=1,mode=cached,nosuid
same "fstab options" changed "$(cat "$M/d/text")"
unmount_pool
if [ "$(id -u)" = 0 ]; then
	same "mount -t memsnapfs" changed "$(bash "$tests/with-helper" sh -c \
		'mount -t memsnapfs "$P" "$M" -o mode=cached && cat "$M/d/text" && umount "$M"')"
	wait_gone
	echo "$P $M memsnapfs noauto,ro,nofail,x-test=1 0 0" >fstab
	same "an fstab line" "Read-only: yes" "$(bash "$tests/with-helper" sh -c \
		'mount --fstab fstab "$M" && msnapfs info "$M" && umount "$M"' |
		sed -n 's/^Read-only: */Read-only: /p')"
	wait_gone
fi

# In the foreground
mount.memsnapfs "$P" "$M" -f 2>log &
wait_mounted
same "-f" changed "$(cat "$M/d/text")"
umount "$M"
wait $! || fail "-f: exit status"
ok "-f ends with umount"
mount.memsnapfs "$P" "$M" -d 2>log &
wait_mounted
same "-d" changed "$(cat "$M/d/text")"
umount "$M"
wait $! || fail "-d: exit status"
check "-d prints the requests" grep -q "opcode: LOOKUP" log

# What is wrong
one_line "no arguments" 2 "a pool and a directory" mount.memsnapfs
one_line "unknown option" 2 "no_such" mount.memsnapfs "$P" "$M" -o no_such
one_line "unknown flag" 2 "-Z" mount.memsnapfs "$P" "$M" -Z
one_line "no such mode" 2 "auto, direct or cached" mount.memsnapfs "$P" "$M" -o mode=fast
one_line "bad commit" 2 "seconds" mount.memsnapfs "$P" "$M" -o commit=often
one_line "no pool" 1 "No such file" mount.memsnapfs "$P.no" "$M"
one_line "no directory" 1 "No such file" mount.memsnapfs "$P" "$M.no"
head -c 8M /dev/zero >zeros
one_line "not a pool" 1 "mkfs.memsnapfs" mount.memsnapfs zeros "$M"
head -c 100M "$P" >short
one_line "a truncated pool" 1 "short" mount.memsnapfs short "$M"
: >file
one_line "not a directory" 1 "file: Not a directory" mount.memsnapfs "$P" file
same "--version" "mount.memsnapfs" "$(mount.memsnapfs --version | cut -d' ' -f1)"
mount.memsnapfs --help | grep -q '^Usage: mount.memsnapfs' || fail "--help"
ok "--help"
