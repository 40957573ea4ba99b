#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# blockdev.sh - a pool on a block device, here a loop device without DAX: mkfs makes
# an XFS with the pool in it, which only the daemon sees, and mount(8) mounts it.

if [ "$(id -u)" != 0 ]; then
	echo "skipped: only root can mount a block device"
	exit 77
fi
if [ -z "${MSNAP_OWN_SBIN:-}" ]; then
	[ -z "${MSNAP_BUILD:-}" ] || PATH=$(cd "$MSNAP_BUILD" && pwd):$PATH
	export MSNAP_OWN_SBIN=yes PATH
	exec bash "$(dirname "$0")/with-helper" bash "$0"
fi
. "$(dirname "$0")/lib.sh"

# The shell's descriptor keeps the device until the end of the test, however it ends.
image=$MSNAP_TMP/image
truncate -s 1G "$image"
if ! P=$(losetup --find --show "$image"); then
	echo "skipped: there are no loop devices"
	exit 77
fi
exec 7<"$P"
losetup -d "$P"
xfs=/sys/fs/xfs/${P##*/}

# The daemon has ended, and its mount with it.
device_is_free()
{
	local i
	for ((i = 0; i < 500; i++)); do
		[ -e "$xfs" ] || return 0
		sleep 0.02
	done
	return 1
}

# one_line STATUS TEXT WORDS COMMAND...
one_line()
{
	local want=$1 text=$2 words=$3 out status
	shift 3
	out=$("$@" 2>&1)
	status=$?
	same "$text: exit status" "$want" "$status"
	same "$text: one line" 1 "$(wc -l <<<"$out")"
	case $out in
	*"$P: "*"$words"*) ok "$text: $out" ;;
	*) fail "$text: expected \"$words\", got: $out" ;;
	esac
}

# ---- making it ----------------------------------------------------------------

one_line 1 "nothing on it yet" "not a memsnapfs pool" mount.memsnapfs "$P" "$M"
mkfs.ext4 -q -F "$P" || fail "mkfs.ext4"
before=$(sum "$P")
one_line 1 "another filesystem" "holds ext4; -f overwrites it" mkfs.memsnapfs "$P"
one_line 1 "mount of another filesystem" "not a memsnapfs pool" \
	mount.memsnapfs "$P" "$M"
one_line 1 "-f, larger than the device" "smaller than the size" \
	mkfs.memsnapfs -f -s 2G "$P"
one_line 1 "-f, too small" "at least 4 MiB" mkfs.memsnapfs -f -s 1M "$P"
same "it is left alone" "$before" "$(sum "$P")"
mount "$P" "$M" || fail "mount of ext4"
one_line 1 "-f, mounted" "is mounted or in use" mkfs.memsnapfs -f "$P"
umount "$M"
same "mkfs -f" "$P: a pool on a device of 1G, labelled 'block'; mount it with: mount.memsnapfs $P DIR" \
	"$(mkfs.memsnapfs -f -L block "$P")"
one_line 1 "a pool" "is a memsnapfs pool already; -f" mkfs.memsnapfs "$P"

mkdir xfs
mount -t xfs -o ro "$P" xfs || fail "there is no XFS"
xfs_info xfs >geometry # to its end: it keeps the filesystem busy
check "it can share blocks" grep -q "reflink=1" geometry
check "in stripes of 2 MiB" grep -q "sunit=512 " geometry
same "the pool is root's" "pool 600 0" "$(cd xfs && stat -c '%n %a %u' ./* | sed 's,./,,')"
umount xfs
device_is_free || fail "the device is still in use"

# ---- mounted ------------------------------------------------------------------

mount -t memsnapfs "$P" "$M" || fail "mount -t memsnapfs"
check "mount -t memsnapfs" is_mounted
info=$(msnapfs info "$M")
for line in "Pool: $P" "Mode: direct" "Label: block"; do
	check "info: $line" grep -Eqx "${line/: /: +}" <<<"$info"
done

# Nobody else sees the XFS: it is in no table of mounts, and behind a descriptor that
# other users cannot follow.
check "the XFS is mounted" test -e "$xfs"
same "it is in nobody's mounts" "" \
	"$(cat /proc/[0-9]*/mountinfo 2>/dev/null | grep -F " - xfs $P ")"
fd=$(find "/proc/$(daemon)/fd" -lname '/pool' | head -n 1)
check "the daemon has the pool open" test -n "$fd"
refuse "users cannot get at it" "denied" setpriv --reuid=65534 --regid=65534 \
	--clear-groups head -c 1 "$fd"
one_line 1 "mkfs -f of what is mounted" "is mounted or in use" \
	mkfs.memsnapfs -f "$P"

head -c 20M /dev/urandom >"$M/file"
mkdir "$M/.snap/first"
"$PYTHON" - <<'EOF' || fail "mapped"
import mmap, os
fd = os.open(os.environ["M"] + "/file", os.O_RDWR)
with mmap.mmap(fd, 0) as mem:
    mem[5_000_000:5_000_005] = b"store"
EOF
cp --sparse=never "$M/.snap/first/file" first
cp --sparse=never "$M/file" file
same "a store" store "$(dd if=file bs=1 skip=5000000 count=5 status=none)"
refuse "the restore point is without it" differ cmp first file
msnapfs clone "$M/file" "$M/clone" || fail "clone"
umount "$M"
check "umount gives the device back" device_is_free
wait_gone

# At once again, also for reading only: an XFS that is mounted cannot change that.
for opts in rw ro rw ro; do
	mount -t memsnapfs "$P" "$M" -o $opts || fail "mount -o $opts"
	check "-o $opts: contents" cmp "$M/file" file
	umount "$M"
done
check "fsck" fsck.memsnapfs -n "$P"

# ---- killed -------------------------------------------------------------------

mount -t memsnapfs "$P" "$M" || fail "mount"
check "clone" cmp "$M/clone" file
mkfifo ask told
"$PYTHON" - <<'EOF' 7<&- &
import mmap, os
fd = os.open(os.environ["M"] + "/file", os.O_RDWR)
mem = mmap.mmap(fd, 0)
mem[6_000_000:6_000_006] = b"before"
with open("told", "w") as told:
    told.write("stored\n")
open("ask").read()
mem[7_000_000:7_000_005] = b"after"
with open("told", "w") as told:
    told.write("stored\n")
open("ask").read()
EOF
writer=$!
same "a writer" stored "$(cat told)"
kill -9 "$(daemon)"
wait_gone
: >ask
same "it can store after the daemon was killed" stored "$(cat told)"
umount -l "$M"
mount -t memsnapfs "$P" "$M" || fail "mount after a kill"
for at in 6000000:before 7000000:after; do
	same "stored $at" "${at#*:}" "$(dd if="$M/file" bs=1 skip="${at%:*}" \
		count=$((${#at} - 8)) status=none)"
done
check "the clone" cmp "$M/clone" file
check "the restore point" cmp "$M/.snap/first/file" first
same "mode after a kill" direct "$(msnapfs info --json "$M" |
	sed -n 's/^  "mode": "\(.*\)",/\1/p')"
: >ask
wait "$writer" || fail "the writer"
unmount_pool
check "it is free after a kill" device_is_free
check "fsck after a kill" fsck.memsnapfs -n "$P"

# ---- made anew ----------------------------------------------------------------

mkfs.memsnapfs -q -f -s 600M "$P" || fail "mkfs -f -s"
mount_pool
same "it is empty" "" "$(ls -A "$M")"
check "the size asked for" grep -Eqx "Size: +600M" <<<"$(msnapfs info "$M")"
unmount_pool
