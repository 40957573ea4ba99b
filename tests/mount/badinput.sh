#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# badinput.sh - what is not a good pool, and names that are none: one clear line, the
# right exit status, and nothing is harmed.
. "$(dirname "$0")/lib.sh"

# wrong TEXT WORDS COMMAND...: ends with 1, says WORDS in its only line.
wrong()
{
	local text=$1 words=$2 out status
	shift 2
	out=$("$@" 2>&1)
	status=$?
	same "$text: exit status" 1 $status
	[ "$(wc -l <<<"$out")" = 1 ] || fail "$text: not one line: $out"
	case $out in
	*"$words"*) ok "$text: $out" ;;
	*) fail "$text: expected \"$words\", got: $out" ;;
	esac
	is_mounted && fail "$text: it is mounted"
	return 0
}

# patch FIELD VALUE: change a field of the superblock and of its backup, with
# checksums that are right, as a newer version would write them.
patch()
{
	"$PYTHON" - "$P" "$@" <<'EOF' || fail "patch $*"
import ctypes, os, struct, sys
xxh3 = ctypes.CDLL("libxxhash.so.0").XXH3_64bits_withSeed
xxh3.restype = ctypes.c_uint64
xxh3.argtypes = ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64
path, field, value = sys.argv[1], sys.argv[2], int(sys.argv[3])
offset, form = {"version": (16, "<I"), "nr_blocks": (24, "<Q"),
                "ro_compat": (40, "<Q"), "incompat": (48, "<Q")}[field]
with open(path, "r+b") as pool:
    for at in 0, os.path.getsize(path) - 4096:
        pool.seek(at)
        block = bytearray(pool.read(4096))
        old = xxh3(bytes(block[8:]), 4088, 0)
        assert struct.unpack_from("<Q", block)[0] == old, "not as expected"
        struct.pack_into(form, block, offset, value)
        struct.pack_into("<Q", block, 0, xxh3(bytes(block[8:]), 4088, 0))
        pool.seek(at)
        pool.write(block)
EOF
}

# The pool has what it had.
unharmed()
{
	mount_pool
	same "$1: contents" "$want" "$(sum "$M/data")"
	same "$1: restore point" "$want" "$(sum "$M/.snap/good/data")"
	unmount_pool
}

make_pool 64M
mount_pool
head -c 5M /dev/urandom >"$M/data"
want=$(sum "$M/data")
mkdir "$M/.snap/good"
unmount_pool

# ---- files that are no pool -------------------------------------------------

head -c 8M /dev/urandom >noise
before=$(sum noise)
wrong "noise" "not a memsnapfs pool" mount.memsnapfs noise "$M"
same "noise is left alone" "$before" "$(sum noise)"
: >nothing
wrong "an empty file" "nothing" mount.memsnapfs nothing "$M"
echo short >few
wrong "a file of six bytes" "few" mount.memsnapfs few "$M"
mkdir dir
wrong "a directory" "dir" mount.memsnapfs dir "$M"
mkfifo fifo
wrong "a fifo" "fifo" timeout 20 mount.memsnapfs fifo "$M"
wrong "a character device" "/dev/null" mount.memsnapfs /dev/null "$M"
if [ "$(id -u)" != 0 ]; then
	: >secret
	chmod 0 secret
	wrong "no permission" "Permission denied" mount.memsnapfs secret "$M"
fi

# ---- pools of another version ------------------------------------------------

cp --sparse=always "$P" good.pool
patch version 2
before=$(sum "$P")
wrong "a newer format" "newer version" mount.memsnapfs "$P" "$M"
wrong "a newer format, read-only" "newer version" \
	mount.memsnapfs "$P" "$M" -o ro
wrong "mkfs over a newer format" "-f" mkfs.memsnapfs "$P"
same "a newer format is left alone" "$before" "$(sum "$P")"
patch version 1
unharmed "version 1 again"

patch incompat 8
wrong "an unknown feature" "newer version" mount.memsnapfs "$P" "$M"
patch incompat 0
patch ro_compat 8
wrong "a feature that allows reading only" "-o ro" mount.memsnapfs "$P" "$M"
mount_pool -o ro
same "read-only works then" "$want" "$(sum "$M/data")"
refuse "and nothing else" "Read-only file system" touch "$M/new"
unmount_pool
patch ro_compat 0
unharmed "features as they were"

# ---- damaged pools -----------------------------------------------------------

cp --sparse=always "$P" whole
truncate -s 30M "$P"
before=$(sum "$P")
wrong "a truncated pool" "truncated" mount.memsnapfs "$P" "$M"
same "a truncated pool is left alone" "$before" "$(sum "$P")"
cp --sparse=always whole "$P"
unharmed "the whole pool again"

dd if=/dev/urandom of="$P" bs=4096 count=1 conv=notrunc status=none
unharmed "a pool without its first block"
cp --sparse=always whole "$P"

dd if=/dev/urandom of="$P" bs=4096 seek=1 count=16 conv=notrunc status=none
wrong "a pool without root records" "$P" mount.memsnapfs "$P" "$M"
cp --sparse=always whole "$P"

dd if=/dev/urandom of="$P" bs=4096 count=1 conv=notrunc status=none
dd if=/dev/urandom of="$P" bs=4096 seek=$((64 * 256 - 1)) count=1 conv=notrunc \
	status=none
wrong "both superblocks gone" "$P" mount.memsnapfs "$P" "$M"
cp --sparse=always whole "$P"

# ---- in use --------------------------------------------------------------------

mkdir second
mount_pool
out=$(timeout 60 mount.memsnapfs "$P" second 2>&1)
same "mounted already: exit status" 1 $?
case $out in
*$'\n'*) fail "mounted already: not one line: $out" ;;
*"$P"*) ok "mounted already: $out" ;;
*) fail "mounted already: $out" ;;
esac
refuse "mkfs over a mounted pool" "in use" mkfs.memsnapfs -f "$P"
same "the first mount goes on" "$want" "$(sum "$M/data")"

# ---- names -----------------------------------------------------------------------

long=$(printf 'n%.0s' {1..201})
cd "$M" || exit 99
refuse "a restore point of 201 bytes" "File name too long" mkdir ".snap/$long"
check "one of 200 bytes" mkdir ".snap/${long:1}"
rmdir ".snap/${long:1}"
refuse "a file of 256 bytes" "File name too long" touch "$long${long:0:55}"
refuse "a symbolic link of 4096 bytes" "File name too long" \
	ln -s "$(printf 'l%.0s' {1..4096})" link
refuse "no such restore point: ls" "No such file" ls .snap/none
refuse "no such restore point: rmdir" "No such file" rmdir .snap/none
refuse "no such restore point: mv" "No such file" mv -T .snap/none .snap/some
refuse "no such restore point: rollback" "none" msnapfs rollback data@none
refuse "no such restore point: delete" "none" msnapfs delete "$M@none"
refuse "no such restore point: clone" "none" msnapfs clone data@none copy
refuse "the same name twice" "File exists" mkdir .snap/good
refuse "writing in a restore point" "Read-only file system" \
	touch .snap/good/new
refuse "removing from a restore point" "Read-only file system" \
	rm -f .snap/good/data
cd / || exit 99
unmount_pool
unharmed "at the end"
