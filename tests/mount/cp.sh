#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# cp.sh - copies inside the mount, made by ordinary programs, copy no data.
. "$(dirname "$0")/lib.sh"

used()
{
	sync -f "$M"
	msnapfs info --json "$M" | "$PYTHON" -c \
		'import json, sys; print(json.load(sys.stdin)["used"])'
}

# shares TEXT COMMAND...: takes less than LIMIT bytes, whatever it copies.
limit=$((200 << 10))
shares()
{
	local text=$1 before grown
	shift
	before=$(used)
	"$@" || fail "$text: $*"
	grown=$(($(used) - before))
	[ $grown -lt $limit ] || fail "$text: the pool grew by $grown bytes"
	ok "$text: $grown bytes"
}

# shutil.copyfile uses copy_file_range or sendfile, as its version has it: only the
# first can share.  The first line says which.
how=$("$PYTHON" -c '
import shutil
print("yes" if hasattr(shutil, "_fastcopy_copy_file_range") else "no")')

make_pool 512M
mount_pool
cd "$M" || exit 99
head -c 100M /dev/urandom >big
printf end >>big
want=$(sum big)

version=$(cp --version | sed -n '1s/.* //p')
if [ "${version%%.*}" -ge 9 ]; then
	shares "cp" cp big one
	same "cp: contents" "$want" "$(sum one)"
	shares "cp -a" cp -a big two
	same "cp -a: times" "$(stat -c %y big)" "$(stat -c %y two)"
	mkdir dir
	cp big dir/a
	cp big dir/b
	shares "cp -r" cp -r dir dir2
	same "cp -r: contents" "$want" "$(sum dir2/b)"
	shares "cp over a file" cp big one
	mkdir .snap/point
	rm -f big
	shares "cp out of a restore point" cp .snap/point/big big
	same "cp out of a restore point: contents" "$want" "$(sum big)"
else
	echo "cp $version does not use copy_file_range"
fi

shares "copy_file_range" "$PYTHON" -c '
import os
src = os.open("big", os.O_RDONLY)
dst = os.open("four", os.O_WRONLY | os.O_CREAT)
left = os.fstat(src).st_size
while left:
    left -= os.copy_file_range(src, dst, left)
'
same "copy_file_range: contents" "$want" "$(sum four)"
[ "$how" = yes ] || limit=$((200 << 20))
shares "shutil.copyfile" "$PYTHON" -c '
import shutil
shutil.copyfile("big", "five")'
same "shutil.copyfile: contents" "$want" "$(sum five)"
limit=$((200 << 10))

# They are files of their own
printf changed | dd of=four conv=notrunc bs=1 seek=50000000 status=none
same "the original is what it was" "$want" "$(sum big)"
printf changed | dd of=big conv=notrunc bs=1 seek=50000000 status=none
cmp big four || fail "the copy, changed alike, differs"
printf again | dd of=big conv=notrunc bs=1 seek=1000 status=none
refuse "and the copy what it was made" differ cmp big four

# Blocks that are not yet in the pool come along
"$PYTHON" - <<'EOF' || fail "a mapping that is not written back"
import mmap, os, subprocess
with open("mapped", "w+b") as f:
    f.truncate(8 << 20)
    mem = mmap.mmap(f.fileno(), 8 << 20)
    mem[5_000_000:5_000_006] = b"stored"
    subprocess.run(["cp", "mapped", "mapped2"], check=True)
    mem[5_000_000:5_000_006] = b"later!"
with open("mapped2", "rb") as f:
    f.seek(5_000_000)
    assert f.read(6) == b"stored"
EOF
ok "stores in a mapping are in the copy"

# Deleting all of them gives the space back
cd / || exit 99
rm -rf "${M:?}"/*
rmdir "$M/.snap/point"
for ((i = 0; i < 100 && $(used) > 1 << 20; i++)); do
	sleep 0.1
done
[ "$(used)" -lt $((1 << 20)) ] || fail "$(used) bytes are still used"
ok "nothing is left"
unmount_pool
