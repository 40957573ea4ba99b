#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# scrub.sh - damage in the pool, made behind the daemon's back, is found, named, and
# stays what it is: an error for that block, and nothing else.
#
# In cached mode: there the daemon reads, and so verifies, what others read.

. "$(dirname "$0")/lib.sh"

# A file of $2 blocks, each unlike all others, called $1; salt $3.
make_file()
{
	"$PYTHON" - "$@" <<-'EOF_PY'
	import hashlib, sys
	name, nr, salt = sys.argv[1], int(sys.argv[2]), sys.argv[3]
	with open(name, "wb") as f:
	    for i in range(nr):
	        word = hashlib.sha256(b"%s %d" % (salt.encode(), i)).digest()
	        f.write(word * 128)
	EOF_PY
}

# Flip a bit of block $2 of the file made with salt $1, in the pool's file.
damage()
{
	"$PYTHON" - "$P" "$@" <<-'EOF_PY'
	import hashlib, mmap, sys
	pool, salt, i = sys.argv[1], sys.argv[2], int(sys.argv[3])
	word = hashlib.sha256(b"%s %d" % (salt.encode(), i)).digest()
	with open(pool, "r+b") as f:
	    mem = mmap.mmap(f.fileno(), 0)
	    at = mem.find(word * 128)
	    assert at > 0 and at % 4096 == 0, at
	    assert mem.find(word * 128, at + 4096) < 0
	    mem[at + 1000] ^= 1
	EOF_PY
}

quiet()
{
	"$@" >/dev/null
}

# A field of the status.
field()
{
	msnapfs scrub --status --json "$M" | "$PYTHON" -c \
		"import json, sys; print(json.load(sys.stdin)$1)"
}

wait_state()
{
	local i
	for ((i = 0; i < 500; i++)); do
		[ "$(field '["state"]')" != "$1" ] || return 0
		sleep 0.02
	done
	fail "the scrub is $(field '["state"]'), not $1"
}

make_pool 256M
mount_pool -o mode=cached
mkdir "$M/dir" "$M/dir/sub"
make_file "$M/dir/sub/one" 40 one
make_file "$M/two" 300 two
make_file "$M/good" 300 good
good=$(sum "$M/good")
mkdir "$M/.snap/before"
make_file "$M/two" 200 later
cp "$M/good" "$M/clone"
sync -f "$M"

same "none so far" none "$(field '["state"]')"
check "nothing is wrong" quiet msnapfs scrub --wait --rate 0 "$M"
same "it is finished" finished "$(field '["state"]')"
same "each block once" $(((40 + 300 + 300 + 200) * 4096)) "$(field '["data"]')"

# All was read, and so verified, in this mount.
cat "$M/dir/sub/one" "$M/two" "$M/.snap/before/two" >/dev/null
damage one 7
damage two 250
damage later 3
out=$(msnapfs scrub --wait "$M") && fail "damage was not reported: $out"
grep -qxF "Damaged: $M/dir/sub/one, offset $((7 * 4096))" <<<"$out" ||
	fail "path and offset: $out"
grep -qxF "Damaged: $M/two@before, offset $((250 * 4096))" <<<"$out" ||
	fail "restore point: $out"
grep -qxF "Damaged: $M/two, offset $((3 * 4096))" <<<"$out" ||
	fail "live file: $out"
ok "damage is named"
same "as JSON, too" "3 3 before 28672" "$(field '["damaged"]') $(
	field '["damage"].__len__()') $(
	field '["damage"][2]["restorepoint"]') $(
	field '["damage"][0]["offset"]')"
same "and after a new look" "$M/dir/sub/one" "$(field '["damage"][0]["path"]')"
check "the filesystem can be written" touch "$M/still"

unmount_pool
mount_pool -o mode=cached
same "the next mount knows it" "finished 3" \
	"$(field '["state"]') $(field '["damaged"]')"
refuse "reading it" "Input/output error" md5sum "$M/dir/sub/one"
refuse "reading it in the restore point" "Input/output error" \
	md5sum "$M/.snap/before/two"
check "the block before it" dd if="$M/dir/sub/one" of=/dev/null bs=4096 count=7 \
	status=none
