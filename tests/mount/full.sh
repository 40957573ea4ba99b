#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# full.sh - a full pool: ENOSPC for the writer, no harm to anything else, and room
# again after a deletion.
. "$(dirname "$0")/lib.sh"

free_space()
{
	msnapfs info --json "$M" | "$PYTHON" -c \
		'import json, sys; print(json.load(sys.stdin)["free"])'
}

# Deleting goes on in the background.
wait_free()
{
	local i

	for ((i = 0; i < 200; i++)); do
		sync -f "$M"
		[ "$(free_space)" -lt "$1" ] || return 0
		sleep 0.1
	done
	fail "$(free_space) bytes are free, not $1"
}

fill()
{
	refuse "$1" "No space left" dd if=/dev/zero of="$2" bs=1M status=none
}

make_pool 64M
mount_pool
cd "$M" || exit 99
empty=$(free_space)
head -c 10M /dev/urandom >keep
want=$(sum keep)
mkdir .snap/point
mkdir dir
echo text >dir/file

# ---- writes --------------------------------------------------------------------

fill "write(2)" filler
sync -f .
same "nothing else is harmed" "$want" "$(sum keep)"
same "the restore point, too" "$want" "$(sum .snap/point/keep)"
same "small files" text "$(cat dir/file)"
before=$(stat -c %s filler)
refuse "more of it" "No space left" \
	dd if=/dev/zero of=filler bs=1M count=50 oflag=append conv=notrunc,fsync
[ "$(stat -c %s filler)" -ge "$before" ] || fail "the file has become shorter"
refuse "fallocate" "No space left" fallocate -l 40M reserved
check "looking at things" ls -lR . .snap/point

# Overwriting needs room as well, as what is there is never written over
refuse "overwriting what a restore point shares" "No space left" \
	dd if=/dev/urandom of=keep bs=1M count=10 conv=notrunc,fsync
same "the restore point is what it was" "$want" "$(sum .snap/point/keep)"

# ---- deleting works and gives the space back -----------------------------------

check "rm" rm filler
wait_free $((20 << 20))
ok "there is room again"
check "room for a new file" cp keep new
check "in truth" dd if=/dev/urandom of=new bs=1M count=10 conv=notrunc,fsync \
	status=none
rm new keep
rm -f reserved

# ---- many small files, until there is no room for a name -----------------------

refuse "directory entries" "No space left" "$PYTHON" -c '
import os, sys
os.mkdir("many")
try:
    for n in range(10**6):
        with open("many/%06d" % n, "wb") as f:
            f.write(b"x" * 3000)
except OSError as error:
    sys.exit(error.strerror)'
same "old files" text "$(cat dir/file)"
check "all names are whole" "$PYTHON" -c '
import os
for entry in os.scandir("many"):
    assert entry.stat().st_size in (0, 3000), entry.name'
check "rm -r" rm -r many

# ---- a full pool of restore points -----------------------------------------------

full=
for ((i = 0; i < 100; i++)); do
	if ! dd if=/dev/urandom of=changing bs=1M count=5 conv=fsync status=none \
		2>err || ! mkdir ".snap/s$i" 2>err; then
		full=yes
		break
	fi
done
same "restore points fill it" yes "$full"
grep -q "No space left" err || fail "$(cat err)"
ok "with ENOSPC"
check "deleting them works" rmdir .snap/s*
rm -f changing
rmdir .snap/point
wait_free $((empty - (2 << 20)))
ok "everything is free again"

# ---- through a mapping -----------------------------------------------------------

# There is nobody to tell at the store itself: fsync does.  (In direct mode the stores
# are in a file of the host until the mapping's file is closed.)
cd / || exit 99
unmount_pool
mount_pool -o mode=cached
cd "$M" || exit 99
"$PYTHON" - <<'EOF' || fail "a mapping"
import errno, mmap, os
fd = os.open("mapped", os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 200 << 20)
mem = mmap.mmap(fd, 200 << 20)
for at in range(0, 200 << 20, 4096):
    mem[at] = 1
try:
    mem.flush()
    os.fsync(fd)
except OSError as error:
    assert error.errno in (errno.ENOSPC, errno.EIO), error
else:
    assert False, "200 MiB fit into 64"
os._exit(0)
EOF
ok "msync says so"
same "others are not harmed" text "$(cat dir/file)"
check "and it can be deleted" rm mapped
check "what was lost with it is not missed" mkdir .snap/without
rmdir .snap/without

# Nobody asks: then a restore point is not taken as if all were in it.
"$PYTHON" - <<'EOF' || fail "a mapping that nobody syncs"
import mmap, os, time
fd = os.open("mapped", os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 200 << 20)
mem = mmap.mmap(fd, 200 << 20)
for at in range(0, 200 << 20, 4096):
    mem[at] = 1
os.sync()
os._exit(0)
EOF
refuse "a restore point without all stores" "No space left" mkdir .snap/lost
same "is not there" "" "$(ls .snap)"
check "it is said once" mkdir .snap/lost
rmdir .snap/lost
rm mapped
wait_free $((empty - (2 << 20)))
ok "everything is free again"

cd / || exit 99
unmount_pool
mount_pool
same "after a remount" text "$(cat "$M/dir/file")"
check "there is room" dd if=/dev/urandom of="$M/last" bs=1M count=40 conv=fsync \
	status=none
unmount_pool