same "other files" "$good" "$(sum "$M/good")"
same "clones of them" "$good" "$(sum "$M/clone")"
make_file "$M/dir/sub/one" 40 anew
check "what is written anew can be read" quiet cat "$M/dir/sub/one"
rm "$M/two"
rmdir "$M/.snap/before"
check "no damage is left" quiet msnapfs-scrub -w "$M"

# Slowly: 20 MB would take 20 s
dd if=/dev/urandom of="$M/big" bs=1M count=20 conv=fsync status=none
same "started" "Scrub of $M is running" \
	"$(msnapfs scrub --restart --rate 1 "$M" | cut -d, -f1)"
same "it runs" running "$(field '["state"]')"
refuse "not twice from the beginning" "a scrub is running" \
	msnapfs scrub --restart "$M"
check "cancelled" quiet msnapfs scrub --cancel "$M"
same "it stopped" stopped "$(field '["state"]')"
did=$(field '["data"]')
[ "$did" -lt $((20 << 20)) ] || fail "it was too fast: $did"
msnapfs scrub --rate 1024K "$M" >/dev/null || fail "go on"
same "it goes on" running "$(field '["state"]')"
begun=$(field '["begun"]')
unmount_pool
mount_pool -o mode=cached
wait_state stopped
[ "$(field '["data"]')" -ge "$did" ] || fail "it forgot where it was"
check "it goes on after a mount" quiet msnapfs scrub --wait --rate 0 "$M"
same "the same scrub" "$begun" "$(field '["begun"]')"
same "nothing twice" $(((300 + 40) * 4096 + (20 << 20))) "$(field '["data"]')"

# A cached write load beside it; what is written meanwhile is no damage
(
	for ((i = 0; i < 20; i++)); do
		make_file "$M/load$((i % 3))" 500 "load$i"
		mkdir "$M/.snap/l$i"
		[ "$i" -lt 3 ] || rmdir "$M/.snap/l$((i - 3))"
	done
) &
for ((i = 0; i < 10; i++)); do
	msnapfs scrub --restart --wait --rate 0 "$M" >/dev/null ||
		fail "damage under load: $(msnapfs scrub -s "$M")"
done
wait
ok "no damage under load"

# Damaged metadata: the file's tree node
mkdir "$M/frag"
"$PYTHON" - "$M/frag/f" <<'EOF'
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
for i in range(2000):
    os.pwrite(fd, b"x" * 4096, i * 8192)
os.fsync(fd)
EOF
ino=$(stat -c %i "$M/frag/f")
"$PYTHON" - "$P" "$ino" <<'EOF' || fail "no node found"
# The youngest leaf of this inode's extents that is not the first
import mmap, struct, sys
ino = int(sys.argv[2])
with open(sys.argv[1], "r+b") as f:
    mem = mmap.mmap(f.fileno(), 0)
    best = (0, 0)
    for at in range(0, len(mem), 4096):
        magic, kind, level, nr, blk, gen, owner = struct.unpack_from(
            "<IBBHQQQ", mem, at + 8)
        if (magic, kind, level, owner) == (0x444f4e4d, 2, 0, ino):
            key = struct.unpack_from("<Q", mem, at + 48)[0]
            if key > 1000:
                best = max(best, (gen, at))
    assert best[1]
    mem[best[1] + 3000] ^= 1
EOF
out=$(msnapfs scrub --restart --wait --rate 0 "$M") && fail "metadata: $out"
grep -q "^Damaged: $M/frag/f, metadata, contents from offset [1-9]" <<<"$out" ||
	fail "metadata: $out"
ok "damaged metadata are named"
refuse "read-only from then on" "Read-only" touch "$M/no"
same "other files" "$good" "$(sum "$M/good")"

refuse "not on a mount" "not on a memsnapfs" msnapfs scrub /
refuse "a rate" "no such rate" msnapfs scrub --rate fast "$M"
refuse "options that exclude each other" "exclude" msnapfs scrub -s -c "$M"
unmount_pool

if [ "$(id -u)" = 0 ]; then
	make_pool 64M
	mount_pool -o allow_other
	chmod 755 "$MSNAP_TMP"
	cp "$(command -v msnapfs)" tool
	nobody()
	{
		setpriv --reuid=65534 --regid=65534 --clear-groups ./tool "$@"
	}
	refuse "not for others" "only root" nobody scrub "$M"
	refuse "nor to cancel" "only root" nobody scrub --cancel "$M"
	check "the status is" quiet nobody scrub --status "$M"
	unmount_pool
fi
